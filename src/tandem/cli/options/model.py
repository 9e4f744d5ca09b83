"""`--model` and how it is computed."""

import argparse
import re
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, get_args

from tandem.cli import progress, terminal
from tandem.cli.arguments import Group, Parser, listed
from tandem.cli.options.images import limits_of
from tandem.config import Activation
from tandem.engine import ENGINES, PRECISIONS
from tandem.errors import EngineError, TandemError

if TYPE_CHECKING:
    from tandem.datasets.dataset import Dataset
    from tandem.model import Model

ACTIVATIONS = get_args(Activation)


def add_model(parser: Parser, *, engines: Sequence[str] = ENGINES, share: str = "") -> None:
    """`--model` and what goes with it. `share` is the option of a command that means the precision of its results."""
    group = parser.add_argument_group("model")
    model = group.add_argument(
        "--model",
        metavar="M",
        help="a folder, a file, a name that `tandem models` lists (ViT-B/32, ViT-B-16-SigLIP2-256) or a hub name "
        "(google/siglip2-base-patch16-256); "
        "default: tandem-mini, which ships with Tandem",
    )
    model.completer = complete_models  # type: ignore[attr-defined]  # what argcomplete looks for
    add_engine(group, engines, share)
    add_activation(group, "for weights that do not say which one they were trained with; overrides what they say")


def complete_models(prefix: str, **_: object) -> list[str]:
    """What shells offer: the names that `tandem models` lists, and files."""
    from argcomplete.completers import FilesCompleter

    from tandem.weights.published import all_names

    return [*(name for name in all_names() if name.startswith(prefix)), *FilesCompleter()(prefix)]


def add_engine(group: Group, engines: Sequence[str] = ENGINES, share: str = "") -> None:
    """`--engine`, `--device` and `--precision`."""
    group.add_argument(
        "--engine",
        choices=engines,
        default="auto",
        metavar="E",
        help=f"{listed(engines)}; auto takes torch for cuda and mps"
        + ("; ray: many workers or machines" if "ray" in engines else ""),
    )
    group.add_argument("--device", metavar="D", help="cpu, gpu (Intel's), cuda, cuda:1, mps (default: cpu)")

    def precision(text: str) -> str:
        if re.fullmatch(r"[01]?\.\d+|\d+%", text):  # a share of right answers, which is called so as well
            advice = f"; for a share of right ones say {share} {text}" if share else ""
            raise argparse.ArgumentTypeError(
                f"expected {listed(PRECISIONS)}, how the model computes, got {text}{advice}"
            )
        return text

    group.add_argument(
        "--precision",
        type=precision,
        choices=PRECISIONS,
        default="auto",
        metavar="P",
        help=f"{listed(PRECISIONS)}; float32 gives the reference's numbers, bfloat16 is about twice as fast on "
        "processors that support it; auto is float32, int8 for a quantised model, or what `tandem models --explain` "
        "has measured to be best here: of the same weights, and in classify and embed of its quantised models, too",
    )


def add_activation(parser: Parser | Group, explained: str) -> None:
    """`--activation`."""
    parser.add_argument("--activation", choices=ACTIVATIONS, metavar="A", help=f"{listed(ACTIVATIONS)}; {explained}")


def loading(arguments: argparse.Namespace) -> dict[str, Any]:
    """What `tandem.load` takes beside the model itself."""
    options = {name: getattr(arguments, name) for name in ("engine", "device", "precision", "activation")}
    megapixels = getattr(arguments, "image_megapixels", None)  # only commands that read photos have it
    return options if megapixels is None else options | {"limits": limits_of(megapixels)}


def load_model(arguments: argparse.Namespace, *, allow_quantized: bool = False) -> "Model":
    """The model that --model, --engine, --device, --precision and --activation ask for.

    allow_quantized: for commands that bind nothing to the model's fingerprint, as `tandem.load` says.
    """
    from tandem.model import load

    began = time.perf_counter()
    with progress.waiting("loading the model"):
        model = load(arguments.model, **loading(arguments), allow_quantized=allow_quantized)
    describe_model(model, time.perf_counter() - began)
    return model


def load_source(source: str, activation: Activation | None, *, instead: str) -> "Model":
    """A model in float32, by OpenVINO. `TandemError` for a quantised one; `instead`: what to do to its source."""
    from tandem import weights
    from tandem.model import load

    try:
        model = load(source, engine="openvino", precision="float32", activation=activation)
        about = model.config.quantization
    except EngineError:
        about = weights.read(source, activation=activation).config.quantization
        if about is None:
            raise
    if about is not None:
        raise TandemError(f"{source} is quantised already: {instead} {about.source}, which it was made from")
    return model


def model_for(dataset: "Dataset", arguments: argparse.Namespace) -> "Model":
    """The model that was named; without a name that of the collection, where the data set is one."""
    if arguments.model is not None or dataset.stored is None:
        return load_model(arguments)
    from tandem.search.collection import open_collection

    with open_collection(dataset.source, must_exist=True, **loading(arguments)) as photos:
        with progress.waiting("loading the model"):
            model = photos.model
        describe_model(model)
        return model


def describe_model(model: "Model", seconds: float | None = None) -> None:
    """With -v: what computes."""
    took = "" if seconds is None else f", loaded in {seconds:.2f} s"
    terminal.detail(f"{model.name}: {model.engine.device}, {model.engine.precision}{took}")
