"""Standard output as people have it: closed, cut short, or in an encoding that cannot spell every letter."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import toy
from support.commands import run_in_terminal, run_with_errors_in_terminal

from tandem.cli import progress, terminal
from tandem.errors import TandemError


def _shell(script: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    tandem = f"{sys.executable} -m tandem"
    return subprocess.run(
        ["bash", "-c", script.replace("TANDEM", tandem)],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )


@pytest.mark.slow
def test_characters_that_the_terminal_cannot_encode_are_escaped(tmp_path: Path) -> None:
    photo, model = toy.write_images(tmp_path, 1)[0], toy.folder(tmp_path / "model")
    done = _shell(f"TANDEM classify {photo} --labels 猫,b --model {model}", PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert "\\u732b" in done.stdout


@pytest.mark.slow
def test_a_closed_standard_output_is_no_crash(tmp_path: Path) -> None:
    photo, model = toy.write_images(tmp_path, 1)[0], toy.folder(tmp_path / "model")
    done = _shell(f"TANDEM classify {photo} --labels a,b --model {model} >&-")
    assert "Traceback" not in done.stderr
    assert done.returncode == 0


@pytest.mark.slow
def test_a_table_whose_reader_left_says_so_as_shells_do() -> None:
    done = _shell("TANDEM models | true; exit ${PIPESTATUS[0]}")
    assert done.stderr == ""
    assert done.returncode in (0, 141)  # 0 when all was written before the reader left


@pytest.mark.parametrize(
    "command",
    [
        "classify {photos} --top 2",
        pytest.param("label {collection} --by image --top 2", marks=pytest.mark.slow),
    ],
)
@pytest.mark.slow
def test_results_stay_on_standard_output_though_errors_are_in_a_terminal(
    command: str, made_collection: Path, model_folder: str, tmp_path: Path
) -> None:
    photos, out = made_collection.parent / "photos", tmp_path / "out.txt"
    line = f"TANDEM {command.format(photos=photos, collection=made_collection)} --labels a,b --model {model_folder}"
    whole = run_with_errors_in_terminal(line)
    assert whole.code == 0
    assert [len(row.split("\t")) for row in whole.out.splitlines()] == [3] * 16
    assert "\t" not in whole.err
    assert "0/8" not in whole.err  # the rows may arrive in the same terminal: no bar between them
    assert run_with_errors_in_terminal(f"{line} | head -4").out.splitlines() == whole.out.splitlines()[:4]
    to_file = run_with_errors_in_terminal(f"{line} > {out}")
    assert out.read_text() == whole.out
    assert "8/8" in to_file.err


def test_work_of_unknown_length_has_no_count() -> None:
    script = "from tandem.cli.progress import counting\nwith counting('finding clusters', None): pass"
    done = run_in_terminal("-c", script, columns=80, program=[sys.executable])
    assert "finding clusters" in done.out
    assert "?" not in done.out


def test_what_commands_a_terminal_or_turns_its_text_round_is_spelled_out() -> None:
    assert terminal.line("a\x1b[31m\n\x85b") == "a\\x1b[31m\\n\\x85b"
    assert terminal.line("\u2028\u202egnp\u202c\u2066x\u2069") == r"\u2028\u202egnp\u202c\u2066x\u2069"
    assert terminal.line("déjà 猫 [old]") == "déjà 猫 [old]"


class _Stream(io.StringIO):
    def __init__(self, text: str, watched: bool) -> None:
        super().__init__(text)
        self.watched = watched

    def isatty(self) -> bool:
        return self.watched


@pytest.mark.parametrize(
    ("answer", "asks", "shows", "message"),
    [
        ("y\n", True, True, None),
        ("YES\n", True, True, None),
        ("n\n", True, True, "nothing was changed"),
        ("", True, True, "nothing was changed"),
        ("y\n", True, False, "sure\\? Add --yes"),  # nobody would see the question
        ("y\n", False, True, "sure\\? Add --yes"),  # what is piped in is no answer
    ],
)
def test_confirmation_is_requested_in_a_terminal_only(
    monkeypatch: pytest.MonkeyPatch, answer: str, asks: bool, shows: bool, message: str | None
) -> None:
    monkeypatch.setattr(sys, "stdin", _Stream(answer, asks))
    monkeypatch.setattr(sys, "stderr", _Stream("", shows))
    if message is None:
        terminal.confirm("sure?", yes=False)
    else:
        with pytest.raises(TandemError, match=message):
            terminal.confirm("sure?", yes=False)
    terminal.confirm("sure?", yes=True)


@pytest.mark.parametrize("code", [*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x2028, 0x2029, 0x1B, 0x7F, 0x9B])
def test_every_letter_that_turns_or_moves_text_is_escaped(code: int) -> None:
    """A name must not change how the rest of a line reads, in whichever direction."""
    shown = terminal.line(f"a{chr(code)}b")
    assert chr(code) not in shown
    assert shown in (f"a\\u{code:04x}b", f"a\\x{code:02x}b")


def test_notes_stand_above_what_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = io.StringIO()
    monkeypatch.setattr(sys, "stderr", seen)
    monkeypatch.setattr(seen, "isatty", lambda: True, raising=False)
    with progress.waiting("searching"):
        terminal.complain("warning: odd")
    terminal.complain("done")
    erased = "\r\x1b[K"
    assert seen.getvalue() == f"{erased}searching ...{erased}tandem: warning: odd\nsearching ...{erased}tandem: done\n"
