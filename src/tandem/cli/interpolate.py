"""`tandem interpolate`: the model between two (WiSE-FT), as a folder."""

import argparse
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from tandem import weights
from tandem.cli import DONE, screen
from tandem.errors import MissingExtraError
from tandem.train.interpolate import interpolate_folders
from tandem.weights import Checkpoint


def run(arguments: argparse.Namespace) -> int:
    target = Path(arguments.to).expanduser().resolve()
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
        screen.print_json(document)
    else:
        shares = f"{1 - arguments.alpha:.0%} {arguments.first} and {arguments.alpha:.0%} {arguments.second}"
        print(f"{target}: {shares}; try: tandem classify PHOTO --model {target} --labels cat,dog")
    return DONE


def _measured(arguments: argparse.Namespace) -> Callable[[Checkpoint], Checkpoint]:
    """What measures the statistics of batch norms anew; a recipe that cannot be read is said before any work."""
    if find_spec("torch") is None:
        raise MissingExtraError("torch", "train", "--statistics")
    from tandem.train.recipe import read_recipe
    from tandem.train.run.statistics import renew

    recipe = read_recipe(Path(arguments.statistics), arguments.set)
    return lambda checkpoint: renew(checkpoint, recipe)
