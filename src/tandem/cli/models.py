"""`tandem models`: what can be loaded by name, how large it is, under which licence, and whether it is here."""

import argparse

from tandem import weights
from tandem.cli import DONE, screen


def run(arguments: argparse.Namespace) -> int:
    models = weights.known_models()
    if arguments.json:
        screen.print_json({"models": [vars(model) for model in models]})
        return DONE
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD)
    table.add_column("name", no_wrap=True)
    for heading in ("weights", "pixels", "dimensions", "download"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("licence")
    table.add_column("here", justify="center")
    for model in models:
        table.add_row(
            Text(model.name, style="bold" if model.cached else ""),
            f"{model.parameters / 1e6:,.1f} M",
            str(model.image_size),
            str(model.embed_dim),
            f"{model.download_bytes / 1e6:,.0f} MB" if model.download_bytes else "",
            model.licence,
            Text("yes", style=screen.ACCENT) if model.cached else "",
        )
    out = screen.console()
    out.print(table)
    out.print("Any other folder, file or hub name works too: tandem classify photo.jpg --labels cat,dog --model NAME")
    return DONE
