"""`tandem evaluate`: how good a model is on labelled or captioned photos; runs compared; figures in a card."""

import argparse
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from tandem.cli import progress, terminal
from tandem.cli.arguments import Parser, add_json, describe, listed, positive
from tandem.cli.exit_codes import DONE, exit_code
from tandem.cli.options.data import add_data, data_options
from tandem.cli.options.model import add_model, load_model
from tandem.errors import MissingExtraError, TandemError

if TYPE_CHECKING:
    from tandem.datasets.dataset import Dataset
    from tandem.evaluate.features import Features
    from tandem.evaluate.run_report import RunReport
    from tandem.model import Model

TASKS = ("auto", "zero-shot", "retrieval", "linear-probe", "few-shot", "fine-tune")
LEARNING = TASKS[3:]  # those that learn from labelled photos
FINE_TUNE = TASKS[-1]
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
        "--task", choices=TASKS, default=TASKS[0], metavar="T", help=f"{', '.join(TASKS)} (%(default)s)"
    )
    parser.add_argument(
        "--out", metavar="RUN", help="write the run to this folder: JSON, Markdown, and HTML with charts"
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
    data.add_argument("--skip-unreadable", action="store_true", help="leave out photos that cannot be read, and say so")
    data.add_argument("--no-cache", action="store_true", help="do not keep the photos' vectors for the next time")
    add_model(parser)


def run(arguments: argparse.Namespace) -> int:
    first, *rest = arguments.sources
    if first == COMPARE:
        return _compare(rest, arguments)
    if first == CARD:
        return _card(rest, arguments)
    return _evaluate(arguments)


def _evaluate(arguments: argparse.Namespace) -> int:
    from tandem.cli.evaluation_tables import print_results
    from tandem.evaluate.run_report import check_target, plain

    target = check_target(arguments.out) if arguments.out else None
    with progress.waiting("reading the data"):
        datasets = [_open(source, arguments) for source in arguments.sources]
        train = _open_train(arguments)
    with progress.resumable():
        report, skipped = (_fine_tuned if arguments.task == FINE_TUNE else _measured)(datasets, train, arguments)
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
    return exit_code(done=sum(map(len, datasets)) - skipped, skipped=skipped)


def _measured(
    datasets: "list[Dataset]", train: "Dataset | None", arguments: argparse.Namespace
) -> "tuple[RunReport, int]":
    """The run over all data sets, and how many photos could not be read."""
    from tandem.evaluate.evaluating import measured, plan
    from tandem.evaluate.records import ModelRecord
    from tandem.evaluate.run_report import RunReport

    settings = {"language": arguments.language, "seed": arguments.seed}
    planned = [(dataset, plan(arguments.task, dataset, settings)) for dataset in datasets]
    given = {**settings, "cache": not arguments.no_cache}
    model = _model_for(datasets, arguments)
    skipped: dict[str, int] = {}

    def embed(dataset: "Dataset") -> "Features":
        features = _embed(model, dataset, arguments)
        skipped[dataset.hash] = len(dataset) - len(features)
        return features

    results, shown = [], []
    for dataset, entries in planned:
        for features, result in measured(model, dataset, entries, train, given, embed, progress.waiting):
            results.append(result)
            shown.append(features.dataset)
    return RunReport.of(ModelRecord.of(model), results, shown), sum(skipped.values())


def _fine_tuned(
    datasets: "list[Dataset]", train: "Dataset | None", arguments: argparse.Namespace
) -> "tuple[RunReport, int]":
    """Fine-tune on --train and measure on the first data set; the others say what it cost."""
    from tandem.evaluate.evaluating import halves
    from tandem.evaluate.records import ModelRecord
    from tandem.evaluate.run_report import RunReport
    from tandem.files import user_path
    from tandem.model import SHIPPED

    if any(not dataset.classes for dataset in (train, datasets[0]) if dataset):
        raise TandemError("fine-tune: expected photos with labels")
    if not arguments.out:
        raise TandemError("fine-tune: expected --out RUN: the fine-tuned model is kept beside it")
    test, *elsewhere = datasets
    if train is None:
        train, test = halves(test, arguments.seed)
    if find_spec("torch") is None:
        raise MissingExtraError("torch", "train", "--task fine-tune")
    from tandem.train.fine_tune import fine_tune

    run = user_path(arguments.out)
    folder = run.with_name(f"{run.name}-training")
    model = load_model(arguments)
    result = fine_tune(
        arguments.model or str(SHIPPED),
        train,
        test,
        folder=folder,
        seed=arguments.seed,
        templates=arguments.template,
        elsewhere=elsewhere,
        **({} if arguments.steps is None else {"steps": arguments.steps}),
    )
    terminal.echo(f"the fine-tuned model: {folder / 'wise-ft'}")
    return RunReport.of(ModelRecord.of(model), [result], [test]), 0


def _open(source: str, arguments: argparse.Namespace, **changes: Any) -> "Dataset":
    from tandem.datasets.opening import open_dataset

    return open_dataset(source, **(data_options(arguments) | changes))


def _open_train(arguments: argparse.Namespace) -> "Dataset | None":
    """What --train names, or the split `train` of the data set itself; of either the split `train` where it has one."""
    from tandem.datasets.opening import dataset_splits

    if arguments.task not in LEARNING:
        if arguments.train:
            raise TandemError(f"--train goes with --task {listed(LEARNING)}, not with {arguments.task}")
        return None
    source = arguments.train or arguments.sources[0]
    has_train = "train" in dataset_splits(source, layout=arguments.layout)
    if not arguments.train and (not has_train or len(arguments.sources) > 1):
        return None
    return _open(source, arguments, split="train" if has_train else None, limit=None)


def _model_for(datasets: "list[Dataset]", arguments: argparse.Namespace) -> "Model":
    """The model that was named; without a name that of the collection, where the first data set is one."""
    if arguments.model is None and datasets[0].layout == "collection":
        from tandem.search.collection import open_collection

        with open_collection(datasets[0].source) as photos, progress.waiting("loading the model"):
            return photos.model
    return load_model(arguments)


def _embed(model: "Model", dataset: "Dataset", arguments: argparse.Namespace) -> "Features":
    """The vectors of a data set; what cannot be read is said after all others were computed, and kept."""
    from tandem.evaluate.features import embed_dataset

    shown = False if terminal.is_quiet() else None
    features = embed_dataset(model, dataset, cache=not arguments.no_cache, on_error="skip", progress=shown)
    if len(features) < len(dataset) and not arguments.skip_unreadable:
        raise TandemError(
            f"{dataset.name}: {features.dataset.notes[-1].removesuffix(': left out')}; --skip-unreadable measures "
            "without them"
        )
    return features


def _compare(folders: list[str], arguments: argparse.Namespace) -> int:
    from tandem.cli.evaluation_tables import print_comparison
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
        print(comparison_markdown(comparison), end="")
    return DONE


def _card(given: list[str], arguments: argparse.Namespace) -> int:
    from tandem.evaluate.report.card import write_card
    from tandem.evaluate.run_report import RunReport

    if len(given) != 2:
        raise TandemError("card: expected a run and a Markdown file, as in: tandem evaluate card runs/a README.md")
    folder, card = given
    path = write_card(RunReport.load(folder), card)
    if arguments.json:
        terminal.print_json({"card": str(path)})
    terminal.echo(f"wrote the figures to {path}")
    return DONE
