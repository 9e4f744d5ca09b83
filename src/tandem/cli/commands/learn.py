"""`tandem learn`: a few labelled photos -> a head, a small file that classifies with their classes."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tandem.cli import progress, terminal
from tandem.cli.arguments import Parser, add_json, describe
from tandem.cli.exit_codes import DONE, SOME_SKIPPED
from tandem.cli.options.collection import complete_collections
from tandem.cli.options.data import add_data, data_options, given_data_options
from tandem.cli.options.model import add_model, describe_model, load_model, loading
from tandem.errors import HeadError, TandemError, named

if TYPE_CHECKING:
    from tandem.datasets.dataset import Dataset
    from tandem.evaluate.learning import Learned
    from tandem.model import Model


def add_arguments(parser: Parser) -> None:
    describe(
        parser,
        "Learn to tell classes apart from a few labelled photos, and say what that is worth: the accuracy on photos "
        "that were left out, beside that of the labels alone (zero-shot). The head is a small file for one model; "
        "classify, label, serve and tandem.load(...).classify take it. From one photo of each class on.",
        "tandem learn animals --to animals.tandem-head",
        "tandem learn animals --to animals.tandem-head --model ViT-B/32 --classes names.csv",
        "tandem learn photos.tandem --table labels.csv --to animals.tandem-head",
        "tandem classify new.jpg --head animals.tandem-head",
    )
    source = parser.add_argument(
        "source",
        metavar="DATA",
        help="a folder with a folder of photos for each class, another data set (Parquet, tars, CSV), or a collection, "
        "whose photos are not read again",
    )
    complete_collections(source)
    parser.add_argument("--to", metavar="F", required=True, help="the file to write, such as animals.tandem-head")
    parser.missing["--to"] = (
        "no target: say what to learn from, and where to write the head: tandem learn animals --to animals.tandem-head"
    )
    parser.missing["DATA"] = "no data: say what to learn from: a folder with a folder of photos for each class"
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")
    parser.add_argument("-y", "--yes", action="store_true", help="with --overwrite: even if the new head lacks classes")
    parser.add_argument(
        "--method",
        default="auto",
        metavar="M",
        help="clap holds classes near their names, and is sound from one photo of each; gda needs several of each; "
        "auto takes the one that is better for so many (%(default)s)",
    )
    data = parser.add_argument_group("data")
    data.add_argument(
        "--table",
        metavar="F",
        help="of a collection: a CSV or TSV file with the id, path or file name of some photos, and their labels",
    )
    add_data(data, limit="learn from N photos, drawn with --seed", seed="of draws, folds and resamples", captions=False)
    data.add_argument("--language", metavar="L", help="the language of the names, such as de")
    add_json(parser)
    add_model(parser)


def run(arguments: argparse.Namespace) -> int:
    from tandem.cli import learn_report
    from tandem.evaluate.features import embed_dataset
    from tandem.evaluate.learning import check_classes, learn
    from tandem.heads.fitting import check_learned
    from tandem.heads.head_file import check_target, write_head

    check_learned(arguments.method)
    dataset = _dataset(arguments)
    try:
        target = check_target(arguments.to, overwrite=arguments.overwrite)
    except HeadError as error:
        raise HeadError(str(error).replace("say overwrite", "say --overwrite")) from None
    check_classes(dataset)  # before a model is loaded and photos are read
    if not arguments.yes:
        _check_replaced(target, dataset)
    model = _model(dataset, arguments)
    found = embed_dataset(model, dataset, on_error="skip", progress=False if terminal.is_quiet() else None)
    with progress.waiting("learning"):
        learned = learn(
            model,
            found,
            method=arguments.method,
            templates=arguments.template,
            language=arguments.language,
            seed=arguments.seed,
        )
        write_head(learned.head, target, overwrite=arguments.overwrite)
    if arguments.json:
        terminal.print_json(_document(learned, target))
    else:
        learn_report.show(learned, target, model.checkpoint.source)
    return DONE if len(found) == len(dataset) else SOME_SKIPPED


def _check_replaced(target: Path, dataset: "Dataset") -> None:
    """Raise `HeadError` where the head that would be replaced knows classes that the data lacks."""
    from tandem.heads.head_file import read_head

    try:
        before = read_head(target).classes if target.exists() else ()
    except HeadError:
        return  # no head: it has no classes to lose
    lost = [name for name in before if name not in dataset.classes]
    if lost:
        raise HeadError(
            f"{target}: the new head would not know {named(lost)}, which this one does; learn from the photos of all "
            "classes together, or say --yes"
        )


def _dataset(arguments: argparse.Namespace) -> "Dataset":
    with progress.waiting("looking at the data"):
        if arguments.table is None:
            from tandem.datasets.opening import open_dataset

            return open_dataset(arguments.source, **data_options(arguments))
        from tandem.datasets.labelled_collection import open_labelled_collection

        beside = [each for each in given_data_options(arguments) if each not in ("--classes", "--template")]
        if beside:
            raise TandemError(
                f"--table and {beside[0]} cannot go together: the table says which photos have which label"
            )
        return open_labelled_collection(arguments.source, arguments.table, classes=arguments.classes)


def _model(dataset: "Dataset", arguments: argparse.Namespace) -> "Model":
    """The model: that of the collection, where it is one, and no other was asked for."""
    if dataset.stored is None or arguments.model is not None:
        return load_model(arguments)
    from tandem.search.collection import open_collection

    with open_collection(arguments.source, must_exist=True, **loading(arguments)) as photos:
        with progress.waiting("loading the model"):
            model = photos.model
        describe_model(model)
        return model


def _document(learned: "Learned", target: Path) -> dict[str, Any]:
    """What --json prints: the head's card, and the file."""
    head = learned.head
    return {
        "file": str(target),
        "classes": [each.as_dict() for each in learned.classes],
        "fingerprint": head.fingerprint,
        **head.card,
    }
