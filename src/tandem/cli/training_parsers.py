"""The arguments of `train` and `interpolate`. Knows argparse and no training."""

from tandem.cli.parser import Commands, command


def add_training(commands: Commands) -> None:
    """Put both among the commands."""
    _train(commands)
    _interpolate(commands)


def _train(commands: Commands) -> None:
    parser = command(
        commands,
        "train",
        "train a model from a recipe",
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
    parser.add_argument("--out", default="curve.png", metavar="PNG", help="the picture of --plot (curve.png)")


def _interpolate(commands: Commands) -> None:
    parser = command(
        commands,
        "interpolate",
        "average a model and its fine-tuned self",
        "Write the model between two of one architecture: (1 - alpha) times the weights of A plus alpha times those of "
        "B (WiSE-FT). Between a model and its fine-tuned self there are often models better than both.",
        "tandem interpolate tandem-mini runs/finetune/model --alpha 0.5 --to between",
        "tandem interpolate tandem-mini runs/finetune/model --to between --statistics recipes/finetune.toml",
    )
    parser.add_argument("first", metavar="A", help="a folder, a file, a hub name or a published name")
    parser.add_argument("second", metavar="B", help="the same, fine-tuned from A")
    parser.add_argument("--alpha", type=float, default=0.5, metavar="X", help="from 0 (A) to 1 (B); 0.5 when left out")
    parser.add_argument(
        "--statistics",
        metavar="RECIPE",
        help="measure the statistics of batch norms anew, on this recipe's data: their averages do not fit (torch)",
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="put over that recipe; may be given again"
    )
    parser.add_argument("--to", required=True, metavar="C", help="the folder to write")
    parser.add_argument("--overwrite", action="store_true", help="replace a target that is there already")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
