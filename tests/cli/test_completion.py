"""Completion: the scripts of the shells, and the suggestions at the cursor."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.commands import Run, one_line

from tandem.cli import known_collections
from tandem.cli.commands.completion import SHELLS


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_gets_its_completion_script(shell: str, tandem: Run) -> None:
    outcome = tandem("completion", shell)
    assert outcome.code == 0
    assert "tandem" in outcome.out
    assert "_ARGCOMPLETE" in outcome.out


def test_another_shell_is_refused(tandem: Run) -> None:
    assert "tcsh" in one_line(tandem("completion", "tcsh"))


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("tandem se", {"search", "serve"}),
        ("tandem search --min", {"--minus", "--minus-image"}),
        ("tandem label photos.tandem --by ", {"label", "image"}),
        ("tandem completion ", set(SHELLS)),
        ("tandem info milvus://nowhere/ph", {"milvus://nowhere/photos"}),
        ("tandem info /nowhere/ph", set()),
        ("tandem classify --model ViT-B/", {"ViT-B/32", "ViT-B/16"}),
        ("tandem classify --model ViT-B-16-SigLIP2-2", {"ViT-B-16-SigLIP2-256"}),
        ("tandem classify --model google/siglip2-giant", {f"google/siglip2-giant-opt-patch16-{n}" for n in (256, 384)}),
        ("tandem classify --model tandem", {"tandem-mini"}),
        ("tandem classify --model laion/CLIP-ViT-H-14-l", {"laion/CLIP-ViT-H-14-laion2B-s32B-b79K"}),
    ],
)
@pytest.mark.slow
def test_what_is_offered_at_the_cursor(typed: str, offered: set[str], tmp_path: Path) -> None:
    """As bash asks: the line in the environment, the answer on a descriptor of its own."""
    answer = tmp_path / "answer"
    known_collections.remember("/nowhere/photos.tandem")
    known_collections.remember("milvus://nowhere/photos")
    environment = {
        "_ARGCOMPLETE": "1", "_ARGCOMPLETE_SHELL": "bash", "_ARGCOMPLETE_STDOUT_FILENAME": str(answer),
        "_ARGCOMPLETE_IFS": "\n", "COMP_LINE": typed, "COMP_POINT": str(len(typed)),
    }  # fmt: skip
    run = "import sys; sys.argv[0] = 'tandem'; from tandem.cli import main; main()"
    subprocess.run([sys.executable, "-c", run], check=True, env={**os.environ, **environment}, cwd=tmp_path)
    words = {word.strip() for word in answer.read_text().split("\n")}
    assert offered <= words
    assert not words - offered - {""}


def test_bash_completes_with_the_script(tmp_path: Path) -> None:
    script = f"""
PATH="{Path(sys.executable).parent}:$PATH"
eval "$({sys.executable} -m tandem completion bash)"
complete -p tandem
"""
    done = subprocess.run(["bash", "-c", script], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "_python_argcomplete" in done.stdout
