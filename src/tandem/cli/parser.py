"""The command line's arguments: what can be asked. Knows nothing of how it is done.

One function a command, so that `--help`, the generated reference (docs/commands.md) and the commands cannot differ.
"""

import argparse
from collections.abc import Sequence
from typing import NoReturn, TypeAlias

from tandem import __version__

COMMANDS = {
    "classify": "tandem.cli.classify",
    "embed": "tandem.cli.embed",
    "index": "tandem.cli.index",
    "search": "tandem.cli.search",
    "label": "tandem.cli.label",
    "explore": "tandem.cli.explore",
    "migrate": "tandem.cli.migrate",
    "calibrate": "tandem.cli.calibrate",
    "serve": "tandem.cli.serve",
    "train": "tandem.cli.train",
    "interpolate": "tandem.cli.interpolate",
    "convert": "tandem.cli.convert",
    "verify": "tandem.cli.verify",
    "models": "tandem.cli.models",
    "demo": "tandem.cli.demo",
}


class Parser(argparse.ArgumentParser):
    """Wrong usage is one line and exit code 2, like every other failure."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"tandem: {message} (see: {self.prog} --help)\n")


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    from tandem.cli.collection_parsers import add_commands
    from tandem.cli.serve_parser import add_serve
    from tandem.cli.training_parsers import add_training

    parser = Parser(
        prog="tandem",
        description="CLIP as a tool: pictures and sentences in one space.",
        epilog="Example:\n  tandem classify cat.jpg --labels cat,dog,zebra\n\n"
        "Exit code: 0 done; 1 done, but some inputs were set aside (they are listed); 2 not done, one line says why.",
        formatter_class=_Help,
    )
    parser.add_argument("--version", action="version", version=f"tandem {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)
    _classify(commands)
    _embed(commands)
    add_commands(commands)
    add_serve(commands)
    add_training(commands)
    _convert(commands)
    _verify(commands)
    _models(commands)
    _demo(commands)
    return parser


class _Help(argparse.RawDescriptionHelpFormatter):
    """Keeps examples as they are written, and the width the same everywhere: the reference is compared by a test."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28, width=100)


# argparse names no public type for what add_subparsers gives.
Commands: TypeAlias = "argparse._SubParsersAction[Parser]"


def command(commands: Commands, name: str, summary: str, description: str, *examples: str) -> Parser:
    """A command with its help: what it does in one line, in full, and examples."""
    listing = "\n".join(f"  {example}" for example in examples)
    parser: Parser = commands.add_parser(
        name,
        help=summary,
        description=description,
        epilog=f"Example{'s' if len(examples) > 1 else ''}:\n{listing}",
        formatter_class=_Help,
    )
    parser.add_argument("--debug", action="store_true", help="show the full trace when something fails")
    return parser


def label_options(parser: Parser) -> None:
    """Labels, and the sentences around them; `tandem.cli.classify` reads them."""
    parser.add_argument("--labels", metavar="A,B,...", help="the labels, separated by commas")
    parser.add_argument("--labels-file", metavar="F", help="the labels, one a line (- for standard input)")
    parser.add_argument(
        "--template",
        action="append",
        metavar="T",
        help='the sentence around a label, with {} for it; default "a photo of a {}."; several are averaged',
    )
    parser.add_argument("--ensemble", action="store_true", help="average a set of templates of ours: slower, better")


ENGINES = ("auto", "openvino", "torch")


def model_options(parser: Parser, *, engines: Sequence[str] = ENGINES) -> None:
    """`--model` and what goes with it."""
    group = parser.add_argument_group("model")
    group.add_argument(
        "--model",
        metavar="M",
        help="a folder, a file, a hub name (openai/clip-vit-base-patch32) or a published name (ViT-B/32); "
        "the model that ships inside when left out",
    )
    _engine_options(group, engines)
    group.add_argument(
        "--activation",
        choices=("quick_gelu", "gelu"),
        help="for weights that do not say which one they were trained with; overrules, aloud, those that do",
    )


def _engine_options(group: argparse._ArgumentGroup, engines: Sequence[str] = ENGINES) -> None:
    group.add_argument(
        "--engine",
        choices=engines,
        default="auto",
        help="what computes; auto takes torch for cuda and mps"
        + ("; ray: many workers or machines" if "ray" in engines else ""),
    )
    group.add_argument("--device", metavar="D", help="cpu, gpu (Intel's), cuda, cuda:1, mps; cpu when left out")
    group.add_argument(
        "--precision",
        choices=("auto", "float32", "bfloat16", "float16"),
        default="auto",
        help="auto is float32, the reference's numbers; bfloat16 is about twice as fast where the processor has it",
    )


def _pictures(parser: Parser, nargs: str) -> None:
    parser.add_argument(
        "pictures",
        nargs=nargs,
        metavar="PHOTO",
        help="a file, a folder (searched through), a glob in quotes, an http(s) URL, or - for a list on standard input",
    )


def _classify(commands: Commands) -> None:
    parser = command(
        commands,
        "classify",
        "say which of your labels fits each photo",
        "Give each photo a probability for every label. Any words can be labels.",
        "tandem classify cat.jpg --labels cat,dog,zebra",
        "tandem classify ~/Pictures --labels-file labels.txt --ensemble --json > answers.json",
        'tandem classify x.png --labels "healthy lung,pneumonia" --template "an X-ray of a {}." --plot answer.png',
    )
    _pictures(parser, "+")
    label_options(parser)
    parser.add_argument("--top", type=positive, default=5, metavar="K", help="labels to show for each photo (5)")
    parser.add_argument("--plot", metavar="PNG", help="draw each photo beside its bars")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    model_options(parser)


def _embed(commands: Commands) -> None:
    parser = command(
        commands,
        "embed",
        "turn photos or sentences into vectors",
        "Write one vector of unit length for each photo or sentence, with its id and the model's fingerprint.",
        "tandem embed ~/Pictures --out vectors.parquet",
        "tandem embed --texts captions.txt --out captions.npz",
        'tandem embed --text "a bird on a railing" --json',
    )
    _pictures(parser, "*")
    parser.add_argument("--texts", metavar="F", help="sentences, one a line (- for standard input)")
    parser.add_argument("--text", action="append", metavar="S", help="a sentence; may be given several times")
    parser.add_argument("--out", metavar="F", help="vectors.npz or vectors.parquet; may be left out with --json")
    parser.add_argument("--batch-size", type=positive, default=32, metavar="N", help="photos encoded at once (32)")
    parser.add_argument("--truncate", action="store_true", help="cut sentences that are too long instead of refusing")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    model_options(parser)


def _convert(commands: Commands) -> None:
    parser = command(
        commands,
        "convert",
        "rewrite a model in another format",
        "Read a model from anywhere and write it in one of the formats that others read. Nothing in it is executed.",
        "tandem convert ViT-B-32.pt clip-b32 --to tandem",
        "tandem convert openai/clip-vit-base-patch32 b32-onnx --to onnx",
    )
    parser.add_argument("source", metavar="SOURCE", help="a folder, a file, a hub name or a published name")
    parser.add_argument("target", metavar="TARGET", help="the folder to write")
    parser.add_argument(
        "--to",
        required=True,
        choices=("tandem", "transformers", "open_clip", "openvino", "onnx"),
        help="the format of the target",
    )
    parser.add_argument("--activation", choices=("quick_gelu", "gelu"), help="as for tandem classify")
    parser.add_argument("--overwrite", action="store_true", help="replace a target that is there already")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")


def _verify(commands: Commands) -> None:
    parser = command(
        commands,
        "verify",
        "do two models, formats or precisions give the same vectors?",
        "Compare the vectors of two models on sample pictures and sentences. Without --against, compare the precisions "
        "and engines of one model. Exit code 0: the same; 1: not the same, or pictures were set aside.",
        "tandem verify clip-b32 --against ViT-B-32.pt",
        "tandem verify openai/clip-vit-base-patch32 --images ~/Pictures",
    )
    parser.add_argument("source", metavar="SOURCE", help="a folder, a file, a hub name or a published name")
    parser.add_argument("--against", metavar="OTHER", help="what to compare with")
    parser.add_argument("--images", metavar="DIR", help="pictures to compare on; made up when left out")
    parser.add_argument("--activation", choices=("quick_gelu", "gelu"), help="as for tandem classify")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    _engine_options(
        parser.add_argument_group("what is compared", "How OTHER, or SOURCE once more, is computed; SOURCE is float32.")
    )


def _models(commands: Commands) -> None:
    parser = command(
        commands,
        "models",
        "list what can be loaded by name",
        "Names that --model takes: how large each is, its licence, and whether it is here already.",
        "tandem models",
    )
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")


def _demo(commands: Commands) -> None:
    parser = command(
        commands,
        "demo",
        "see it work on sample photos",
        "Classify and rank real photos (from scikit-image and scikit-learn) with the model that ships inside.",
        "tandem demo",
        "tandem demo --out demo/answer.png",
    )
    parser.add_argument("--out", default="demo/answer.png", metavar="PNG", help="the picture (demo/answer.png)")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    model_options(parser)


def positive(text: str) -> int:
    """A whole number of at least 1."""
    number = int(text) if text.isdigit() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return number
