"""`tandem models`: what can be loaded by name, how large it is, under which licence, and whether it is here."""

import argparse

from tandem import weights
from tandem.cli import DONE, screen


def run(arguments: argparse.Namespace) -> int:
    models = weights.known_models()
    if arguments.json:
        screen.print_json({"models": [vars(model) for model in models]})
        return DONE
    from rich.text import Text

    table = screen.table(
        "", "name", "weights", "pixels", "download", "licence", right=("weights", "pixels", "download")
    )
    for model in models:
        table.add_row(
            Text("●" if model.cached else "", style=screen.ACCENT),
            Text(model.name, style="bold" if model.cached else ""),
            f"{model.parameters / 1e6:,.0f} M",
            str(model.image_size),
            _download(model.download_bytes),
            model.licence,
        )
    out = screen.console()
    out.print(table)
    out.print(Text("\n● is here already. --model takes any other folder, file or hub name, too.", style=screen.QUIET))
    return DONE


def _download(size_bytes: int | None) -> str:
    if size_bytes is None:
        return ""  # known when the hub is asked, not before
    return f"{size_bytes / 1e6:,.0f} MB" if size_bytes else "inside"
