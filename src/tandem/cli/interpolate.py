"""`tandem interpolate`: the model between two (WiSE-FT), as a folder."""

import argparse
from pathlib import Path

from tandem import weights
from tandem.cli import DONE, screen
from tandem.train.interpolate import interpolate_folders


def run(arguments: argparse.Namespace) -> int:
    target = Path(arguments.to).expanduser().resolve()
    found = interpolate_folders(
        arguments.first, arguments.second, arguments.alpha, target, overwrite=arguments.overwrite
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
