"""Standard output as people have it: closed, cut short, or in an encoding that cannot spell every letter."""

import os
import subprocess
import sys
from pathlib import Path

from support import toy


def _shell(script: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    tandem = f"{sys.executable} -m tandem"
    return subprocess.run(
        ["bash", "-c", script.replace("TANDEM", tandem)],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )


def test_letters_that_the_terminal_cannot_spell_are_escaped(tmp_path: Path) -> None:
    photo, model = toy.pictures(tmp_path, 1)[0], toy.folder(tmp_path / "model")
    done = _shell(f"TANDEM classify {photo} --labels 猫,b --model {model}", PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert "\\u732b" in done.stdout


def test_a_closed_standard_output_is_no_crash(tmp_path: Path) -> None:
    photo, model = toy.pictures(tmp_path, 1)[0], toy.folder(tmp_path / "model")
    done = _shell(f"TANDEM classify {photo} --labels a,b --model {model} >&-")
    assert "Traceback" not in done.stderr
    assert done.returncode == 0


def test_a_table_whose_reader_left_says_so_as_shells_do() -> None:
    done = _shell("TANDEM models | true; exit ${PIPESTATUS[0]}")
    assert done.stderr == ""
    assert done.returncode in (0, 141)  # 0 when all was written before the reader left
