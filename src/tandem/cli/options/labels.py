"""The options of labels and prompt templates."""

import argparse

from tandem import prompts
from tandem.cli import terminal
from tandem.cli.arguments import Parser
from tandem.cli.inputs import read_lines
from tandem.errors import TandemError
from tandem.files import user_path


def add_labels(parser: Parser) -> None:
    """`--labels`, `--labels-file`, `--template` and `--ensemble`."""
    parser.add_argument("--labels", metavar="A,B,...", help="the labels, separated by commas")
    parser.add_argument("--labels-file", metavar="F", help="a file of labels, one per line (- for standard input)")
    parser.add_argument(
        "--template",
        action="append",
        metavar="T",
        help=f'a prompt with {{}} for the label; several are averaged (default: "{prompts.DEFAULT_TEMPLATE}")',
    )
    parser.add_argument(
        "--ensemble",
        action="store_true",
        help="average a built-in set of templates: slower; usually better with published models",
    )


def read_labels(arguments: argparse.Namespace) -> list[str]:
    """From --labels and --labels-file, in this order."""
    labels = prompts.parse_labels(arguments.labels, "--labels") if arguments.labels is not None else []
    if arguments.labels_file == "-":
        labels += read_lines("-")
    elif arguments.labels_file:
        labels += prompts.read_labels(user_path(arguments.labels_file))
    if not labels:
        raise TandemError("no labels: give --labels cat,dog,zebra or --labels-file F with one per line")
    if len(labels) == 1:
        terminal.echo(f"warning: with a single label, every photo is 100% {labels[0]!r}; add labels to compare with")
    return prompts.check_labels(labels)


def read_templates(arguments: argparse.Namespace) -> list[str]:
    """From --template and --ensemble, together when both are given."""
    templates = [prompts.check_template(template) for template in arguments.template or []]
    if arguments.ensemble:
        templates += prompts.ENSEMBLE
    return templates or [prompts.DEFAULT_TEMPLATE]
