"""`tandem classify`: which of the labels fits each photo."""

import argparse
import sys
from pathlib import Path

from tandem import plots, prompts
from tandem.answer import Answer
from tandem.cli import exit_code, screen
from tandem.cli.inputs import find_pictures, load_model, read_lines
from tandem.errors import TandemError


def run(arguments: argparse.Namespace) -> int:
    labels = read_labels(arguments)
    templates = read_templates(arguments)
    if arguments.plot:
        plots.check_target(Path(arguments.plot))
        plots.check_installed()
    photos = find_pictures(arguments.pictures)
    if not photos:
        raise TandemError("no photos: the list on standard input is empty")
    model = load_model(arguments)

    show = None
    if not arguments.json:
        from tandem.cli.classify_view import printer

        show = printer(photos, labels, arguments.top)
    parts: list[Answer] = []
    # Rows that people watch arriving are progress enough.
    with screen.progress("classifying", len(photos), wanted=show is None or not sys.stdout.isatty()) as advance:
        for part in model.iter_classify(photos, labels, templates=templates):
            parts.append(part)
            advance(len(part) + len(part.failures))
            if show is not None:
                show(part)
    answer = Answer.join(parts)
    if arguments.json:
        screen.print_json(answer.as_dict())
    sys.stdout.flush()
    if arguments.plot and len(answer):
        screen.say(f"drew {answer.plot(arguments.plot, top=arguments.top)}")
    screen.say_set_aside(answer.failures, len(photos))
    return exit_code(done=len(answer), set_aside=len(answer.failures))


def read_labels(arguments: argparse.Namespace) -> list[str]:
    """From --labels and --labels-file, in this order."""
    labels = prompts.parse_labels(arguments.labels, "--labels") if arguments.labels is not None else []
    if arguments.labels_file == "-":
        labels += read_lines("-")
    elif arguments.labels_file:
        labels += prompts.read_labels(Path(arguments.labels_file))
    if not labels:
        raise TandemError("no labels: give --labels cat,dog,zebra or --labels-file F with one a line")
    if len(labels) == 1:
        screen.say(
            f"warning: with one label alone, every photo is 100% {labels[0]!r}; give it something to compare with"
        )
    return prompts.check_labels(labels)


def read_templates(arguments: argparse.Namespace) -> list[str]:
    """From --template and --ensemble, together when both are given."""
    templates = [prompts.check_template(template) for template in arguments.template or []]
    if arguments.ensemble:
        templates += prompts.ENSEMBLE
    return templates or [prompts.DEFAULT_TEMPLATE]
