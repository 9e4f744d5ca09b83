"""`tandem calibrate`: learn what a model's scores mean, from pictures with captions."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tandem.answer import Failure
from tandem.cli import exit_code, screen
from tandem.cli.inputs import load_model
from tandem.errors import DataError
from tandem.model import Model
from tandem.search.calibration.calibrate import fit_and_report, save_fit
from tandem.search.calibration.caption_set import CaptionSet, choose, embed, read_captioned
from tandem.search.relevance import Fit


def run(arguments: argparse.Namespace) -> int:
    datasets, tests = existing(arguments.dataset), existing(arguments.test or [])
    model = load_model(arguments)
    captions, failures = read(model, datasets, arguments.caption, "embedding")
    held_out = None
    if tests:
        held_out, others = read(model, tests, arguments.caption, "embedding the test")
        failures += others
    fit = fit_and_report(model.name, model.fingerprint, captions, held_out, names=[path.name for path in tests])
    kept = [save_fit(fit)]
    if arguments.out:
        kept.append(save_fit(fit, Path(arguments.out).expanduser()))
    if arguments.json:
        screen.print_json(as_document(fit, kept, failures))
    else:
        show(fit)
    sys.stdout.flush()
    screen.say(f"kept in {' and in '.join(map(str, kept))}; searches with {model.name} show relevance from now on")
    total = len(captions) + len(held_out or ()) + len(failures)
    screen.say_set_aside(failures, total)
    return exit_code(done=total - len(failures), set_aside=len(failures))


def existing(names: Sequence[str]) -> list[Path]:
    """The files; `DataError` for the first that is not there."""
    paths = [Path(name).expanduser() for name in names]
    for path in paths:
        if not path.is_file():
            raise DataError(f"{path}: expected a WebDataset tar or a Parquet file with captions; there is no such file")
    return paths


def read(model: Model, paths: Sequence[Path], key: str | None, what: str) -> tuple[CaptionSet, list[Failure]]:
    """The pictures and captions of some files, embedded, with a bar."""
    samples = choose(read_captioned(paths, key))
    with screen.progress(what, 2 * len(samples)) as advance:
        return embed(model, samples, advance=advance)


def as_document(fit: Fit, kept: Sequence[Path], failures: Sequence[Failure]) -> dict[str, Any]:
    """What --json prints."""
    return {
        "model": {"name": fit.model, "fingerprint": fit.fingerprint},
        "threshold": fit.threshold,
        "thresholds": {"words": fit.words.threshold, "picture": fit.picture.threshold, "mixed": fit.mixed.threshold},
        "figures": fit.figures,
        "files": [str(path) for path in kept],
        "failures": [{"image": failure.source, "error": failure.error.reason} for failure in failures],
    }


def show(fit: Fit) -> None:
    """A short table: how well relevance tells, and how far what it says is from what is true."""
    columns = ("of pictures", "area", "best matches", "said", "error", "of 0.5", "usual error")
    table = screen.table("queries", *columns, right=columns)
    for name, part in fit.figures["queries"].items():
        for size, figures in part["collections"].items():
            area = figures["area_present_removed"]
            table.add_row(
                name,
                f"{int(size):,}",
                "-" if area is None else f"{area:.3f}",
                f"{figures['true_best']:.1%}",
                f"{figures['said_best']:.1%}",
                f"{figures['error_best']:.3f}",
                f"{figures['error_of_half']:.3f}",
                f"{figures['error_usual']:.3f}",
            )
    out = screen.console()
    out.print(table)
    out.print(
        f"{fit.model}, on {fit.figures['data']}. area: under the ROC curve of the best hit's relevance, what is looked "
        "for there against taken out (chance 0.5). error: what is said of best hits less what is true, half of the "
        "searches in vain; beside it that of always saying 0.5. usual error: a fifth of them in vain, as fitted. "
        f"Below {fit.threshold:.1%} nothing is said to match words well.",
        style=screen.QUIET,
    )
