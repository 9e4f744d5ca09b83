"""`tandem train`: a recipe becomes a model folder. Ctrl-C or SIGTERM saves and leaves; a second one leaves at once."""

import argparse
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import FrameType

from tandem.errors import MissingExtraError

STOPPED = 130  # 128 + SIGINT: not finished, goes on when started again


def run(arguments: argparse.Namespace) -> int:
    """Train, or go on training, until the recipe's last step."""
    if find_spec("torch") is None:
        raise MissingExtraError("torch", "train", "training")
    from tandem.train.loop import train
    from tandem.train.recipe import read_recipe

    recipe = read_recipe(Path(arguments.recipe), arguments.overrides)
    with _stop_requests() as asked:
        finished = train(recipe, stop_requested=lambda: bool(asked))
    if finished is None:
        print(f"tandem: stopped and saved in {recipe.folder}; the same command goes on from there", file=sys.stderr)
        return STOPPED
    print(f"tandem: done, the model is in {finished}; try: tandem classify PHOTO --model {finished} --labels cat,dog")
    return 0


@contextmanager
def _stop_requests() -> Iterator[list[int]]:
    """A list that fills when the process is asked to stop."""
    asked: list[int] = []

    def ask(number: int, _: FrameType | None) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)
        print("tandem: saving after this step (once more: leave at once)", file=sys.stderr)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
