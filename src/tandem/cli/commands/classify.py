"""`tandem classify`: which of the labels, or of a head's classes, fits each photo."""

import argparse
import os
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from tandem.cli import progress, terminal
from tandem.cli.arguments import Parser, add_json, describe, positive
from tandem.cli.exit_codes import exit_code
from tandem.cli.inputs import ImageOnStandardInput
from tandem.cli.options.head import add_head, read_head, scoring_of
from tandem.cli.options.images import add_images, find_images
from tandem.cli.options.labels import add_labels, read_labels, read_templates
from tandem.cli.options.model import add_model, load_model
from tandem.errors import TandemError
from tandem.files import user_path

if TYPE_CHECKING:
    from tandem.answer import Answer
    from tandem.image import ImageSource


def add_arguments(parser: Parser) -> None:
    describe(
        parser,
        "Give each photo a probability for every label. Any words can be labels. They compete, unless --independent "
        "lets each stand by itself. When piped, each line is photo, label and probability, separated by tabs.",
        "tandem classify cat.jpg --labels cat,dog,zebra",
        "tandem classify ~/Pictures --labels-file labels.txt --ensemble --json > answers.json",
        "tandem classify foto.jpg --labels Hund,Katze --language de --model org/model",
        "tandem classify ~/Pictures --labels beach,people,receipt --independent --model ViT-B-16-SigLIP2-256",
        "tandem classify ~/Pictures --head animals.tandem-head",
        'tandem classify x.png --labels "healthy lung,pneumonia" --template "an X-ray of a {}." --plot answer.png',
    )
    add_images(parser, "+")
    add_labels(parser)
    add_head(parser)
    parser.add_argument(
        "--top", type=positive, default=5, metavar="K", help="labels to show for each photo (%(default)s)"
    )
    parser.add_argument("--plot", metavar="PNG", help="draw each photo with a bar chart of its labels")
    add_json(parser)
    add_model(parser)


def run(arguments: argparse.Namespace) -> int:
    from tandem.answer import Answer
    from tandem.cli.classify_view import printer
    from tandem.image import source_name

    check_separated(arguments.labels, arguments.images)
    head = read_head(arguments)
    labels = None if head else read_labels(arguments)
    shown = list(head.classes if head else labels or ())
    templates = None if head else read_templates(arguments)
    if arguments.plot:
        from tandem import plots

        plots.check_target(user_path(arguments.plot))
        plots.check_installed()
    found = find_images(arguments.images, arguments.exclude)
    # A head and calibrated scores belong to one fingerprint
    model = load_model(arguments, allow_quantized=head is None and not arguments.independent)
    if head:
        scoring_of(model, head, arguments.head, is_chosen=True)

    names = [source_name(image) for image in found.images]
    show = None if arguments.json else printer(names, shown, arguments.top)
    parts: list[Answer] = []
    # Rows that people watch arriving are progress enough.
    with progress.counting("classifying", len(names), wanted=show is None or not progress.beside_rows()) as advance:
        for part in model.iter_classify(
            found.images,
            labels,
            head=head,
            templates=templates,
            language=arguments.language,
            long=arguments.long,
            independent=arguments.independent,
        ):
            parts.append(part)
            advance(len(part) + len(part.failures))
            if show is not None:
                show(part)
    answer = Answer.join(parts)
    skipped = found.skipped + [failure.error for failure in answer.failures]
    if arguments.json:
        document = answer.as_dict()
        document["failures"] = [error.as_dict() for error in skipped]
        terminal.print_json(document)
    sys.stdout.flush()
    if arguments.plot and len(answer):
        terminal.echo(f"drew {keep_piped(answer, found.images).plot(arguments.plot, top=arguments.top)}")
    terminal.echo_skipped(skipped, len(names) + len(found.skipped))
    return exit_code(done=len(answer), skipped=len(skipped))


def check_separated(labels: str | None, images: Sequence[str]) -> None:
    """Refuse `--labels cat, dog` and `--labels cat dog`, where the shell makes images of all labels but the first."""
    alone = (labels or "").strip(", ")
    others = [
        name.strip(", ") for name in images if re.fullmatch(r"[^\W\d_][\w' -]*,?", name) and not os.path.exists(name)
    ]
    if alone and "," not in alone and others:
        meant = shlex.quote(",".join([alone, *others]))
        raise TandemError(f"labels take commas without spaces, or quotes: --labels {meant}")


def keep_piped(answer: "Answer", images: "Sequence[ImageSource]") -> "Answer":
    """The answer with the bytes of an image that came on standard input, to draw it: open files are not kept."""
    piped = next((image for image in images if isinstance(image, ImageOnStandardInput)), None)
    if piped is None:
        return answer
    kept = tuple(piped.getvalue() if image is None else image for image in answer.images)
    return replace(answer, images=kept)
