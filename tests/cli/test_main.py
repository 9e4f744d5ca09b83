"""What every command has in common: help, wrong usage, exit codes, interruption, pipes."""

import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support import toy
from support.commands import COMMAND, Run, one_line, run_process, widest

from tandem.cli.commands import COMMANDS, VERBS, load_command
from tandem.cli.commands import models as tandem_cli_models


@pytest.mark.parametrize("command", [*COMMANDS, *VERBS])
def test_every_command_has_help_with_an_example(command: str, tandem: Run) -> None:
    shown = tandem(*command.split(), "--help")
    assert shown.code == 0
    assert f"tandem {command}" in shown.out.partition("Example")[2]
    assert all(option in shown.out for option in ("--debug", "--quiet", "--verbose"))


@pytest.mark.parametrize("command", [*COMMANDS, *VERBS])
def test_a_command_is_a_module_of_its_name(command: str) -> None:
    module = load_command(command)
    assert re.sub("[_-]", " ", module.__name__.rpartition(".")[2]) == command.replace("-", " ")
    assert callable(module.add_arguments)
    assert callable(module.run)


@pytest.mark.parametrize("columns", ["40", "80", "120"])
@pytest.mark.parametrize("command", ["", *COMMANDS, *VERBS])
def test_help_fits_the_terminal(command: str, columns: str, tandem: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    shown = tandem(*command.split(), "--help").out
    unbroken = ("  tandem ", *(f"usage: tandem {verb} [options]" for verb in VERBS))
    text = [line for line in shown.splitlines() if not line.startswith(unbroken) and "--debug shows" not in line]
    assert widest("\n".join(text).partition("\nExample")[0]) <= int(columns)
    if columns == "120":
        assert widest(shown) > 90 or command in ("", "list", "info", "models", "completion")


@pytest.mark.parametrize("command", [c for c in COMMANDS if c not in ("train", "serve", "mcp", "completion")])
def test_every_command_that_answers_has_json(command: str, tandem: Run) -> None:
    assert "--json" in tandem(command, "--help").out


@pytest.mark.parametrize("command", ["classify", "embed", "demo"])
def test_model_options(command: str, tandem: Run) -> None:
    shown = tandem(command, "--help").out
    assert all(option in shown for option in ("--model", "--device", "--precision", "--engine"))


def test_no_arguments_show_the_help(tandem: Run) -> None:
    shown = tandem()
    assert shown.code == 2
    assert all(command in shown.err for command in COMMANDS)


def test_wrong_usage_is_one_line(tandem: Run) -> None:
    assert "tandem classify --help" in one_line(tandem("classify", "--labels", "a,b"))
    assert "--top" in one_line(tandem("classify", "x.jpg", "--labels", "a,b", "--top", "0"))
    assert "bogus" in one_line(tandem("bogus"))


def test_debug_shows_the_trace(tandem: Run, tmp_path: Path) -> None:
    command = ("classify", "x.jpg", "--labels", "a,b", "--model", str(tmp_path / "gone"))
    one_line(tandem(*command))
    assert "Traceback" in tandem(*command, "--debug").err


@pytest.mark.slow
def test_interrupted_is_one_line(model_folder: str) -> None:
    """Ctrl-C while the list of photos is still being typed."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tandem", "classify", "-", "--labels", "a,b", "--model", model_folder],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    process.stdin.write("first.jpg\n")
    process.stdin.flush()
    waiting_in_read(process.pid)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "", "tandem: interrupted\n")


@pytest.mark.parametrize("module", ["tandem.cli", "tandem.cli.parser", "tandem.cli.commands.list"])
def test_interrupted_while_it_is_imported_is_one_line(module: str) -> None:
    """Ctrl-C in the first moments: before, between and after the command line's own modules."""
    code = f"""
import runpy, sys
class Interrupted:
    def find_spec(self, name, *_):
        if name == {module!r}:
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupted())
sys.argv = ["tandem", "list"]
runpy.run_module("tandem", run_name="__main__")
"""
    process = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=60)
    assert (process.returncode, process.stdout, process.stderr) == (130, "", "tandem: interrupted\n")


def waiting_in_read(pid: int) -> None:
    """Until the process sleeps with its modules loaded: it has nothing to do but wait for its input."""
    status = Path(f"/proc/{pid}/stat")
    if not status.exists():
        pytest.skip("needs /proc")
    asleep = 0
    for _ in range(1000):
        time.sleep(0.02)
        has_numpy = "numpy" in Path(f"/proc/{pid}/maps").read_text()
        asleep = asleep + 1 if has_numpy and status.read_text().rsplit(")", 1)[1].split()[0] == "S" else 0
        if asleep >= 40:
            return
    pytest.fail("the command never waited for its input")


@pytest.mark.slow
def test_a_closed_pipe_is_no_error(model_folder: str, photos: list[str]) -> None:
    command = f"{sys.executable} -m tandem classify {photos[0]} --labels a,b --model {model_folder} --json"
    script = f"{command} | true; exit ${{PIPESTATUS[0]}}"
    process = subprocess.run(["bash", "-c", script], check=False, capture_output=True, text=True)
    assert process.stderr == ""
    assert process.returncode in (0, 141)  # 0 when all was written before the reader left


def test_warnings_are_one_line_and_not_in_the_json(tandem: Run, tmp_path: Path, photos: list[str]) -> None:
    noted = toy.folder(tmp_path / "noted", notes={"activation": "gelu was\nassumed"})
    outcome = tandem("classify", photos[0], "--labels", "a,b", "--model", noted, "--json")
    assert outcome.code == 0
    assert outcome.err == "tandem: warning: gelu was assumed\n"
    assert outcome.json["labels"] == ["a", "b"]


@pytest.mark.slow
def test_the_module_runs_as_the_command(model_folder: str, photos: list[str]) -> None:
    outcome = run_process("classify", photos[0], "--labels", "a,b", "--model", model_folder, "--json")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.json["labels"] == ["a", "b"]


def test_misspellings_get_a_suggestion(tandem: Run) -> None:
    assert "did you mean 'search'?" in one_line(tandem("serach", "photos.tandem"))
    assert "did you mean '--labels'?" in one_line(tandem("classify", "--lables", "a,b"))  # before what is missing
    assert "did you mean '--labels'?" in one_line(tandem("classify", "x.jpg", "--label=a,b"))
    assert "did you mean" not in one_line(tandem("classify", "x.jpg", "--zzzzzz"))


def test_options_stand_anywhere(tandem: Run, model_folder: str, photos: list[str]) -> None:
    options = ("--json", "--model", model_folder)
    before = tandem("classify", "--labels", "a,b", *options, *photos)
    between = tandem("--quiet", "classify", photos[0], "--labels", "a,b", *photos[1:], *options)
    assert before.code == 0
    assert before.json == between.json


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (sqlite3.OperationalError("database or disk is full"), "OperationalError: database or disk is full"),
        (KeyError("x"), "KeyError: 'x'"),
        (MemoryError(), "MemoryError"),
    ],
)
def test_an_unexpected_error_is_one_line_and_a_code_of_its_own(
    tandem: Run, monkeypatch: pytest.MonkeyPatch, error: Exception, says: str
) -> None:
    def fail(_: object) -> int:
        raise error

    monkeypatch.setattr(tandem_cli_models, "run", fail)
    message = one_line(tandem("models"), code=70)
    assert says in message
    assert "--debug" in message
    assert "Traceback" in tandem("models", "--debug").err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_one_line() -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run([*COMMAND, "models"], check=False, stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (2, "tandem: No space left on device\n")


def test_quiet_leaves_out_notes_and_verbose_adds_some(tandem: Run, model_folder: str, photos: list[str]) -> None:
    command = ("classify", *photos, "gone.jpg", "--labels", "cat", "--model", model_folder)
    assert "with a single label" in tandem(*command).err
    quiet = tandem(*command, "-q").err
    assert "with a single label" not in quiet
    assert "gone.jpg" in quiet  # nothing is lost silently
    assert "toy: CPU, float32, loaded in" in tandem(*command, "-v").err
    assert "not allowed with" in one_line(tandem("models", "-q", "-v"))


def test_exit_codes_are_documented(tandem: Run) -> None:
    shown = tandem("--help").out
    assert all(f"\n  {code} " in shown for code in (0, 1, 2, 70, 130, 141))


def test_help_is_a_command_too(tandem: Run) -> None:
    assert tandem("help") == tandem("--help")
    assert tandem("help", "search") == tandem("search", "--help")


def test_options_of_other_programs_get_a_suggestion(tandem: Run) -> None:
    for other in ("-n", "--limit"):
        assert "did you mean '--top'?" in one_line(tandem("search", "photos.tandem", "cat", other, "3"))


def test_files_may_begin_with_a_dash(
    tandem: Run, model_folder: str, photos: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(photos[0]).parent)
    shutil.copy(photos[0], "-rocket.png")
    options = ("--labels", "a,b", "--model", model_folder, "--json")
    for written in (("-rocket.png",), ("--", "-rocket.png")):
        outcome = tandem("classify", *options, *written)
        assert [result["image"] for result in outcome.json["results"]] == ["-rocket.png"]
    assert "no option -gone.png" in one_line(tandem("classify", "-gone.png", *options))


def test_a_text_that_is_too_long_is_to_be_shortened(tandem: Run, model_folder: str, photos: list[str]) -> None:
    message = one_line(tandem("classify", photos[0], "--labels", f"a,{'cat ' * 200}", "--model", model_folder))
    assert message.endswith("shorten it, or add --long truncate or --long split\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ("classify", "PHOTO", "--labels", "a,b", "--model", "~no-such-user/model"),
        ("classify", "PHOTO", "--labels-file", "~no-such-user/labels"),
        ("classify", "PHOTO", "--labels", "a,b", "--plot", "~no-such-user/a.png"),
        ("embed", "PHOTO", "--out", "~no-such-user/a.npz"),
        ("index", "PHOTO", "--to", "~no-such-user/photos.tandem"),
        ("index", "~no-such-user/photos", "--to", "photos.tandem"),
        ("search", "~no-such-user/photos.tandem", "a cat"),
        ("search", "lance:~no-such-user/photos", "a cat"),
        ("explore", "photos.tandem", "--out", "~no-such-user/map"),
        ("label", "photos.tandem", "--labels", "a,b", "--out", "~no-such-user/labels.csv"),
        ("convert", "tandem-mini", "~no-such-user/model", "--to", "transformers"),
        ("calibrate", "~no-such-user/captioned.tar"),
        ("serve", "--uploads", "~no-such-user/uploads"),
        ("serve", "--api-key-file", "~no-such-user/keys"),
        ("train", "~no-such-user/recipe.toml"),
        ("demo", "--out", "~no-such-user/demo.png"),
    ],
    ids=" ".join,
)
def test_a_home_that_is_not_known_is_one_line(
    arguments: tuple[str, ...], tandem: Run, photos: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    message = one_line(tandem(*[photos[0] if each == "PHOTO" else each for each in arguments]))
    assert "no home folder is known for ~no-such-user" in message or "no such file" in message
    assert sorted(tmp_path.iterdir()) == before


def test_an_image_below_a_home_that_is_not_known_is_skipped(tandem: Run, model_folder: str, photos: list[str]) -> None:
    command = ("classify", "~no-such-user/a.jpg", photos[0], "--labels", "a,b", "--model", model_folder)
    outcome = tandem(*command)
    assert outcome.code == 1
    assert len(outcome.rows) == 2
    assert "~no-such-user/a.jpg" in outcome.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("search", "photos.tandem", "a cat", "-k", "-5"), "-k/--top: expected a whole number of at least 1, got '-5'"),
        (("search", "photos.tandem", "a cat", "--weight", "x"), "--weight: expected a number, got 'x'"),
        (("serve", "photos.tandem", "--port", "abc"), "--port: expected a whole number, got 'abc'"),
        (("serve", "photos.tandem", "--uploads", __file__), "expected a folder, got a file"),
        (("classify", __file__, "--labels", "a,b", "--model", "vit-b-33"), "near: ViT-B/32"),
    ],
)
def test_a_wrong_value_is_told_what_was_expected(arguments: tuple[str, ...], said: str, tandem: Run) -> None:
    assert said in one_line(tandem(*arguments))
