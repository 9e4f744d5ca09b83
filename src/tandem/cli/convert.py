"""`tandem convert`: a model from anywhere, in the format of one's choice."""

import argparse
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from tandem import weights
from tandem.cli import DONE, screen
from tandem.config import to_dict
from tandem.errors import MissingExtraError
from tandem.files import write_json
from tandem.weights.sources import GRAPH_FORMATS
from tandem.weights.writing import new_folder, refuse_in_use


def run(arguments: argparse.Namespace) -> int:
    target = Path(arguments.target).expanduser().resolve()
    refuse_in_use(target, overwrite=arguments.overwrite, say="--overwrite")
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
    with new_folder(target, overwrite=overwrite) as new:
        if to == "openvino":
            from tandem.engine.openvino import save_ir

            save_ir(checkpoint.config, checkpoint.tensors, new)
        else:
            save_onnx(checkpoint, new)
        write_json(new / "config.json", {**to_dict(checkpoint.config), "format": GRAPH_FORMATS[to]})
        checkpoint.tokenizer.save(new)


def save_onnx(checkpoint: weights.Checkpoint, folder: Path) -> None:
    for package in ("torch", "onnx", "onnxscript"):
        if find_spec(package) is None:
            raise MissingExtraError(package, "onnx", "writing ONNX")
    from tandem.engine import onnx

    onnx.save_onnx(checkpoint.config, checkpoint.tensors, folder)
