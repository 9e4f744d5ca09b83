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
from tandem.search.calibration.calibrate import calibrate
from tandem.search.calibration.caption_set import CaptionSet, choose, embed, read_captioned
from tandem.search.calibration_files import save_calibration
from tandem.search.relevance import Calibration


def run(arguments: argparse.Namespace) -> int:
    datasets, tests = existing(arguments.dataset), existing(arguments.test or [])
    model = load_model(arguments)
    captions, failures = read(model, datasets, arguments.caption, "embedding")
    held_out = None
    if tests:
        held_out, others = read(model, tests, arguments.caption, "embedding the test")
        failures += others
    calibration = calibrate(model.name, model.fingerprint, captions, held_out, names=[path.name for path in tests])
    kept = [save_calibration(calibration)]
    if arguments.out:
        kept.append(save_calibration(calibration, Path(arguments.out).expanduser()))
    if arguments.json:
        screen.print_json(as_document(calibration, kept, failures))
    else:
        show(calibration)
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


def as_document(calibration: Calibration, kept: Sequence[Path], failures: Sequence[Failure]) -> dict[str, Any]:
    """What --json prints."""
    return {
        "model": {"name": calibration.model, "fingerprint": calibration.fingerprint},
        "threshold": calibration.threshold,
        "thresholds": {
            "text": calibration.text.threshold,
            "image": calibration.image.threshold,
            "mixed": calibration.mixed.threshold,
        },
        "figures": calibration.figures,
        "files": [str(path) for path in kept],
        "failures": [{"image": failure.source, "error": failure.error.reason} for failure in failures],
    }


def show(calibration: Calibration) -> None:
    """A short table: how well relevance tells, and how far what it says is from what is true."""
    columns = ("of images", "AUC", "best matches", "predicted", "ECE", "of 0.5", "ECE, prior")
    table = screen.table("queries", *columns, right=columns)
    for name, part in calibration.figures["queries"].items():
        for size, figures in part["collections"].items():
            auc = figures["auc_present_removed"]
            table.add_row(
                name,
                f"{int(size):,}",
                "-" if auc is None else f"{auc:.3f}",
                f"{figures['match_rate_best']:.1%}",
                f"{figures['mean_probability_best']:.1%}",
                f"{figures['ece_best']:.3f}",
                f"{figures['ece_of_half']:.3f}",
                f"{figures['ece_prior']:.3f}",
            )
    out = screen.console()
    out.print(table)
    out.print(
        f"{calibration.model}, on {calibration.figures['data']}. AUC: of the best hit's relevance, with a match "
        "present against taken out (chance 0.5). ECE: the calibration error of best hits, half of the searches with no "
        "match present; beside it that of always saying 0.5. ECE, prior: a fifth of them with no match, as fitted. "
        f"Below {calibration.threshold:.1%} nothing is said to match a text well.",
        style=screen.QUIET,
    )
