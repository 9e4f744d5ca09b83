"""`--head`: the classes of a head, learnt from labelled photos, instead of labels."""

import argparse
import contextlib
import shlex
from typing import TYPE_CHECKING

from tandem.cli.arguments import Parser
from tandem.errors import HeadError, TandemError

if TYPE_CHECKING:
    from tandem.heads.head import Head
    from tandem.model import Model
    from tandem.scores.scoring import Scoring


def add_head(parser: Parser) -> None:
    """`--head`."""
    parser.add_argument(
        "--head", metavar="F", help="a .tandem-head file that `tandem learn` wrote: its classes instead of labels"
    )


def read_head(arguments: argparse.Namespace) -> "Head | None":
    """The head of `--head`, None without it. Raises `TandemError` for one beside options that are of labels."""
    if arguments.head is None:
        return None
    of_labels = ("labels", "labels_file", "language", "template", "ensemble", "independent")
    given = [f"--{name.replace('_', '-')}" for name in of_labels if getattr(arguments, name)]
    if arguments.long != "error":
        given.append("--long")
    if given:
        raise TandemError(f"--head and {given[0]} cannot go together: a head has its own classes")
    from tandem.heads import head_file

    return head_file.read_head(arguments.head)


def scoring_of(model: "Model", head: "Head", file: str, *, is_chosen: bool) -> "Scoring":
    """The scoring of a head. Raises `HeadError` for another model's; `is_chosen`: whether `--model` can choose it."""
    from tandem.heads.head_file import check_model

    try:
        check_model(head, name=model.name, fingerprint=model.fingerprint, source=file)
    except HeadError as error:
        advice = f"; try --model {shlex.quote(found)}" if is_chosen and (found := _source_of(head, model)) else ""
        raise HeadError(f"{error}{advice}") from None
    return model.head_scoring(head)[1]


def _source_of(head: "Head", model: "Model") -> str:
    """What loads the model of a head: a published name, or the folder of a quantised one; empty where none is known."""
    from tandem.heads.head_file import model_name
    from tandem.precisions import fingerprint_of_folder, quantised_folders
    from tandem.weights.published import known_name

    name = model_name(head)
    if name != model.name and known_name(name):
        return name
    about = model.config.quantization
    for folder in quantised_folders(model.fingerprint if about is None else about.source_fingerprint):
        with contextlib.suppress(TandemError):  # it may have been damaged since
            if fingerprint_of_folder(folder) == head.fingerprint:
                return folder
    return ""
