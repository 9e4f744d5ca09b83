"""`tandem verify`: do two models, or the precisions and engines of one, give the same vectors?"""

import argparse
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from tandem.cli import terminal
from tandem.cli.arguments import Parser, add_json, describe
from tandem.cli.exit_codes import exit_code
from tandem.cli.options.images import FoundImages, find_images
from tandem.cli.options.model import add_activation, add_engine
from tandem.cli.tables import Cell, Column, print_table
from tandem.errors import EngineError, TandemError

if TYPE_CHECKING:
    from tandem.cli.comparing import Comparison

DIFFERENT = 1  # the exit code that says: not the same
MOST_IMAGES = 64
COLUMNS = (
    Column("against", least=10, keep_end=True),
    Column("on", least=8, drop=1),
    Column("difference", right=True, drop=2),
    Column("least cosine", right=True),
    Column("verdict", least=23),
)


def add_arguments(parser: Parser) -> None:
    describe(
        parser,
        "Compare the vectors of two models on sample images and texts. Without --against, compare the precisions "
        "and engines of one model. Exit code 0: the same; 1: not the same, or images were skipped.",
        "tandem verify clip-b32 --against ViT-B-32.pt",
        "tandem verify openai/clip-vit-base-patch32 --images ~/Pictures",
    )
    parser.add_argument("source", metavar="SOURCE", help="a folder, a file, a hub name or a published name")
    parser.add_argument("--against", metavar="OTHER", help="what to compare with")
    parser.add_argument("--images", metavar="DIR", help="images to compare on (default: generated images)")
    add_activation(parser, "as for tandem classify")
    add_json(parser)
    add_engine(
        parser.add_argument_group(
            "engine", "How OTHER is computed, or SOURCE without --against. The reference is SOURCE in float32."
        )
    )


def run(arguments: argparse.Namespace) -> int:
    from tandem.cli import comparing, comparing_quantised
    from tandem.files import display_name
    from tandem.model import load

    try:
        reference = load(arguments.source, precision="float32", activation=arguments.activation)
    except EngineError:  # it may be quantised, and have one precision alone
        reference = load(arguments.source, precision="int8", activation=arguments.activation)
        if not arguments.against:
            raise TandemError(
                f"{arguments.source} is quantised and computes in int8 alone: there is nothing to compare it with; "
                "give its source with --against"
            ) from None
    others = dict(comparing.rivals(reference, arguments))
    found = find_images([arguments.images]) if arguments.images else FoundImages(list(comparing.made_up_images()))
    images, skipped = found.images[:MOST_IMAGES], list(found.skipped)
    total = len(images) + len(skipped)
    comparable = all(other.config.embed_dim == reference.config.embed_dim for other in others.values())
    comparisons: list[Comparison] = []
    if comparable:
        for name, other in others.items():
            comparisons += comparing.compare(reference, name, other, images, skipped)
    same = comparable and all(comparison.same for comparison in comparisons)
    why: list[str] = []
    quantised: str | None = None
    if arguments.against:
        names = (arguments.source, arguments.against)
        other = others[arguments.against]
        why += comparing.reasons(reference, other, names)
        if about := comparing_quantised.made_from(other, reference):
            quantised = comparing_quantised.how_judged(about, names)
            same = same and not why  # its vectors alone do not tell
    if arguments.json:
        listed = [{**asdict(c), "same": c.same, "verdict": c.verdict} for c in comparisons]
        against = {"source": arguments.source, "against": arguments.against}
        outcome = {"same": same, "verdict": "same" if same else "different", "comparisons": listed, "reasons": why}
        if quantised is not None:
            outcome["judged"] = quantised
        failures = [
            {"image": display_name(error.source), "error": display_name(error.reason), "kind": error.kind}
            for error in skipped
        ]
        terminal.print_json({**against, **outcome, "failures": failures})
    else:
        if sys.stdout.isatty():
            terminal.print_lines(f"{reference.name}, openvino float32")
        show(comparisons)
        for reason in [*filter(None, [quantised]), *why]:
            terminal.print_result(f"  {reason}")
        terminal.print_result(f"{'same' if same else 'different'}: {arguments.source} against {', '.join(others)}")
    sys.stdout.flush()
    terminal.echo_skipped(skipped, total)
    return exit_code(done=total - len(skipped), skipped=len(skipped)) if same else DIFFERENT


def show(comparisons: "list[Comparison]") -> None:
    """A line for each comparison."""
    print_table(
        COLUMNS,
        [
            (
                c.other,
                f"{c.count} {c.what}",
                f"{c.largest_difference:.2e}",
                f"{c.least_cosine:.6f}",
                Cell(c.verdict, style=terminal.ACCENT if c.same else "bold red"),
            )
            for c in comparisons
        ],
    )
