"""Whole training runs in seconds: data, a recipe, and real processes that can be killed at a chosen point.

Processes come from a server that has torch loaded already: starting one takes a moment instead of seconds.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from safetensors.torch import load_file

from support import training_toys
from support.processes import TRAINING, Child

RECIPE = """
name = "toy"
folder = "{folder}"
data_root = "{root}"
steps = 12
vocabulary = 540
precision = "float32"
log_every_steps = 1
workers = 0
stages = [{{ start = 0.0, image_size = 16 }}, {{ start = 0.7, image_size = 32 }}]
[log]
tensorboard = false
[model]
embed_dim = 8
[model.vision]
type = "resnet"
image_size = 32
layers = [1, 1, 1, 1]
width = 4
heads = 2
block = "basic"
stem_stride = 2
[model.text]
context_length = 16
vocabulary_size = 540
width = 16
layers = 1
heads = 2
mlp_width = 32
activation = "gelu"
start_id = 538
end_id = 539
[[data]]
path = "names.parquet"
text = "names"
kind = "names"
per_batch = 6
[[data]]
path = "captions.tar"
text = "captions"
per_batch = 9
[ema]
decay = 0.9
[parallel]
micro_batches = 2
norm_batch = 4
[checkpoints]
every_steps = 3
keep_last = 2
[optimiser]
learning_rate = 1e-2
warmup_steps = 2
[validation]
every_steps = 4
zero_shot = "names.parquet"
retrieval = "captions.tar"
"""

_CODE = "from support.run_toys import train_here; train_here()"


def write_data(root: Path) -> Path:
    training_toys.write_parquet(root / "names.parquet")
    training_toys.write_tar(root / "captions.tar")
    return root


def write_recipe(root: Path, folder: Path) -> Path:
    path = root / f"{folder.name}.toml"
    path.write_text(RECIPE.format(folder=folder, root=root))
    return path


def start(
    recipe: Path,
    overrides: Sequence[str] = (),
    *,
    die: str = "",
    rank: int = 0,
    processes: int = 1,
    port: int = 0,
    float64: bool = False,
) -> Child:
    """A process that trains.

    die: where it kills itself: a point and a count, `step 4`, `writing 2`, `flushing 9`, `removing 1` or `file 1`.
    float64: it trains in double precision.
    """
    environment = {"RANK": rank, "WORLD_SIZE": processes, "LOCAL_RANK": rank, "MASTER_PORT": port}
    return Child(TRAINING, _CODE, json.dumps([str(recipe), list(overrides), die, environment, float64]))


def finish(*processes: Child) -> list[int | None]:
    """Exit codes. Where one dies, the others are killed too: as torchrun does it."""
    codes: list[int | None] = []
    for process in processes:
        while process.poll() is None and not any(other.poll() for other in processes):
            time.sleep(0.02)
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        codes.append(process.wait())
        if process.wait() > 0:
            print(process.stderr.read())
        process.stdout.close()
        process.stderr.close()
    return codes


def last_state(folder: Path) -> dict[str, Any]:
    """Everything that the newest checkpoint has, by name."""
    newest = max((folder / "checkpoints").glob("step-*"))
    return {"step": int(newest.name[5:]), **load_file(newest / "trainer.safetensors")}


def train_here() -> None:
    """What such a process does."""
    recipe, *others = json.loads(sys.argv[1])
    _train(Path(recipe), *others)


def _train(recipe: Path, overrides: list[str], die: str, environment: dict[str, int], float64: bool) -> None:
    os.environ.update({"MASTER_ADDR": "127.0.0.1", **{name: str(value) for name, value in environment.items()}})
    import torch

    from tandem.errors import TandemError
    from tandem.train.parallel.process import start as start_processes
    from tandem.train.recipe_file import read_recipe
    from tandem.train.run.loop import train

    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64 if float64 else torch.float32)
    done = 0
    point, _, number = die.partition(" ")
    if point not in ("", "step"):
        _die_at(point, int(number))

    def stop_requested() -> bool:
        nonlocal done
        done += 1
        if point == "step" and done == int(number):
            os.kill(os.getpid(), signal.SIGKILL)
        return False

    chosen = read_recipe(recipe, overrides)
    processes = start_processes(chosen.device)
    try:
        train(chosen, stop_requested, processes)
    except TandemError as error:
        (recipe.parent / "refused.txt").write_text(str(error))
        raise SystemExit(2) from None
    finally:
        processes.close()


def _die_at(point: str, number: int) -> None:
    """Kill this process amid the `number`th checkpoint, or the `number`th small file (`file 1`), half written."""
    from tandem import files
    from tandem.train.run import checkpoint

    times = 0

    def patched(module: ModuleType | type, name: str, before: bool) -> None:
        original = getattr(module, name)

        def instead(*arguments: Any, **named: Any) -> Any:
            nonlocal times
            times += 1
            if times < number:
                return original(*arguments, **named)
            if not before:
                original(*arguments, **named)
                if name != "_remove":  # half of what was to be there
                    path = Path(arguments[1 if name == "save_file" else 0])
                    os.truncate(path, path.stat().st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)
            return None

        setattr(module, name, instead)

    if point == "file":
        patched(Path, "write_text", False)
        patched(Path, "write_bytes", False)
        return
    patched(
        *{
            "writing": (checkpoint, "save_file", False),
            "flushing": (files, "sync", True),
            "removing": (checkpoint, "_remove", True),
        }[point]
    )
