"""The options of labels and prompt templates."""

import argparse
import re
from collections.abc import Mapping

from tandem import prompts
from tandem.cli import terminal
from tandem.cli.arguments import Group, Parser
from tandem.cli.inputs import read_lines
from tandem.cli.options.texts import add_long
from tandem.errors import TandemError
from tandem.files import user_path


def add_labels(parser: Parser) -> None:
    """`--labels`, `--labels-file`, `--language`, `--template`, `--ensemble`, `--independent` and `--long`."""
    parser.add_argument("--labels", metavar="A,B,...", help="the labels, separated by commas")
    parser.add_argument(
        "--labels-file",
        metavar="F",
        help="a file of labels, one per line (- for standard input), or a .csv with a column for each language",
    )
    parser.add_argument(
        "--language",
        metavar="L",
        help="the language of the labels, such as de: its column of the file, and prompts in it",
    )
    parser.add_argument(
        "--template",
        action="append",
        metavar="T",
        help=f'a prompt with {{}} for the label; several are averaged (default: "{prompts.DEFAULT_TEMPLATE}")',
    )
    add_ensemble(parser)
    parser.add_argument(
        "--independent",
        action="store_true",
        help="the probability of each label by itself: several may be true, or none (default: labels compete, and sum "
        "to 100%%); for models trained with a sigmoid, and for calibrated ones",
    )
    add_long(parser)


def add_ensemble(group: Group | Parser) -> None:
    """`--ensemble`, for commands that fill labels into prompts."""
    group.add_argument(
        "--ensemble",
        action="store_true",
        help="average a built-in set of templates: slower; usually better with published models",
    )


def read_labels(arguments: argparse.Namespace) -> prompts.Labels:
    """From --labels and --labels-file, in this order; with their texts by language where the file has them."""
    labels: prompts.Labels = prompts.parse_labels(arguments.labels, "--labels") if arguments.labels is not None else []
    if arguments.labels_file == "-":
        labels = [*labels, *read_lines("-")]
    elif arguments.labels_file:
        listed = prompts.read_labels(user_path(arguments.labels_file))
        if labels and isinstance(listed, Mapping):
            raise TandemError("--labels, --labels-file: a file with languages goes alone; add the others to it")
        labels = listed if isinstance(listed, Mapping) else [*labels, *listed]
    if not labels:
        raise TandemError("no labels: give --labels cat,dog,zebra or --labels-file F with one per line")
    if len(labels) == 1 and not arguments.independent:
        only = next(iter(labels))
        beginning = only if len(only) <= 60 else only[:59] + "…"
        commas = "; labels are separated by commas" if arguments.labels and re.search(r"[;|/、，；\n\t]", only) else ""
        terminal.echo(
            f"warning: with a single label, every photo is 100% {beginning!r}; add labels, or --independent{commas}"
        )
    prompts.labels_in(labels, arguments.language, arguments.labels_file or "labels")
    return labels if isinstance(labels, Mapping) else prompts.check_labels(labels)


def read_templates(arguments: argparse.Namespace) -> list[str]:
    """Those of `given_templates`, else the default one; in the language of --language."""
    return given_templates(arguments) or list(prompts.default_templates(arguments.language))


def given_templates(arguments: argparse.Namespace) -> list[str] | None:
    """From --template and --ensemble, together when both are given; None for neither."""
    templates = [prompts.check_template(template) for template in arguments.template or []]
    if arguments.ensemble:
        templates += prompts.templates(arguments.language or prompts.ENGLISH)
    return templates or None
