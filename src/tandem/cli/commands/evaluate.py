"""`tandem evaluate`: how good a model is on labelled or captioned photos; runs compared; figures in a card."""

import argparse
import sys
from typing import TYPE_CHECKING, Any

from tandem.cli import progress, terminal
from tandem.cli.arguments import Parser, add_json, describe, listed, positive
from tandem.cli.exit_codes import DONE, exit_code
from tandem.cli.options.data import add_data, data_options
from tandem.cli.options.labels import add_ensemble, given_templates
from tandem.cli.options.model import add_model, model_for
from tandem.errors import TandemError
from tandem.evaluate.task_table import AUTO, TASKS

if TYPE_CHECKING:
    from pathlib import Path

    from tandem.datasets.dataset import Dataset
    from tandem.model import Model

LEARNING = [entry.name for entry in TASKS.values() if entry.learns]
COMPARE, CARD = "compare", "card"


def add_arguments(parser: Parser) -> None:
    describe(
        parser,
        "Measure a model on photos with labels or captions: a folder of classes, Parquet files, tars (WebDataset, "
        "CLIP_benchmark), a captions file of COCO, a CSV table, or a collection with a column of labels. Labels are "
        "measured by zero-shot classification, captions by retrieval. Every figure stands with its 95% interval, "
        "with what guessing would give, and with the number of photos or queries. When piped, each line is data set, "
        "task, figure, value, the interval's two ends, chance and n, separated by tabs.\n"
        "`tandem evaluate compare RUN RUN ...` compares what --out wrote, photo by photo, and says where no "
        "difference is shown. `tandem evaluate card RUN README.md` writes a run's figures into a model card.",
        "tandem evaluate photos/ --out runs/mine",
        "tandem evaluate flickr8k/test-00000.tar --model ViT-B/32 --limit 1000",
        "tandem evaluate pets/ --task few-shot --out runs/pets",
        "tandem evaluate compare runs/mine runs/other",
    )
    parser.add_argument(
        "sources", nargs="+", metavar="DATASET", help="a data set; or compare and two runs or more; or card and a run"
    )
    parser.missing["sources"] = parser.missing["DATASET"] = (
        "no data set: give a folder of classes, a Parquet file, a tar, a captions file or a collection"
    )
    parser.add_argument(
        "--task", choices=(AUTO, *TASKS), default=AUTO, metavar="T", help=f"{', '.join((AUTO, *TASKS))} (%(default)s)"
    )
    parser.add_argument(
        "--out", metavar="RUN", help="write the run to this folder: JSON, Markdown, and HTML with charts"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace a run of another model or other data in RUN; else refused"
    )
    add_json(parser)
    data = parser.add_argument_group("data")
    data.add_argument(
        "--train",
        metavar="DATASET",
        help=f"what {listed(LEARNING)} learn from (default: the split train, else half of the photos of each class)",
    )
    data.add_argument("--steps", type=positive, metavar="N", help="training steps of fine-tune (default: its own)")
    add_data(data, limit="measure on N photos, drawn with --seed")
    data.add_argument("--language", metavar="L", help="the language of the classes' names, such as de")
    add_ensemble(data)
    data.add_argument("--skip-unreadable", action="store_true", help="leave out photos that cannot be read, and say so")
    data.add_argument("--no-cache", action="store_true", help="do not keep the photos' vectors for the next time")
    add_model(parser)


def run(arguments: argparse.Namespace) -> int:
    first, *rest = arguments.sources
    if first in (COMPARE, CARD):
        _refuse_options(first, arguments)
    if first == COMPARE:
        return _compare(rest, arguments)
    if first == CARD:
        return _card(rest, arguments)
    return _evaluate(arguments)


def _refuse_options(verb: str, arguments: argparse.Namespace) -> None:
    """Runs are stored: nothing is measured, so what says how is refused."""
    parser = Parser(add_help=False)
    add_arguments(parser)
    usual = vars(parser.parse_args([verb]))
    for name in usual.keys() - {"sources", "json", "out"}:
        if getattr(arguments, name) != usual[name]:
            raise TandemError(f"--{name.replace('_', '-')} does not go with {verb}, which measures nothing")


def _evaluate(arguments: argparse.Namespace) -> int:
    from tandem.cli.evaluation_tables import print_results
    from tandem.evaluate.evaluating import prepare
    from tandem.evaluate.readable import UnreadableImagesError
    from tandem.evaluate.run_report import check_target, plain, refuse_other_run
    from tandem.evaluate.stored_run import RESULT

    target = check_target(arguments.out) if arguments.out else None
    with progress.waiting("reading the data"):
        datasets = [_open(source, arguments) for source in arguments.sources]
        settings = _settings(arguments, target)
        plan = prepare(datasets, task=arguments.task, train=_open_train(arguments), settings=settings)
    model: Model | str | None = arguments.model
    kept = None if arguments.overwrite else target  # a run there is only replaced by one of the same model and data
    if plan.trains:
        _refuse_engines(arguments)
        if kept and (kept / RESULT).is_file():
            raise TandemError(f"{kept}: holds a run; give another folder, or --overwrite to replace it")
    else:
        loaded = model = model_for(datasets[0], arguments)
        if kept and arguments.task not in LEARNING and not arguments.skip_unreadable:  # which measure on fewer photos
            refuse_other_run(kept, loaded.fingerprint, [data.hash for data in plan.datasets])
    try:
        with progress.resumable():
            report = plan.run(
                model,
                cache=not arguments.no_cache,
                on_error="skip" if arguments.skip_unreadable else "raise",
                progress=False if terminal.is_quiet() else None,
                waiting=progress.waiting,
            )
    except UnreadableImagesError as error:
        raise TandemError(f"{error}; --skip-unreadable measures without them") from None
    if plan.trains:
        terminal.echo(f"the fine-tuned model: {settings['folder'] / 'wise-ft'}")
    if kept:
        refuse_other_run(kept, report.model.fingerprint, [result.dataset.hash for result in report.results])
    if target:
        with progress.waiting("writing the report"):
            report.save(target)
    if arguments.json:
        terminal.print_json(plain(report.as_dict()) | ({"run": str(target)} if target else {}))
    else:
        print_results(report.results)
    sys.stdout.flush()
    for note in dict.fromkeys(note for result in report.results for note in result.notes):
        terminal.echo(note)
    if target:
        terminal.echo(f"wrote {target / 'report.html'}, and the same as Markdown and JSON")
    elif not arguments.json:
        terminal.echo("--out RUN writes a report with charts, the worst classes and pictures")
    return exit_code(done=sum(result.dataset.images for result in report.results), skipped=report.skipped)


def _settings(arguments: argparse.Namespace, target: "Path | None") -> dict[str, Any]:
    """What tasks take. What was not given is None: a task that does not have it is not asked for it."""
    settings = {name: getattr(arguments, name) for name in ("language", "steps", "seed")}
    trains = arguments.task in TASKS and TASKS[arguments.task].trains
    if trains and target is None:
        raise TandemError(f"{arguments.task}: expected --out RUN: the fine-tuned model is kept beside it")
    folder = target.with_name(f"{target.name}-training") if trains and target else None
    return settings | {"templates": given_templates(arguments), "folder": folder}


def _refuse_engines(arguments: argparse.Namespace) -> None:
    """Training computes by torch, as its recipe says."""
    for name, usual in (("engine", ("auto", "torch")), ("device", (None,)), ("precision", ("auto", "float32"))):
        if getattr(arguments, name) not in usual:
            raise TandemError(
                f"--{name} does not go with {arguments.task}, which trains and measures by torch in float32"
            )
    if arguments.activation is not None:
        raise TandemError(f"--activation does not go with {arguments.task}: give a model whose files say it")


def _open(source: str, arguments: argparse.Namespace, **changes: Any) -> "Dataset":
    from tandem.datasets.opening import open_dataset

    return open_dataset(source, **(data_options(arguments) | changes))


def _open_train(arguments: argparse.Namespace) -> "Dataset | None":
    """What --train names, or the split `train` of the data set itself; of either the split `train` where it has one."""
    from tandem.evaluate.evaluating import open_train_split

    if arguments.task not in LEARNING:
        if arguments.train:
            raise TandemError(f"--train goes with --task {listed(LEARNING)}, not with {arguments.task}")
        return None
    if not arguments.train:
        only = arguments.sources[0] if len(arguments.sources) == 1 else None
        return None if only is None else open_train_split(only, **data_options(arguments))
    found = open_train_split(arguments.train, **data_options(arguments))
    return found or _open(arguments.train, arguments, split=None, limit=None)


def _compare(folders: list[str], arguments: argparse.Namespace) -> int:
    from tandem.cli.comparison_tables import print_comparison
    from tandem.evaluate.comparison import compare
    from tandem.evaluate.report.side_by_side import comparison_as_dict, comparison_markdown
    from tandem.evaluate.run_report import RunReport, plain

    if len(folders) < 2:
        raise TandemError("compare: expected at least two runs, as in: tandem evaluate compare runs/a runs/b")
    if arguments.out:
        raise TandemError("compare prints Markdown where its output is redirected: tandem evaluate compare A B > a.md")
    comparison = compare([RunReport.load(folder) for folder in folders], folders)
    if arguments.json:
        terminal.print_json(plain(comparison_as_dict(comparison)))
    elif sys.stdout.isatty():
        print_comparison(comparison)
    else:
        terminal.print_lines(comparison_markdown(comparison), end="")
    return DONE


def _card(given: list[str], arguments: argparse.Namespace) -> int:
    from tandem.evaluate.report.card import write_card
    from tandem.evaluate.run_report import RunReport

    if len(given) != 2:
        raise TandemError("card: expected a run and a Markdown file, as in: tandem evaluate card runs/a README.md")
    if arguments.out:
        raise TandemError("--out does not go with card, which writes into the Markdown file")
    folder, card = given
    path = write_card(RunReport.load(folder), card)
    if arguments.json:
        terminal.print_json({"card": str(path)})
    terminal.echo(f"wrote the figures to {path}")
    return DONE
