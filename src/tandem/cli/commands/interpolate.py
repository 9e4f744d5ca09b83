"""`tandem interpolate`: the model between two (WiSE-FT), as a folder."""

import argparse
from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING

from tandem.cli import terminal
from tandem.cli.arguments import Parser, add_json, describe
from tandem.cli.exit_codes import DONE
from tandem.errors import MissingExtraError
from tandem.files import user_path

if TYPE_CHECKING:
    from tandem.weights import Checkpoint


def add_arguments(parser: Parser) -> None:
    describe(
        parser,
        "Write the model between two models of one architecture: (1 - alpha) times the weights of A plus alpha times "
        "those of B (WiSE-FT). Models between a model and its fine-tuned version are often better than both.",
        "tandem interpolate tandem-mini runs/finetune/model --alpha 0.5 --to between",
        "tandem interpolate tandem-mini runs/finetune/model --to between --statistics recipes/finetune.toml",
    )
    parser.add_argument("first", metavar="A", help="a folder, a file, a hub name or a published name")
    parser.add_argument("second", metavar="B", help="the same for a model that was fine-tuned from A")
    parser.add_argument("--alpha", type=float, default=0.5, metavar="X", help="from 0 (A) to 1 (B) (%(default)s)")
    parser.add_argument(
        "--statistics",
        metavar="RECIPE",
        help="recompute batch-norm statistics on this recipe's data: averaged ones do not fit (needs torch)",
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override a value of that recipe"
    )
    parser.add_argument("--to", required=True, metavar="C", help="the folder to write")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing target")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    from tandem import weights
    from tandem.train.interpolate import interpolate_folders

    target = user_path(arguments.to).resolve()
    found = interpolate_folders(
        arguments.first,
        arguments.second,
        arguments.alpha,
        target,
        finish=_measured(arguments) if arguments.statistics else lambda checkpoint: checkpoint,
        overwrite=arguments.overwrite,
    )
    if arguments.json:
        document = {
            "model": {"name": found.config.name, "fingerprint": weights.fingerprint(found)},
            "first": arguments.first,
            "second": arguments.second,
            "alpha": arguments.alpha,
            "target": str(target),
        }
        terminal.print_json(document)
    else:
        shares = f"{1 - arguments.alpha:.0%} {arguments.first} and {arguments.alpha:.0%} {arguments.second}"
        use = f"{terminal.program()} classify PHOTO --model {arguments.to} --labels cat,dog"
        terminal.print_result(f"{arguments.to}: {shares}; try: {use}")
    return DONE


def _measured(arguments: argparse.Namespace) -> "Callable[[Checkpoint], Checkpoint]":
    """The function that recomputes batch-norm statistics. Fails early if the recipe cannot be read."""
    if find_spec("torch") is None:
        raise MissingExtraError("torch", "train", "--statistics")
    from tandem.train.recipe_file import read_recipe
    from tandem.train.run.statistics import measure_statistics

    recipe = read_recipe(user_path(arguments.statistics), arguments.set)
    return lambda checkpoint: measure_statistics(checkpoint, recipe)
