"""Progress is drawn where a person sees it, and nowhere else."""

import io
import sys
import types
from collections.abc import Iterator

import pytest

from tandem import progress
from tandem.progress import MANY, Progress, track


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def terminal_for(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Not a fixture: pytest sets standard error anew between a fixture and its test."""
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(progress, "_DELAY_S", 0)
    return stream


def test_a_terminal_shows_what_is_long(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = terminal_for(monkeypatch)
    assert list(track(range(MANY), label="images", unit="image")) == list(range(MANY))
    assert "images: 100%" in terminal.getvalue()
    assert f"{MANY}/{MANY}" in terminal.getvalue()


def test_few_items_are_quiet_and_an_unknown_number_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = terminal_for(monkeypatch)
    list(track(range(MANY - 1)))
    assert terminal.getvalue() == ""
    list(track(iter(range(3))))
    assert "3 items" in terminal.getvalue()


def test_quiet_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = terminal_for(monkeypatch)
    list(track(range(1000), show=False))
    assert terminal.getvalue() == ""


def test_elsewhere_only_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    list(track(range(1000)))
    assert stream.getvalue() == ""
    with Progress(3, show=True) as shown:
        shown.advance(2)
    assert "2/3" in stream.getvalue()


@pytest.mark.parametrize("stream", [None, "closed"])
def test_without_standard_error(monkeypatch: pytest.MonkeyPatch, stream: str | None) -> None:
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stderr", None if stream is None else closed)
    assert not progress.is_watched()


def test_a_notebook_is_distinguished_from_a_console(monkeypatch: pytest.MonkeyPatch) -> None:
    shell = types.SimpleNamespace(kernel=None)
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))  # type: ignore[arg-type]
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert not progress.is_watched()
    shell.kernel = object()
    assert progress.is_watched()


def test_a_bar_ends_with_the_work_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = terminal_for(monkeypatch)

    def items() -> Iterator[int]:
        yield 1
        raise ValueError("late")

    with pytest.raises(ValueError, match="late"):
        list(track(items()))
    assert terminal.getvalue().endswith("\n")
