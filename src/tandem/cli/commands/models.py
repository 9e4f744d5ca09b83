"""`tandem models`: published checkpoints that can be loaded by name, with what helps to choose one."""

import argparse
import sys
from typing import TYPE_CHECKING

from tandem.cli import progress, terminal
from tandem.cli.arguments import Parser, add_json, describe
from tandem.cli.exit_codes import DONE
from tandem.cli.options.model import load_source
from tandem.cli.tables import Cell, Column, Value, print_table
from tandem.errors import TandemError

if TYPE_CHECKING:
    from tandem.precisions import Candidate
    from tandem.weights import KnownModel

COLUMNS = (
    Column(),
    Column("name", least=30),
    Column("family", least=8, drop=10),
    Column("parameters", right=True, drop=2),
    Column("dim", right=True, drop=9),
    Column("pixels", right=True, drop=5),
    Column("GFLOP", right=True, drop=7),
    Column("languages", drop=4),
    Column("ImageNet", right=True, drop=1),
    Column("XM3600", right=True, drop=8),
    Column("images/s", right=True, drop=3),
    Column("licence", least=10, drop=6),
    Column("download", right=True, drop=12),
    Column("hub", least=12, drop=11),
)
SORTED_BY = {"cpu": "GFLOP", "languages": "XM3600", "quality": "ImageNet"}


def add_arguments(parser: Parser) -> None:
    describe(
        parser,
        "List published checkpoints that --model takes by name: parameters, dimensions, image size, languages, "
        "licence, published figures and whether each is on this machine. ImageNet is zero-shot accuracy, XM3600 "
        "text-to-image recall over 36 languages, both in percent and with their sources under --json; images/s is what "
        "--measure found here. When piped, each line is here or -, name, family, parameters, dimensions, "
        "pixels, GFLOP an image, languages, ImageNet, XM3600, images/s, licence, bytes to download and hub "
        "name, separated by tabs.",
        "tandem models --for languages",
        "tandem models --measure ViT-B-16-SigLIP2-256 MobileCLIP2-S0",
    )
    parser.add_argument(
        "--for",
        dest="purpose",
        choices=("cpu", "languages", "quality"),
        metavar="USE",
        help="cpu: only the models that no other one beats in both accuracy and work per image, by GFLOP; languages: "
        "by XM3600; quality: by ImageNet",
    )
    parser.add_argument(
        "--measure",
        nargs="+",
        metavar="NAME",
        help="measure images/s of these on this machine and list them alone: the best of several rounds, since other "
        "work slows them down; with random weights of the same shapes, so nothing is downloaded",
    )
    parser.add_argument(
        "--precision",
        choices=("float32", "bfloat16"),
        default="float32",
        metavar="P",
        help="of images/s: float32 (default) or bfloat16",
    )
    parser.add_argument(
        "--explain",
        metavar="MODEL",
        help="which precision --precision auto takes for this model on this machine, and why: the fastest that agrees "
        "with float32 as promised, bfloat16 or a model that tandem quantize made of it. Measured once, and again when "
        "there are other quantised models or versions; from then on used wherever no precision is given. Without a "
        "measurement auto is float32. A quantised model is taken by classify and embed alone: where a collection, a "
        "head or a calibration belongs to the model, auto keeps its weights",
    )
    parser.add_argument(
        "--again", action="store_true", help="with --explain: measure again even if nothing has changed"
    )
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    if arguments.explain is not None:
        beside = {"--for": arguments.purpose, "--measure": arguments.measure}
        if given := next((option for option, value in beside.items() if value), None):
            raise TandemError(f"--explain and {given} cannot go together: leave one of them out")
        return explain(arguments)
    if arguments.again:
        raise TandemError("--again goes with --explain MODEL: add it")
    from tandem import weights
    from tandem.cli import speeds
    from tandem.processor import processor
    from tandem.weights.choosing import ordered_for, unbeaten

    models: list[KnownModel] = weights.known_models()
    if arguments.measure:
        models = list(dict.fromkeys(map(_named, arguments.measure)))
        _measure(models, arguments.precision)
    elif arguments.purpose == "cpu":
        models = unbeaten(models)
    if arguments.purpose:
        models = ordered_for(arguments.purpose, models)
    rates = speeds.load(arguments.precision)
    if arguments.json:
        document = {"models": [_document(model, speeds.speed_of(model, rates)) for model in models]}
        terminal.print_json({"precision": arguments.precision, "processor": processor(), **document})
        return DONE
    rows = [_row(model, speeds.speed_of(model, rates)) for model in models]
    if sys.stdout.isatty():
        _print_for_people(rows, arguments.purpose)
    else:
        print_table(COLUMNS, rows)
    sys.stdout.flush()
    if sys.stdout.isatty():
        if arguments.purpose == "cpu" and not arguments.measure:
            terminal.echo("No other model beats these in both GFLOP and ImageNet; `tandem models` lists them all.")
        terminal.echo("● marks models on this machine. --model also takes any other folder, file or hub name.")
    return DONE


def explain(arguments: argparse.Namespace) -> int:
    """What auto means for a model, measured if it was not yet, or other candidates were."""
    from tandem import precisions
    from tandem.quantize.explaining import measure, outdated

    with progress.waiting("loading the model"):
        model = load_source(arguments.explain, None, instead="explain")
    choice = precisions.chosen(model.fingerprint)
    if choice is not None and (why := "--again" if arguments.again else outdated(choice, model)):
        terminal.echo(f"measuring again: {why}")
        choice = None
    if choice is None:
        choice = measure(model, terminal.echo)
        kept = precisions.remember(choice)
        terminal.echo(f"kept in {kept}; delete that file, and auto is float32 again for every model")
    if arguments.json:
        terminal.print_json(
            {
                "model": {"name": choice.model, "fingerprint": choice.fingerprint},
                "auto": _candidate(choice.best),
                "auto_same_weights": _candidate(choice.same_weights),
                "reason": choice.reason,
                "candidates": [_candidate(each) for each in choice.candidates],
            }
        )
        return DONE
    columns = (
        Column("precision"),
        Column("images/s", right=True),
        Column("texts/s", right=True, drop=1),
        Column("top-1", right=True),
        Column("neighbours", right=True, drop=2),
        Column("promise"),
        Column("folder", least=16, keep_end=True),
    )
    print_table(
        columns,
        [
            [
                each.name,
                _stable(each.images_per_second),
                _stable(each.texts_per_second),
                f"{each.top1:.1%}",
                f"{each.neighbours:.1%}",
                "kept" if each.keeps_promise else "not kept",
                each.folder or "",
            ]
            for each in choice.candidates
        ],
    )
    best = choice.best
    terminal.print_result(f"auto is {best.name} for {choice.model} here: {choice.reason}")
    if best.folder is not None:
        terminal.print_result(
            f"that is {best.folder}, for classify and embed; with collections, heads and calibrations of "
            f"{choice.model} auto is {choice.same_weights.name}"
        )
    return DONE


def _candidate(candidate: "Candidate") -> dict[str, object]:
    """As --json says it: what computes, by name, and the folder and fingerprint of the model that does."""
    return {"name": candidate.name, **vars(candidate)}


def _print_for_people(rows: list[list[Value]], purpose: str | None) -> None:
    """The column that the rows are sorted by stays at every width; images/s is shown once something was measured."""
    by = SORTED_BY.get(purpose or "quality")
    empty = {
        column.heading
        for at, column in enumerate(COLUMNS)
        if column.heading == "images/s" and not any(isinstance(row[at], Cell) and row[at][0] for row in rows)
    }
    hidden = empty if purpose == "cpu" else empty | {"GFLOP"}
    kept = [at for at, column in enumerate(COLUMNS) if column.heading not in hidden]
    columns = [column._replace(drop=0) if column.heading == by else column for column in COLUMNS]
    print_table([columns[at] for at in kept], [[row[at] for at in kept] for row in rows])


def _named(text: str) -> "KnownModel":
    from tandem.weights import known_models, unlisted_families
    from tandem.weights.published import candidates, find, near_names

    if found := find(text):
        return found[0]
    for model in known_models():
        if model.name == text:
            return model
    if says := unlisted_families.answer(text):
        raise TandemError(f"--measure: {text!r}: {says}")
    meant = candidates(text) or near_names(text)
    raise TandemError(
        f"--measure: {text!r} is none of the models listed" + (f"; near: {', '.join(meant)}" if meant else "")
    )


def _measure(models: "list[KnownModel]", precision: str) -> None:
    from tandem.cli import speeds

    for model in models:
        with progress.waiting(f"measuring {model.name}"):
            speeds.measure(model, precision)


def _row(model: "KnownModel", rate: float | None) -> list[Value]:
    return [
        Cell("●" if model.cached else " ", plain="here" if model.cached else "-", style=terminal.ACCENT),
        Cell(model.name, style="bold" if model.cached else ""),
        model.family,
        Cell(f"{model.parameters / 1e6:,.0f} M", plain=str(model.parameters)),
        str(model.embed_dim),
        str(model.image_size),
        Cell(f"{model.gflops:,.0f}", plain=f"{model.gflops:g}"),
        model.languages,
        _figure(model.imagenet),
        _figure(model.xm3600),
        Cell("") if rate is None else Cell(_stable(rate), plain=f"{rate:g}"),
        model.licence,
        Cell(_download(model.download_bytes), plain="" if model.download_bytes is None else str(model.download_bytes)),
        model.hub,
    ]


def _figure(figure: float | None) -> Cell:
    return Cell("") if figure is None else Cell(f"{figure:.1f}", plain=f"{figure:g}")


def _stable(rate: float) -> str:
    """Two digits: the third differs from one measurement to the next."""
    return f"{float(f'{rate:.2g}'):,g}"


def _document(model: "KnownModel", rate: float | None) -> dict[str, object]:
    document = {key: value for key, value in vars(model).items() if key not in ("file", "sha256")}
    return {**document, "cached": model.cached, "images_per_second": rate}


def _download(size_bytes: int | None) -> str:
    if size_bytes is None:
        return ""  # known when the hub is asked, not before
    return f"{size_bytes / 1e6:,.0f} MB" if size_bytes else "inside"
