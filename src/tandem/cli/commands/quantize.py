"""`tandem quantize`: a model of eight bits, measured against its source."""

import argparse
import dataclasses
import sys
from typing import TYPE_CHECKING, Any

from tandem.cli import progress, terminal
from tandem.cli.arguments import Parser, add_json, describe
from tandem.cli.exit_codes import DONE, exit_code
from tandem.cli.options.model import add_activation, load_source
from tandem.cli.tables import Column, print_table
from tandem.files import user_path

if TYPE_CHECKING:
    from tandem.quantize.quantizing import Quantized


def add_arguments(parser: Parser) -> None:
    describe(
        parser,
        "Quantize a model to int8, which loads like any other. One part of the images and texts calibrates, a second "
        "one chooses the settings, and on the rest the model is compared with its source; blocks that lose too much "
        "stay in float32. With all blocks in int8 it is four times smaller than float32, and faster on CPUs; small "
        "models keep most blocks in float32, and gain little. The figures are written into its model card.",
        "tandem quantize ViT-B/32 b32-int8 --images photos",
        "tandem quantize ViT-B/32 b32-int8 --images imagenet/val --texts captions.txt",
        "tandem quantize ViT-B/32 b32-small --weights-only",
    )
    parser.add_argument("source", metavar="SOURCE", help="a folder, a file, a hub name or a published name")
    parser.add_argument("target", metavar="TARGET", help="the folder to write")
    parser.add_argument(
        "--images",
        metavar="DIR",
        help="a folder of photos like those that you will use the model on, up to 2,000 of them, or any data set that "
        "tandem evaluate takes: with labels, accuracy is measured, too (default: sample pictures, which say little)",
    )
    parser.add_argument(
        "--texts",
        metavar="F",
        help="a file of texts, one a line (default: captions of the images, else sample sentences)",
    )
    parser.add_argument(
        "--weights-only",
        action="store_true",
        help="keep only the weights in eight bits: needs no calibration, and blocks that lose too much stay in float32 "
        "all the same",
    )
    parser.add_argument(
        "--no-search",
        action="store_true",
        help="quantize every block with the default settings, whatever the agreement; quick, said in the model card, "
        "and also for --weights-only",
    )
    add_activation(parser, "as for tandem classify")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing target")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    from tandem.quantize.calibration import check_installed
    from tandem.weights.writing import refuse_in_use

    target = user_path(arguments.target).resolve()
    refuse_in_use(target, overwrite=arguments.overwrite, say="--overwrite")
    if not arguments.weights_only:
        check_installed()
    with progress.waiting("loading the model"):
        model = load_source(arguments.source, arguments.activation, instead="quantise")

    from tandem.quantize.card import write
    from tandem.quantize.quantizing import quantize
    from tandem.quantize.samples import gather

    with progress.waiting("reading images"):
        samples = gather(model, arguments.images, arguments.texts)
    if not samples.own:
        terminal.echo("no --images: sample pictures are used, which say little of yours; give some hundred of them")
    made = quantize(
        model,
        samples,
        method="int8-weights" if arguments.weights_only else "int8",
        search=not arguments.no_search,
        say=terminal.echo,
    )
    write(made, target, overwrite=arguments.overwrite)
    if arguments.json:
        terminal.print_json(as_document(made, str(target)))
    else:
        show(made)
    sys.stdout.flush()
    terminal.echo(f"{arguments.target}: {made.checkpoint.config.name}, with its model card")
    total = len(samples.skipped) + sum(
        len(part.pixels) for part in (samples.calibration, samples.dev, samples.held_out)
    )
    terminal.echo_skipped(list(samples.skipped), total)
    return exit_code(done=total - len(samples.skipped), skipped=len(samples.skipped)) if samples.skipped else DONE


def show(made: "Quantized") -> None:
    """What was measured, and whether it is good."""
    from tandem.quantize.card import mixing, rows, verdict

    print_table((Column("measured"), Column("")), [[name, value] for name, value in rows(made)])
    terminal.print_result(verdict(made))
    terminal.print_result(mixing(made))


def as_document(made: "Quantized", target: str) -> dict[str, Any]:
    """What --json prints."""
    from tandem import weights

    about = made.quantization
    return {
        "target": target,
        "model": {"name": made.checkpoint.config.name, "fingerprint": weights.fingerprint(made.checkpoint)},
        "source": {"name": about.source, "fingerprint": about.source_fingerprint},
        "method": about.method,
        "good": made.agreement.is_good,
        "mixes": about.mixes,
        "agreement": dataclasses.asdict(made.agreement),
        "images": about.images,
        "texts": about.texts,
        "samples": made.samples,
        "own_images": made.own_images,
        "searched": made.searched,
        "float32_blocks": list(about.float32_blocks),
        "blocks": made.blocks,
        "settings": made.settings,
        "tried": [{"what": each.what, **dataclasses.asdict(each.agreement)} for each in made.tried],
        "speeds": {name: {"source": a, "quantized": b} for name, (a, b) in made.speeds.items()},
        "bytes": {"source": made.bytes[0], "quantized": made.bytes[1]},
        "accuracy": None
        if made.accuracy is None
        else {"source": made.accuracy[0], "quantized": made.accuracy[1], "chance": 1 / made.classes},
        "processor": made.processor,
    }
