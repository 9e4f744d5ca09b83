"""Names, notes and errors of others on a terminal: shown, never executed, whatever command prints them."""

import ast
import contextlib
import json
import logging
import sys
import warnings
from pathlib import Path

import pytest
from support import toy

import tandem.cli
from tandem.cli import main, terminal
from tandem.errors import TandemError
from tandem.plain_line import plain_json, plain_line, plain_lines

COMMANDS_FILES = Path(tandem.cli.__file__).parent
EVIL = "a\x1b]0;owned\x07\x9b31m\u202egnp\u200e\u2066b\U000e0041\x7f"
OBEYED = "\x1b\x07\x9b\u202e\u200e\u2066\U000e0041\x7f"
# Drawing a line again: constants, and numbers.
DRAWS = {"terminal.py", "progress.py", "guidance_view.py"}


def test_all_that_commands_print_goes_through_one_file() -> None:
    found = set()
    for path in COMMANDS_FILES.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                called = node.func
                is_print = isinstance(called, ast.Name) and called.id == "print"
                writes = isinstance(called, ast.Attribute) and called.attr == "write"
                to = called.value.attr if writes and isinstance(called.value, ast.Attribute) else ""  # type: ignore[attr-defined]
                if is_print or to in ("stdout", "stderr"):
                    found.add(path.relative_to(COMMANDS_FILES).as_posix())
    assert found <= DRAWS


def test_characters_that_command_are_spelled_out() -> None:
    assert not set(plain_line(EVIL)) & set(OBEYED)
    assert plain_line("a\x1b[2J\u202eb") == "a\\x1b[2J\\u202eb"
    assert (
        plain_line("family 👨\u200d👩\u200d👧 می\u200cخواهم") == "family 👨\u200d👩\u200d👧 می\u200cخواهم"
    )  # joiners join
    assert plain_lines(f"{EVIL}\t1\n{EVIL}") == f"{plain_line(EVIL)}\t1\n{plain_line(EVIL)}"
    document = json.dumps({EVIL: [EVIL]}, ensure_ascii=False)
    assert not set(plain_json(document)) & set(OBEYED)
    assert json.loads(plain_json(document)) == {EVIL: [EVIL]}


def test_lines_rows_and_documents(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.print_lines(f"{EVIL}\tx")
    terminal.print_json({"path": EVIL})
    terminal.print_result(EVIL)
    terminal.echo(EVIL)
    terminal.complain(EVIL)
    terminal.list_item(EVIL)
    terminal.print_paths([EVIL], null=False)  # byte for byte: for programs, not a terminal
    out, err = capsys.readouterr()
    assert not set(out.rpartition(EVIL)[0] + err) & set(OBEYED)


def test_errors_warnings_records_and_traces(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing:
        @staticmethod
        def run(arguments: object) -> int:
            warnings.warn(EVIL, stacklevel=1)
            logging.getLogger("tandem.evil").warning("%s", EVIL)
            raise TandemError(EVIL)

    monkeypatch.setattr(tandem.cli, "load_command", lambda name: Failing)
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    assert main(["list", "--debug"]) == 2
    out, err = capsys.readouterr()
    assert not set(out + err) & set(OBEYED)
    assert err.count("owned") == 4  # the warning, the record, the trace, the error


@pytest.mark.parametrize("watched", [False, True])
def test_commands_that_name_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, watched: bool
) -> None:
    folder = tmp_path / EVIL
    folder.mkdir()
    toy.random_image(1, (24, 20)).save(folder / f"{EVIL}.png")
    (folder / f"{EVIL}2.png").write_bytes(b"no image")
    (folder / f"{EVIL}.txt").write_text(EVIL)
    model, target = str(toy.folder(tmp_path / "model")), str(tmp_path / f"{EVIL}.tandem")
    if watched:
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    for command in (
        ["index", str(folder), "--to", target, "--model", model],
        ["index", str(folder), "--to", target, "--json"],
        ["list"],
        ["info", target],
        ["check", target],
        ["search", target, "x", "--json"],
        ["classify", str(folder), "--labels", f"cat,{EVIL}", "--model", model],
        ["remove", target, "nothing", "--yes"],
        ["remove", target, "--all", "--yes"],
        ["search", str(folder), "x"],
        ["index", str(tmp_path / "none"), EVIL],
        [EVIL],
        ["index", f"--{EVIL}"],
    ):
        with contextlib.suppress(SystemExit):
            main(command)
        out, err = capsys.readouterr()
        colours = (out + err).replace("\x1b[0m", "").replace("\x1b[1m", "")
        for code in ("\x1b[32m", "\x1b[1;32m", "\x1b[90m", "\x1b[1;4m"):  # our own
            colours = colours.replace(code, "")
        assert not set(colours) & set(OBEYED), (command, colours)
