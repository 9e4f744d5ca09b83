"""`tandem train`: a recipe becomes a model folder. Ctrl-C or SIGTERM saves and leaves; a second one leaves at once."""

import argparse
import os
import shlex
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from tandem.cli import stop_signals, terminal
from tandem.cli.arguments import Parser, describe
from tandem.cli.exit_codes import DONE, INTERRUPTED, TRY_AGAIN
from tandem.errors import ConfigError, DataError, MissingExtraError
from tandem.files import user_path

if TYPE_CHECKING:
    from tandem.train.run.ending import TrainResult

LABELS_SUGGESTED = 10  # of a model that has been trained
# What schedulers send before they end a job; SIGUSR1: `sbatch --signal=USR1@120`.
SIGNALS = {
    number: code
    for name, code in (("SIGINT", INTERRUPTED), ("SIGTERM", TRY_AGAIN), ("SIGUSR1", TRY_AGAIN))
    if (number := getattr(signal, name, None)) is not None
}


def add_arguments(parser: Parser) -> None:
    describe(
        parser,
        "Train both encoders together, as the recipe says, on this machine, or on many with torchrun. A recipe that "
        "starts where another one ends runs that one first. A run can be stopped at any time; the same command resumes "
        "it. Exit code 75 after SIGTERM, 130 after Ctrl-C: saved, but not finished.",
        "tandem train recipes/mini.toml",
        "tandem train recipes/mini.toml steps=2000 folder=runs/short optimiser.learning_rate=1e-3",
        "tandem train recipes/mini.toml --dry-run",
        "tandem train recipes/mini.toml --pack mini.tar",
        "tandem train --plot runs/short --out curve.png",
        "torchrun --nproc-per-node 8 -m tandem train recipes/vit-b-32-400m.toml",
    )
    parser.add_argument("recipe", nargs="?", metavar="RECIPE", help="a .toml file")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="override values of the recipe")
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--dry-run",
        action="store_true",
        help="check recipe and data, do a few steps, print memory, speed and time; nothing is saved",
    )
    what.add_argument(
        "--pack",
        metavar="TAR",
        help="write recipe, data, vocabulary and a teacher's vectors into one file, to train on another machine",
    )
    what.add_argument("--print", action="store_true", help="print the complete recipe as TOML; nothing is trained")
    what.add_argument(
        "--plot", action="append", metavar="RUN", help="draw the curves of a run; several runs are compared"
    )
    parser.add_argument("--out", default="curve.png", metavar="PNG", help="the image that --plot writes (%(default)s)")


def run(arguments: argparse.Namespace) -> int:
    """Train, or resume, until the last step of the recipe; or plot, print or try out what is asked for."""
    if arguments.plot:
        return _plot([user_path(name) for name in arguments.plot], user_path(arguments.out))
    if arguments.recipe is None:
        raise ConfigError("expected a recipe: tandem train RECIPE.toml [KEY=VALUE ...]")
    from tandem.train.recipe import to_toml
    from tandem.train.recipe_file import read_chain

    chain = read_chain(user_path(arguments.recipe), arguments.overrides)
    recipe = chain[-1].recipe
    if arguments.print:
        terminal.print_lines(to_toml(recipe), end="")
        return DONE
    if find_spec("torch") is None:
        raise MissingExtraError("torch", "train", "training")
    if arguments.pack:
        from tandem.train.run.packing import pack

        for line in pack(recipe, user_path(arguments.pack)):
            terminal.print_lines(line)
        return DONE
    if arguments.dry_run:
        from tandem.train.run.chain import dry_run_chain

        for line in dry_run_chain(chain):
            terminal.print_lines(line, flush=True)
        return DONE
    from tandem.train.parallel.process import start
    from tandem.train.run.chain import train_chain

    with _stop_requests() as received:
        processes = start(recipe.device)
        try:
            result, recipe = train_chain(chain, stop_requested=lambda: bool(received), processes=processes)
        finally:
            processes.close()
    if result.model is None:
        if processes.is_main:
            terminal.complain(_stopped(result, recipe.folder))
        return SIGNALS[received[0]] if received else TRY_AGAIN  # the signal may have reached another process alone
    if processes.is_main:
        to = f"--head {shlex.quote(str(result.head))}" if result.head else f"--labels {_labels(result)}"
        use = f"{terminal.program()} classify PHOTO --model {shlex.quote(str(result.model))} {to}"
        terminal.print_lines(f"tandem: done, the model is in {result.model}; try: {use}")
    return DONE


def _labels(result: "TrainResult") -> str:
    """Labels to try a model with: some of its own classes, or where it has none, or one, any."""
    classes = result.classes[:LABELS_SUGGESTED]
    return shlex.quote(",".join(classes)) if len(classes) > 1 else "cat,dog"


def _stopped(result: "TrainResult", folder: str) -> str:
    """How far a stopped run got, and where the same command will resume."""
    if result.saved_step == result.step:
        return f"stopped and saved at step {result.step} in {folder}; the same command resumes from there"
    since = f"; the same command resumes at step {result.saved_step}" if result.saved_step is not None else ""
    since = since or "; no checkpoint exists yet, and the same command starts again"
    return f"stopped at step {result.step}, not saved: the last steps had no finite loss{since}"


def _plot(runs: list[Path], out: Path) -> int:
    from tandem import plots

    plots.check_target(out)
    plots.check_installed()
    from tandem.evaluate.metrics import MEASURES
    from tandem.train.run.curve import read_series

    drawn = []
    for folder in runs:
        path = folder if folder.suffix == ".csv" else folder / "curve.csv"
        if not path.is_file():
            raise DataError(f"{folder}: expected the folder of a run, with curve.csv in it")
        drawn.append(plots.Run(folder.name, read_series(path)))
    measures = [name for names in MEASURES.values() for name in names]
    terminal.print_result(f"drew {plots.draw_curves(drawn, out, measures=measures)}")
    return DONE


@contextmanager
def _stop_requests() -> Iterator[list[int]]:
    """A list that collects the signals by which the process is asked to stop."""
    received: list[int] = []
    owner = os.getpid()

    def ask(number: int, _: FrameType | None) -> None:
        if os.getpid() != owner:  # a process that prepares batches: it ends with the one it works for
            return
        if received:
            raise KeyboardInterrupt
        received.append(number)
        terminal.complain_in_handler("saving after this step (again: exit at once)")

    with stop_signals.handled(SIGNALS, ask):
        yield received
