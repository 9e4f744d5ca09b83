"""What a cold start must not pay for. Times are measured in bench/startup.py; here: which modules are loaded."""

import subprocess
import sys
from pathlib import Path

import pytest
from support import toy

HEAVY = {"torch", "openvino", "tokenizers", "huggingface_hub", "transformers", "matplotlib", "httpx", "ftfy"} | {
    "rich",
    "PIL",
    "numpy",
}


def loaded_after(code: str) -> set[str]:
    """Top-level packages in sys.modules after running `code` in a fresh interpreter."""
    report = "import sys; print(*{name.split('.')[0] for name in sys.modules}, file=sys.stderr)"
    process = subprocess.run([sys.executable, "-c", f"{code}\n{report}"], capture_output=True, text=True, check=True)
    return set(process.stderr.split())


@pytest.mark.parametrize(
    "code",
    [
        "import tandem",
        "import tandem.cli\ntry: tandem.cli.main(['--help'])\nexcept SystemExit: pass",
        "from tandem.cli.parser import build_parser\nbuild_parser()",  # the help of every command
    ],
    ids=["import", "help", "every-command"],
)
def test_nothing_heavy_is_imported(code: str) -> None:
    assert not loaded_after(code) & HEAVY


@pytest.mark.parametrize("arguments", ["--help", "serach", "search --help", "search x --bogus"])
def test_no_other_command_is_imported(arguments: str) -> None:
    code = f"import tandem.cli\ntry: tandem.cli.main({arguments.split()!r})\nexcept SystemExit: pass"
    report = "import sys; print(*sys.modules, file=sys.stderr)"
    process = subprocess.run([sys.executable, "-c", f"{code}\n{report}"], capture_output=True, text=True, check=True)
    loaded = {name for name in process.stderr.split() if name.startswith("tandem.cli.commands.")}
    assert loaded == ({"tandem.cli.commands.search"} if arguments.startswith("search") else set())


def test_answering_imports_no_torch(tmp_path: Path) -> None:
    code = f"""
import tandem, PIL.Image
tandem.load({str(toy.folder(tmp_path / "model"))!r}).classify([PIL.Image.new("RGB", (80, 60))], ["a", "b"])
"""
    assert not loaded_after(code) & {"torch", "transformers", "huggingface_hub", "matplotlib", "rich", "httpx"}


def test_answering_sends_nothing(tmp_path: Path) -> None:
    """OpenVINO's telemetry is not even imported, and no address is looked up or connected to."""
    code = f"""
import socket, PIL.Image
def refuse(*_, **__): raise SystemExit("something is sent")
socket.getaddrinfo = socket.socket.connect = refuse
import tandem
model = tandem.load({str(toy.folder(tmp_path / "model"))!r})
model.classify([PIL.Image.new("RGB", (80, 60))] * 9, ["a", "b"])
import openvino
assert openvino.convert_model is not None
"""
    loaded = loaded_after(code)
    assert "openvino" in loaded
    assert "openvino_telemetry" not in loaded
