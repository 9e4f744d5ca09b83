"""What commands compare, show and count, at the edges: equal rows, narrow terminals, a second request to stop."""

import io
import signal
import sys

import numpy as np
import pytest
from rich.cells import cell_len

from tandem.cli import comparing, progress
from tandem.cli.classify_view import LEAST_CELLS, photo_in_full
from tandem.cli.commands import models, train


def test_equal_rows_have_a_cosine_of_one_and_others_their_own() -> None:
    """A column that is equal in all rows makes no row equal."""
    a, b = np.array([[1, 2], [1, 3]], np.float32), np.array([[1, 5], [1, 3]], np.float32)
    assert comparing.least_cosine(a, b) == pytest.approx(11 / (5 * 26) ** 0.5)
    assert comparing.least_cosine(a, a) == 1.0
    third = np.full((1, 3), 1 / 3, np.float32)  # whose cosine with itself float64 does not make exactly 1
    assert comparing.least_cosine(third, third) == 1.0
    assert comparing.least_cosine(a, -a) == pytest.approx(-1)


@pytest.mark.parametrize("width", [*range(LEAST_CELLS + 14, 60, 7), 80, 120])
@pytest.mark.parametrize("label", ["a", "a label that is long enough to be cut in most terminals", "猫の写真"])
def test_bars_stay_within_the_terminal(width: int, label: str) -> None:
    shown = photo_in_full("photo.jpg", [(label, 1.0), ("b", 0.0)], [label, "b"], width=width, bar_width=200)
    lines = shown.plain.splitlines()
    assert len(lines) == 3
    assert max(map(cell_len, lines)) == width  # as long as there is room, and no longer
    assert lines[1].endswith("100.0%")


def test_rows_are_beside_a_bar_where_standard_output_is_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert progress.beside_rows() is False
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert progress.beside_rows() is True


def test_columns_of_models_leave_one_after_another() -> None:
    left = [column.drop for column in models.COLUMNS if column.drop]
    assert len(set(left)) == len(left)


def test_a_second_request_to_stop_interrupts(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(train.terminal, "complain_in_handler", said.append)
    with train._stop_requests() as received:
        ask = signal.getsignal(signal.SIGTERM)
        assert callable(ask)
        ask(signal.SIGTERM, None)
        assert received == [signal.SIGTERM]
        assert len(said) == 1
        with pytest.raises(KeyboardInterrupt):
            ask(signal.SIGTERM, None)
        monkeypatch.setattr(train.os, "getpid", lambda: -1)  # a process that prepares batches
        ask(signal.SIGTERM, None)
        assert received == [signal.SIGTERM]
