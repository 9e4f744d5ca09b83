"""`tandem train`: a recipe becomes a model folder. Ctrl-C or SIGTERM saves and leaves; a second one leaves at once."""

import argparse
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import FrameType

from tandem.cli import terminal
from tandem.cli.arguments import Parser, describe
from tandem.cli.exit_codes import DONE, INTERRUPTED
from tandem.errors import ConfigError, DataError, MissingExtraError

TRY_AGAIN = 75  # EX_TEMPFAIL of sysexits.h: a scheduler took the machine away; start the same command again
# What schedulers send before they end a job; SIGUSR1: `sbatch --signal=USR1@120`.
SIGNALS = {
    number: code
    for name, code in (("SIGINT", INTERRUPTED), ("SIGTERM", TRY_AGAIN), ("SIGUSR1", TRY_AGAIN))
    if (number := getattr(signal, name, None)) is not None
}


def add_arguments(parser: Parser) -> None:
    describe(
        parser,
        "Train both encoders together, as the recipe says, on this machine or under torchrun on many. Stops and "
        "resumes at any time: the same command goes on. Exit code 75 after SIGTERM, 130 after Ctrl-C: saved, but not "
        "finished.",
        "tandem train recipes/mini.toml",
        "tandem train recipes/mini.toml steps=2000 folder=runs/short optimiser.learning_rate=1e-3",
        "tandem train recipes/mini.toml --dry-run",
        "tandem train --plot runs/short --out curve.png",
        "torchrun --nproc-per-node 8 -m tandem train recipes/vit-b-32-400m.toml",
    )
    parser.add_argument("recipe", nargs="?", metavar="RECIPE", help="a .toml file")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="values that replace the recipe's")
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--dry-run",
        action="store_true",
        help="check recipe and data, do a few steps, print memory, speed and time; nothing is kept",
    )
    what.add_argument("--print", action="store_true", help="print the complete recipe as TOML; nothing is trained")
    what.add_argument("--plot", action="append", metavar="RUN", help="draw a run's curves; several are compared")
    parser.add_argument("--out", default="curve.png", metavar="PNG", help="the image of --plot (%(default)s)")


def run(arguments: argparse.Namespace) -> int:
    """Train, or go on training, until the recipe's last step; or draw, print or try what is asked for."""
    if arguments.plot:
        return _plot([Path(name) for name in arguments.plot], Path(arguments.out))
    if arguments.recipe is None:
        raise ConfigError("expected a recipe: tandem train RECIPE.toml [KEY=VALUE ...]")
    from tandem.train.recipe import read_recipe, to_toml

    recipe = read_recipe(Path(arguments.recipe), arguments.overrides)
    if arguments.print:
        print(to_toml(recipe), end="")
        return DONE
    if find_spec("torch") is None:
        raise MissingExtraError("torch", "train", "training")
    if arguments.dry_run:
        from tandem.train.run.dry_run import dry_run

        for line in dry_run(recipe):
            print(line, flush=True)
        return DONE
    from tandem.train.parallel.process import start
    from tandem.train.run.loop import train

    with _stop_requests() as asked:
        processes = start(recipe.device)
        try:
            finished = train(recipe, stop_requested=lambda: bool(asked), processes=processes)
        finally:
            processes.close()
    if finished is None:
        if processes.first:
            terminal.complain(f"stopped and saved in {recipe.folder}; the same command goes on from there")
        return SIGNALS[asked[0]] if asked else TRY_AGAIN  # the signal may have reached another process alone
    if processes.first:
        use = f"{terminal.program()} classify PHOTO --model {finished} --labels cat,dog"
        print(f"tandem: done, the model is in {finished}; try: {use}")
    return DONE


def _plot(runs: list[Path], out: Path) -> int:
    from tandem import plots

    plots.check_target(out)
    plots.check_installed()
    from tandem.train.run.curve import read_series

    drawn = []
    for folder in runs:
        path = folder if folder.suffix == ".csv" else folder / "curve.csv"
        if not path.is_file():
            raise DataError(f"{folder}: expected a run's folder with curve.csv in it")
        drawn.append(plots.Run(folder.name, read_series(path)))
    print(plots.draw_curves(drawn, out))
    return DONE


@contextmanager
def _stop_requests() -> Iterator[list[int]]:
    """A list that fills with the signals by which the process is asked to stop."""
    asked: list[int] = []
    owner = os.getpid()

    def ask(number: int, _: FrameType | None) -> None:
        if os.getpid() != owner:  # a process that prepares batches: it ends with the one it works for
            return
        if asked:
            raise KeyboardInterrupt
        asked.append(number)
        terminal.complain("saving after this step (once more: leave at once)")

    before = {number: signal.signal(number, ask) for number in SIGNALS}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
