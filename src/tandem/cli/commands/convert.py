"""`tandem convert`: a model from anywhere, in the format of one's choice."""

import argparse
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tandem.cli import terminal
from tandem.cli.arguments import Parser, add_json, describe, listed
from tandem.cli.exit_codes import DONE
from tandem.cli.options.model import add_activation
from tandem.errors import MissingExtraError
from tandem.files import user_path

if TYPE_CHECKING:
    from tandem.weights import Checkpoint

FORMATS = ("tandem", "transformers", "open_clip", "openvino", "onnx")


def add_arguments(parser: Parser) -> None:
    describe(
        parser,
        "Read a model from anywhere and write it in a format that other programs read. No code in the files is run.",
        "tandem convert ViT-B-32.pt clip-b32 --to tandem",
        "tandem convert openai/clip-vit-base-patch32 b32-onnx --to onnx",
    )
    parser.add_argument("source", metavar="SOURCE", help="a folder, a file, a hub name or a published name")
    parser.add_argument("target", metavar="TARGET", help="the folder to write")
    parser.add_argument(
        "--to",
        required=True,
        choices=FORMATS,
        metavar="FORMAT",
        help=f"the format to write: {listed(FORMATS)}",
    )
    add_activation(parser, "as for tandem classify")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing target")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    from tandem import weights
    from tandem.weights.writing import refuse_in_use

    target = user_path(arguments.target).resolve()
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
        terminal.print_json(document)
    else:
        listed = ", ".join(file.name for file in files)
        terminal.print_result(
            f"{arguments.target}: {name} in the format {arguments.to}, {size_bytes / 1e6:,.1f} MB ({listed})"
        )
    return DONE


def write_graphs(checkpoint: "Checkpoint", target: Path, to: Literal["openvino", "onnx"], *, overwrite: bool) -> None:
    """Both towers as graphs, and beside them what makes their inputs: the configuration and the tokenizer."""
    from tandem.config import to_dict
    from tandem.files import write_json
    from tandem.weights.quantized import refuse_quantized
    from tandem.weights.sources import GRAPH_FORMATS
    from tandem.weights.writing import new_folder

    if to == "onnx":  # OpenVINO's graphs hold the eight bits
        refuse_quantized(checkpoint, "the format onnx")
    with new_folder(target, overwrite=overwrite) as new:
        if to == "openvino":
            from tandem.engine.openvino import save_ir

            save_ir(checkpoint.config, checkpoint.tensors, new)
        else:
            save_onnx(checkpoint, new)
        write_json(new / "config.json", {**to_dict(checkpoint.config), "format": GRAPH_FORMATS[to]})
        checkpoint.tokenizer.save(new)


def save_onnx(checkpoint: "Checkpoint", folder: Path) -> None:
    for package in ("torch", "onnx", "onnxscript"):
        if find_spec(package) is None:
            raise MissingExtraError(package, "onnx", "writing ONNX")
    from tandem.engine import onnx

    onnx.save_onnx(checkpoint.config, checkpoint.tensors, folder)
