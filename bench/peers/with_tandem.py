"""Tandem, by its public interface. int8 is what `tandem quantize` makes.

It excludes what agrees too little with the source. For random weights that means nothing: they are rounded without that
search (--no-search), as peers round theirs.
"""

import sys
from pathlib import Path
from typing import Any

PACKAGES = ("tandem-clip", "openvino")
BATCH = 32
ENGINE = "openvino"
RANDOM = "random-weights"  # a file in folders that the benchmark made


def source(model: str, scratch: str, precision: str) -> tuple[str, str]:
    """The folder to load, and the precision to ask for."""
    return (str(Path(scratch) / "int8"), "auto") if precision == "int8" else (model, precision)


def prepare(model: str, scratch: str, precision: str, photos: list[str], texts: list[str]) -> None:
    if precision != "int8":
        return
    import subprocess

    from tandem.cli.commands import COMMANDS

    if "quantize" not in COMMANDS:
        raise RuntimeError("this version of Tandem has no command `quantize`")
    folder = Path(scratch)
    if not (folder / "int8").is_dir():
        words = folder / "calibration.txt"
        words.write_text("\n".join(texts), encoding="utf-8")
        command = [sys.executable, "-m", "tandem", "quantize", model, str(folder / "int8"), "--texts", str(words)]
        if (Path(model) / RANDOM).is_file():
            command.append("--no-search")
        subprocess.run([*command, "--images", str(Path(photos[0]).parent)], check=True)


def classify(model: str, scratch: str, precision: str, threads: int, photo: str, labels: list[str]) -> dict[str, float]:
    """As the command does it, whose process is what the benchmark times: `command`."""
    import subprocess

    done = subprocess.run(command(model, scratch, precision, photo, labels), check=True, capture_output=True, text=True)
    return probabilities(done.stdout)


def command(model: str, scratch: str, precision: str, photo: str, labels: list[str]) -> list[str]:
    """As people type it. --json would add the model's fingerprint, for which all its weights are read."""
    folder, asked = source(model, scratch, precision)
    asking = [sys.executable, "-m", "tandem", "classify", photo, "--labels", ",".join(labels)]
    return [*asking, "--model", folder, "--precision", asked]


def probabilities(printed: str) -> dict[str, float]:
    """What `tandem classify` prints into a pipe: photo, label and probability, a line each."""
    lines = (line.split("\t") for line in printed.splitlines())
    return {label: float(probability) for _, label, probability in lines}


class Peer:
    def __init__(self, model: str, scratch: str, precision: str, threads: int) -> None:
        import tandem

        folder, asked = source(model, scratch, precision)
        self._model = tandem.load(folder, engine=ENGINE, precision=asked)

    def image_input(self, pixels: Any) -> Any:
        return pixels

    def encode_images(self, ready: Any) -> Any:
        return self._model.engine.encode_images(ready)

    def encode_texts(self, texts: list[str]) -> Any:
        return self._model.embed_texts(texts)

    def embed_files(self, paths: list[str], **options: bool) -> Any:
        return self._model.embed_images(paths, batch_size=BATCH, progress=False, **options)
