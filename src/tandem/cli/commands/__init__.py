"""The table of commands. Each has a line here and a file of the same name with `add_arguments` and `run`.

A command's module is imported on demand, and imports its dependencies inside `run`: `tandem --help` imports no command,
and `tandem search --help` only that of `search`.
"""

import argparse
from importlib import import_module
from typing import Protocol, cast

from tandem.cli.arguments import Parser

COMMANDS = {
    "classify": "tell which of your labels fits each photo",
    "locate": "show where in a photo your words are, or that they are not there",
    "which": "find the thing, or the photo, that an instruction is about",
    "embed": "turn photos or texts into vectors",
    "index": "make a folder of photos searchable",
    "watch": "follow folders and keep a collection up to date",
    "search": "find photos by text or by image",
    "label": "label a whole collection at once",
    "moderate": "say of photos what a written policy asks",
    "learn": "make a classifier from a few labelled photos",
    "explore": "see what is in a collection",
    "list": "list the collections of this machine",
    "info": "describe a collection",
    "remove": "remove photos from a collection",
    "migrate": "move a collection to another model",
    "check": "verify a collection, and repair it",
    "score": "score images against their prompts",
    "guide": "make a picture that a text describes",
    "condition": "turn prompts into what image generators take",
    "audit": "show what a model gets wrong",
    "calibrate": "learn what a model's scores mean",
    "serve": "answer over HTTP, with a web page",
    "mcp": "give collections to an assistant as tools",
    "evaluate": "measure how good a model is on your photos",
    "train": "train a model from a recipe",
    "interpolate": "average a model and its fine-tuned version",
    "convert": "rewrite a model in another format",
    "quantize": "convert a model to int8: faster and smaller",
    "verify": "check that two models, formats or precisions give the same vectors",
    "models": "list what can be loaded by name",
    "demo": "see it work on sample photos",
    "completion": "complete commands with the Tab key",
}

# Commands of two words; the module of `moderate fit` is `moderate_fit`.
VERBS = {
    "moderate fit": "set the bands of a policy from labelled photos",
    "moderate report": "sum up a log of decisions",
    "moderate verify-log": "check that a log of decisions is whole",
}


class Command(Protocol):
    """The interface of a command's module."""

    def add_arguments(self, parser: Parser) -> None:
        """Describe the command and its arguments."""

    def run(self, arguments: argparse.Namespace) -> int:
        """Run the command and return the exit code."""


def load_command(name: str) -> Command:
    """The module of a command."""
    return cast(Command, import_module(f"{__name__}.{name.replace(' ', '_').replace('-', '_')}"))
