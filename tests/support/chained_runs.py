"""Two recipes, of which the second starts from the model of the first; their runs, stopped at will."""

import shutil
from collections.abc import Callable
from pathlib import Path

from support import run_toys
from tandem.train.recipe_file import read_chain
from tandem.train.run.chain import train_chain

SECOND = """
name = "second"
folder = "{folder}"
data_root = "{root}"
steps = 3
precision = "float32"
workers = 0
stages = [{{ start = 0.0, image_size = 32 }}]
[log]
tensorboard = false
[init]
recipe = "first.toml"
[model.vision]
image_size = 48
layers = [1, 2, 1, 1]
[[data]]
path = "names.parquet"
text = "names"
kind = "names"
per_batch = 6
[ema]
decay = 0.5
[optimiser]
learning_rate = 1e-2
warmup_steps = 1
[validation]
zero_shot = "names.parquet"
limit = 12
sets = [{{ name = "half", path = "names.parquet", kind = "zero_shot", limit = 20 }}]
best = "zero_shot_top1"
[interpolation]
alphas = [0.0, 0.5, 1.0]
statistics_images = 12
"""


def write(root: Path, runs: Path) -> Path:
    """The two recipes, over data that is there already; returns the second."""
    runs.mkdir(exist_ok=True)
    first = run_toys.RECIPE.format(folder=runs / "first", root=root).replace("steps = 12", "steps = 2")
    (runs / "first.toml").write_text(first.replace('retrieval = "captions.tar"', "").replace("micro_batches = 2", ""))
    (runs / "second.toml").write_text(SECOND.format(folder=runs / "second", root=root))
    return runs / "second.toml"


def run_both(root: Path) -> Path:
    """The folder of both runs, ended."""
    result, recipe = train_chain(read_chain(write(root, root / "done")))
    assert recipe.name == "second"
    assert recipe.init.model == str(root / "done" / "first" / "model")
    assert (result.model, result.step) == (root / "done" / "second" / "model", 3)
    return root / "done"


def without_end(root: Path, done: Path, runs: Path) -> Path:
    """Such a folder to be changed, its second run at its last step but without an end; returns the second recipe."""
    recipe = write(root, runs)
    for name in ("first", "second"):
        shutil.copytree(done / name, runs / name)
    shutil.rmtree(runs / "second" / "model")
    return recipe


def stop_after(asked: int) -> Callable[[], bool]:
    """Asks to stop at that question and all after it."""
    count = 0

    def stop() -> bool:
        nonlocal count
        count += 1
        return count >= asked

    return stop


def no_steps(*given: object) -> None:
    raise AssertionError("a step was taken")


def interrupt(*given: object) -> None:
    raise KeyboardInterrupt
