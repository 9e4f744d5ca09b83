"""`tandem convert`: a model from anywhere, in the format of one's choice."""

import argparse
import json
import os
import shutil
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from tandem import weights
from tandem.cli import DONE, screen
from tandem.config import to_dict
from tandem.errors import MissingExtraError, WeightsError

# What a folder of graphs holds: only such a folder is replaced.
GRAPH_FILES = {
    *("image.xml", "image.bin", "text.xml", "text.bin"),
    *("image.onnx", "image.onnx.data", "text.onnx", "text.onnx.data"),
    *("config.json", "tokenizer.json"),
}


def run(arguments: argparse.Namespace) -> int:
    target = Path(arguments.target).expanduser()
    checkpoint = weights.read(arguments.source, activation=arguments.activation)
    for note in checkpoint.config.notes.values():
        warnings.warn(note, stacklevel=1)
    if arguments.to in ("openvino", "onnx"):
        write_graphs(checkpoint, target, arguments.to, overwrite=arguments.overwrite)
    else:
        weights.write(checkpoint, target, arguments.to, overwrite=arguments.overwrite)

    files = sorted(target.iterdir()) if target.is_dir() else [target]
    size_bytes = sum(file.stat().st_size for file in files)
    name = checkpoint.config.name or arguments.source
    if arguments.json:
        document = {
            "model": {"name": name, "fingerprint": weights.fingerprint(checkpoint)},
            "source": arguments.source,
            "target": str(target),
            "format": arguments.to,
            "files": [file.name for file in files],
            "bytes": size_bytes,
        }
        screen.print_json(document)
    else:
        listed = ", ".join(file.name for file in files)
        print(f"{target}: {name} in the format {arguments.to}, {size_bytes / 1e6:,.1f} MB ({listed})")
    return DONE


def write_graphs(
    checkpoint: weights.Checkpoint, target: Path, to: Literal["openvino", "onnx"], *, overwrite: bool
) -> None:
    """Both towers as graphs, and beside them what makes their inputs: the configuration and the tokenizer."""
    present = {entry.name for entry in target.iterdir()} if target.is_dir() else set()
    if (present and not overwrite) or (target.exists() and not target.is_dir()):
        raise WeightsError(f"{target} is in use; choose another folder, or --overwrite")
    if strangers := sorted(present - GRAPH_FILES):
        raise WeightsError(f"{target}: not overwritten: {strangers[0]} is no part of a model; choose another folder")
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        if to == "openvino":
            from tandem.engine.openvino import save_ir

            save_ir(checkpoint.config, checkpoint.tensors, partial)
        else:
            save_onnx(checkpoint, partial)
        description = json.dumps(to_dict(checkpoint.config), indent=2, ensure_ascii=False)
        (partial / "config.json").write_text(f"{description}\n", encoding="utf-8")
        checkpoint.tokenizer.save(partial)
        if target.exists():
            shutil.rmtree(target)
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def save_onnx(checkpoint: weights.Checkpoint, folder: Path) -> None:
    for package in ("torch", "onnx", "onnxscript"):
        if find_spec(package) is None:
            raise MissingExtraError(package, "onnx", "writing ONNX")
    from tandem.engine import onnx

    onnx.save_onnx(checkpoint.config, checkpoint.tensors, folder)
