"""`tandem label`: the best photos of every label, or the best labels of every photo, for a whole collection."""

import argparse
import sys
from typing import TYPE_CHECKING, Any

from tandem.cli import progress, terminal
from tandem.cli.arguments import Parser, add_json, add_paths_only, check_paths_only, describe, positive
from tandem.cli.exit_codes import DONE
from tandem.cli.options.collection import add_collection, add_where, explain_empty, open_collection
from tandem.cli.options.head import add_head, read_head, scoring_of
from tandem.cli.options.labels import add_labels, read_labels, read_templates
from tandem.cli.options.model import add_model, describe_model
from tandem.cli.options.tagging import add_tagging, check_tagging, is_tagging
from tandem.defaults import HITS, LABELS
from tandem.errors import TandemError
from tandem.files import user_path
from tandem.videos.naming import file_of

if TYPE_CHECKING:
    from tandem import prompts
    from tandem.arrays import Vectors
    from tandem.heads.head import Head
    from tandem.model import Model
    from tandem.scores.scoring import Scoring


def add_arguments(parser: Parser) -> None:
    describe(
        parser,
        "Find the best photos for every label, or with --by image the best labels for every photo. Any words can be "
        "labels. When piped, each line is label, probability, cosine (with --head the logit) and path, or with --by "
        "image path, label and probability, separated by tabs.",
        "tandem label photos.tandem --labels cat,dog,beach,receipt",
        "tandem label photos.tandem --labels dog,snow,people --by image",
        "tandem label photos.tandem --labels-file labels.txt --by image --top 3 --out labels.csv",
        "tandem label photos.tandem --head animals.tandem-head --by image",
        "tandem label photos.tandem --labels dog,snow,people,other --write-xmp --dry-run",
        "tandem label photos.tandem --labels dog,snow,people,other --albums albums",
    )
    add_collection(parser)
    add_labels(parser)
    add_head(parser)
    parser.add_argument("--by", choices=("label", "image"), default="label", help="what to list (%(default)s)")
    parser.add_argument(
        "--top",
        type=positive,
        metavar="K",
        help=f"photos per label ({HITS}), or with --by image labels per photo ({LABELS})",
    )
    add_where(parser)
    parser.add_argument("--out", metavar="F", help="write all results to labels.csv, labels.jsonl or labels.parquet")
    add_paths_only(parser)
    add_tagging(parser)
    add_json(parser)
    add_model(parser)


def run(arguments: argparse.Namespace) -> int:
    from tandem.cli import label_rows, label_tagging, row_files
    from tandem.search.indexing.entries import is_missing
    from tandem.search.labelling import top_images, top_labels

    check_paths_only(arguments)
    check_tagging(arguments)
    head = read_head(arguments)
    given, templates = ([], []) if head else (read_labels(arguments), read_templates(arguments))
    labels = list(head.classes if head else given)
    target = user_path(arguments.out) if arguments.out else None
    if target:
        row_files.check_target(target)
    if arguments.paths_only and arguments.by == "image":
        raise TandemError("--paths-only goes with --by label: with --by image every photo is listed")
    with open_collection(arguments) as photos:
        with progress.waiting("loading the model"):
            vectors, scoring = _vectors_and_scoring(arguments, photos.model, head, given, templates)
        describe_model(photos.model)
        if is_tagging(arguments):
            return label_tagging.run(arguments, photos, labels, vectors, scoring)
        k = arguments.top or (HITS if arguments.by == "label" else LABELS)
        options = {"k": k, "where": arguments.where, "scoring": scoring}
        document: dict[str, Any] = {
            "collection": arguments.collection,
            "model": {"name": photos.model.name, "fingerprint": photos.model.fingerprint},
            "by": arguments.by,
            "scoring": scoring.kind,
        }
        if arguments.by == "label":
            with progress.waiting("labelling"):
                best = top_images(photos.store, vectors, **options)
            document["labels"] = label_rows.by_label(photos.store, labels, best, target)
            none = not any(found["images"] for found in document["labels"])
        else:
            parts = top_labels(photos.store, vectors, columns=("path",), **options)
            total = photos.store.count(arguments.where)
            document |= label_rows.by_image(parts, labels, total, target, scoring.kind, json=arguments.json)
            none = total == 0
        if arguments.json:
            terminal.print_json(document | ({"file": str(target)} if target else {}))
        elif arguments.paths_only:
            paths = [image["path"] for found in document["labels"] for image in found["images"]]
            named = list(dict.fromkeys(filter(None, paths)))
            there = list(dict.fromkeys(file_of(path) for path in named if not is_missing([path])))
            gone = sum(is_missing([path]) for path in named)
            terminal.print_paths(there, null=arguments.null)
            if gone:
                terminal.echo(f"left out {terminal.count_of(gone)} whose files are gone")
        elif arguments.by == "label":
            label_rows.show_labels(document["labels"], scoring.kind)
        elif target:
            label_rows.show_counts(document["best"])
        sys.stdout.flush()
        if none:
            explain_empty(photos, arguments.where)
    if target:
        terminal.echo(f"wrote {target}")
    return DONE


def _vectors_and_scoring(
    arguments: argparse.Namespace, model: "Model", head: "Head | None", labels: "prompts.Labels", templates: list[str]
) -> "tuple[Vectors, Scoring]":
    """The vectors of labels [c d], or a head's weights, and how products with them become probabilities."""
    if head:
        return head.weights, scoring_of(model, head, arguments.head, is_chosen=False)
    language, long = arguments.language, arguments.long
    vectors = model.class_vectors(labels, templates, language=language, long=long)
    options = {"templates": templates, "language": language, "long": long}
    return vectors, model.scoring(vectors, independent=arguments.independent, **options)
