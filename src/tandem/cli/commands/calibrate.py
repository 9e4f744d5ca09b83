"""`tandem calibrate`: learn what a model's scores mean, from images with captions."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tandem.cli import progress, terminal
from tandem.cli.arguments import Parser, add_json, add_yes, describe
from tandem.cli.exit_codes import DONE, exit_code
from tandem.cli.options.indexing import add_caption
from tandem.cli.options.model import add_model, load_model
from tandem.cli.tables import Column, print_table
from tandem.errors import DataError, TandemError
from tandem.files import user_path

if TYPE_CHECKING:
    from tandem.answer import Failure
    from tandem.model import Model
    from tandem.scores.relevance import Calibration, MeasuredKind
    from tandem.search.calibration.caption_set import CaptionSet


def add_arguments(parser: Parser) -> None:
    describe(
        parser,
        "Fit the probability that a hit matches its query, from images with captions that the model was not trained "
        "on. From then on, all your searches with this model use it instead of the calibration that came with the "
        "model; --reset returns to that.",
        "tandem calibrate captions.parquet --model ViT-B/32",
        "tandem calibrate flickr8k-dev.tar --model ViT-B/32 --test flickr8k-test.tar --json",
        "tandem calibrate --reset --model ViT-B/32",
    )
    parser.add_argument("dataset", nargs="*", metavar="DATASET", help="WebDataset tars or Parquet files with captions")
    parser.add_argument("--test", nargs="+", metavar="DATASET", help="report on these (default: on a held-out part)")
    add_caption(parser)
    parser.add_argument("--out", metavar="F", help="also write the calibration to this file, for others to use")
    parser.add_argument("--reset", action="store_true", help="forget this account's calibration of the model")
    add_yes(parser)
    add_json(parser)
    add_model(parser)


def run(arguments: argparse.Namespace) -> int:
    if arguments.reset:
        return reset(arguments)
    if not arguments.dataset:
        raise TandemError("no data to calibrate with: give WebDataset tars or Parquet files with captions, or --reset")
    from tandem.scores.calibration_files import save_calibration
    from tandem.search.calibration.calibrate import calibrate

    datasets, tests = existing(arguments.dataset), existing(arguments.test or [])
    model = load_model(arguments)
    confirm_replacing(model, yes=arguments.yes)
    captions, failures = read(model, datasets, arguments.caption, "embedding")
    held_out = None
    if tests:
        held_out, others = read(model, tests, arguments.caption, "embedding the test")
        failures += others
    calibration = calibrate(model.name, model.fingerprint, captions, held_out, names=[path.name for path in tests])
    kept = [save_calibration(calibration)]
    if arguments.out:
        kept.append(save_calibration(calibration, user_path(arguments.out)))
    if arguments.json:
        terminal.print_json(as_document(calibration, kept, failures))
    else:
        show(calibration)
    sys.stdout.flush()
    undo = f"{terminal.program()} calibrate --reset --model {shlex.quote(model.checkpoint.source)}"
    now = f"all searches of this account with {model.name} show relevance by it from now on"
    if not can_tell(calibration, "captions", "phrases", "images"):
        now = "it cannot tell for any kind of query: only the order will be shown"
    terminal.echo(f"kept in {' and in '.join(map(str, kept))}; {now}; to undo: {undo}")
    total = len(captions) + len(held_out or ()) + len(failures)
    terminal.echo_skipped([failure.error for failure in failures], total)
    return exit_code(done=total - len(failures), skipped=len(failures))


def reset(arguments: argparse.Namespace) -> int:
    """Forget this account's calibration of the model."""
    from tandem.scores.calibration_files import own_path, reset_calibration, shipped_path

    if arguments.dataset:
        raise TandemError("--reset takes no dataset")
    model = load_model(arguments)
    path, shipped = own_path(model.fingerprint), shipped_path(model)
    removed = reset_calibration(model.fingerprint)
    now = str(shipped) if shipped.is_file() else None
    if arguments.json:
        described = {"name": model.name, "fingerprint": model.fingerprint}
        terminal.print_json({"model": described, "removed": str(path) if removed else None, "calibration": now})
        return DONE
    terminal.print_result(f"removed {path}" if removed else f"{model.name} has no calibration of yours")
    terminal.print_result(
        f"searches use the one that came with the model: {now}" if now else "searches show no relevance"
    )
    return DONE


def confirm_replacing(model: "Model", *, yes: bool) -> None:
    """Ask before another calibration takes the place of the one that searches use now."""
    from tandem.scores.calibration_files import own_path, replaced_by_own

    replaced = replaced_by_own(model)
    if replaced is None:
        return
    before = "your own one" if replaced == own_path(model.fingerprint) else "the one that came with the model"
    terminal.confirm(
        f"{model.name} is calibrated already, by {before} ({replaced}). For all searches of this account, should the "
        "new calibration take its place?",
        yes=yes,
    )


def existing(names: Sequence[str]) -> list[Path]:
    """The files; `DataError` for the first that is not there."""
    paths = [user_path(name) for name in names]
    for path in paths:
        if not path.is_file():
            came = "this is a folder" if path.is_dir() else "no such file"
            raise DataError(f"{path}: {came}; expected a WebDataset tar or a Parquet file with images and captions")
    return paths


def read(model: "Model", paths: Sequence[Path], key: str | None, what: str) -> "tuple[CaptionSet, list[Failure]]":
    """The images and captions of some files, embedded, with a bar."""
    from tandem.search.calibration.caption_set import choose, embed, read_captioned

    samples = choose(read_captioned(paths, key))
    with progress.counting(what, 2 * len(samples)) as advance:
        return embed(model, samples, advance=advance)


def as_document(calibration: "Calibration", kept: Sequence[Path], failures: "Sequence[Failure]") -> dict[str, Any]:
    """What --json prints."""
    return {
        "model": {"name": calibration.model, "fingerprint": calibration.fingerprint},
        "threshold": calibration.threshold,
        "thresholds": {
            "text": calibration.text.threshold,
            "image": calibration.image.threshold,
            "mixed": calibration.mixed.threshold,
        },
        "areas": {kind: dict(areas) for kind, areas in calibration.areas.items()},
        "figures": calibration.figures,
        "files": [str(path) for path in kept],
        "failures": [failure.error.as_dict() for failure in failures],
    }


def can_tell(calibration: "Calibration", *kinds: "MeasuredKind") -> bool:
    """Whether relevance is shown for any of these kinds of query, among collections of any size that was measured."""
    from tandem.scores.relevance import MIN_AREA

    return any(area >= MIN_AREA for kind in kinds for area in calibration.areas.get(kind, {}).values())


def number(area: float | None) -> str:
    return "-" if area is None else f"{area:.3f}"


def shown(area: float | None) -> str:
    """Whether probabilities are shown where the area is this one."""
    from tandem.scores.relevance import MIN_AREA

    return "yes" if area is not None and area >= MIN_AREA else "no"


def show(calibration: "Calibration") -> None:
    """A short table: how well relevance tells, and how far what it says is from what is true."""
    from tandem.scores.relevance import MIN_AREA

    numbers = ("of images", "AUC", "own removed", "best matches", "predicted", "ECE", "of 0.5", "ECE, prior", "shown")
    drops = (0, 0, 6, 3, 0, 2, 4, 5, 0)
    columns = [Column("queries", least=7)]
    columns += [Column(name, right=True, drop=drop) for name, drop in zip(numbers, drops, strict=True)]
    rows = []
    for name, part in calibration.figures["queries"].items():
        for size, figures in part["collections"].items():
            auc = figures["auc_present_emptied"]
            rows.append((
                name,
                f"{int(size):,}",
                number(auc),
                number(figures["auc_present_removed"]),
                f"{figures['match_rate_best']:.1%}",
                f"{figures['mean_probability_best']:.1%}",
                f"{figures['ece_best']:.3f}",
                f"{figures['ece_of_half']:.3f}",
                f"{figures['ece_prior']:.3f}",
                shown(auc),
            ))  # fmt: skip
    if labels := calibration.figures.get("labels"):
        predicted, true = f"{labels['mean_probability']:.1%}", f"{labels['match_rate']:.1%}"
        ece, auc = f"{labels['ece']:.3f}", labels["auc"]
        rows.append(("labels", "1", number(auc), "-", true, predicted, ece, "-", "-", shown(auc)))
    print_table(columns, rows)
    sys.stdout.flush()
    if reason := calibration.labels_reason:
        terminal.echo(f"no row of labels, and no labels by themselves: {reason}")
    below = f" Below {calibration.threshold:.1%} nothing is said to match a text well."
    terminal.echo(
        f"{calibration.model}, on {calibration.figures['data']}. AUC: of the best hit's relevance, with all matches "
        f"present against taken out (chance 0.5), and of the probability of a label by itself; below {MIN_AREA} only "
        "the order is shown, no probability. ECE: the calibration error of best hits, half of the searches with no "
        "match present; beside it that of always saying 0.5. ECE, prior: a fifth of them with no match, as fitted."
        + (below if can_tell(calibration, "captions", "phrases") else "")
    )
