"""Reports of a run: lines on the terminal, curve.csv, TensorBoard, Weights & Biases.

Only the main process reports. Knows names, numbers and clocks.
"""

import importlib.util
import math
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from tandem.errors import MissingExtraError
from tandem.plain_line import plain_lines
from tandem.train.recipe import Recipe, to_dict
from tandem.train.run.curve import Curve

Clock = Callable[[], float]  # seconds


class Writer(Protocol):
    """A destination of logged figures."""

    def write(self, step: int, values: Mapping[str, float]) -> None: ...

    def close(self) -> None: ...


class Meter:
    """Mean losses, rates, and the share of the time spent waiting for data, since last read."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._reset()

    def _reset(self) -> None:
        self._sums: dict[str, float] = {}
        self._steps = self._pairs = self._counted = 0
        self._waited = 0.0
        self._since = self._clock()

    def waited(self, seconds: float) -> None:
        """Add a wait for data."""
        self._waited += seconds

    def count(self, pairs: int, values: Mapping[str, float]) -> None:
        """Add a step. One without a finite loss counts for the rates only."""
        self._steps += 1
        self._pairs += pairs
        if all(math.isfinite(value) for value in values.values()):
            self._counted += 1
            for name, value in values.items():
                self._sums[name] = self._sums.get(name, 0.0) + value

    def read(self, steps_left: int = 0) -> dict[str, float]:
        """Means by name, `pairs_per_s`, `wait` (0..1) and `eta_s` for the steps left; then starts again."""
        seconds = max(self._clock() - self._since, 1e-9)
        out = {name: value / self._counted for name, value in self._sums.items()}
        out["pairs_per_s"] = self._pairs / seconds
        out["wait"] = min(self._waited / seconds, 1.0)
        out["eta_s"] = steps_left * seconds / max(self._steps, 1)
        self._reset()
        return out


class RunLog:
    """Everything that figures of a run go to; on all processes but the main one, nothing."""

    def __init__(self, recipe: Recipe, folder: Path, step: int, is_main: bool = True) -> None:
        self.is_main = is_main
        self._writers: list[Writer] = []
        if not is_main:
            return
        self._curve = Curve(folder / "curve.csv", step)
        if recipe.log.tensorboard:
            if _installed("tensorboard"):
                self._writers.append(_TensorBoard(folder / "tensorboard", step))
            else:
                self.echo("TensorBoard is not installed: no curves for it (pip install 'tandem-clip[train]')")
        if recipe.log.wandb:
            self._writers.append(_WeightsAndBiases(recipe, folder))

    def echo(self, line: str) -> None:
        """A line for people."""
        if self.is_main:
            echo(line)

    def step(self, done: int, steps: int, values: Mapping[str, float]) -> None:
        """The figures of the steps up to `done`."""
        self.echo(step_line(done, steps, values))
        self._write(done, {name: value for name, value in values.items() if name != "eta_s"})

    def measures(self, done: int, values: Mapping[str, float]) -> None:
        """Validation measures after step `done`, from 0 to 1."""
        self.echo(f"step {done}  " + "  ".join(f"{name} {100 * value:.1f}%" for name, value in values.items()))
        self._write(done, values)

    def close(self) -> None:
        """Close all destinations."""
        for writer in self._writers:
            writer.close()

    def _write(self, done: int, values: Mapping[str, float]) -> None:
        if self.is_main:
            self._curve.write({"step": done, **values})
            for writer in self._writers:
                writer.write(done, values)


class _TensorBoard:
    """Event files in the folder of the run. Those past the step at which a run resumes are hidden."""

    def __init__(self, folder: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(folder), purge_step=step + 1)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()  # a killed run keeps its curve

    def close(self) -> None:
        self._writer.close()


class _WeightsAndBiases:
    """A run of a Weights & Biases project. Its id is kept in the folder of the run, which resumes under it."""

    def __init__(self, recipe: Recipe, folder: Path) -> None:
        if not _installed("wandb"):
            raise MissingExtraError("wandb", "wandb", f"log.wandb = {recipe.log.wandb!r}")
        import wandb

        kept = folder / "wandb-id.txt"
        known = kept.read_text(encoding="utf-8").strip() if kept.exists() else None
        self._run: Any = wandb.init(
            project=recipe.log.wandb,
            name=recipe.name,
            id=known,
            resume="allow",
            dir=str(folder),
            config=to_dict(recipe),
        )
        kept.write_text(f"{self._run.id}\n", encoding="utf-8")

    def write(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        self._run.finish()


def echo(line: str) -> None:
    """Print a line on standard error, flushed."""
    print(plain_lines(line), file=sys.stderr, flush=True)


def step_line(done: int, steps: int, values: Mapping[str, float]) -> str:
    """`step 40 of 5200  loss 5.31 (contrast 4.9, distance 0.4)  812 pairs/s  wait 3%  ...  2 h 05 min left`."""
    usual = {
        "pairs_per_s": "{:.0f} pairs/s", "wait": "wait {:.0%}", "learning_rate": "rate {:.3g}", "scale": "scale {:.3g}",
        "gradient_norm": "norm {:.3g}", "memory_gb": "{:.2g} GB", "image_size": "{:.0f} px",
    }  # fmt: skip
    known = {"loss", "eta_s", *usual}
    parts = ", ".join(f"{name} {value:.4g}" for name, value in values.items() if name not in known)
    said = [f"step {done} of {steps}"]
    if "loss" in values:
        said.append(f"loss {values['loss']:.4g}" + (f" ({parts})" if parts else ""))
    said += [form.format(values[name]) for name, form in usual.items() if name in values]
    if values.get("eta_s"):
        said.append(f"{duration(values['eta_s'])} left")
    return "  ".join(said)


def duration(seconds: float) -> str:
    """For people: 45 s, 12 min, 2 h 05 min, 3 d 4 h."""
    minutes = round(seconds / 60)
    if seconds < 60:
        return f"{seconds:.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes // 1440} d {minutes % 1440 // 60} h"


def memory_gb(device: str) -> float:
    """GB (10^9 bytes): the peak of CUDA tensors since last asked, or the resident memory of this process."""
    if device.startswith("cuda"):
        import torch

        peak = torch.cuda.max_memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        return peak / 1e9
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e9
    except OSError:  # not Linux: the peak
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def _installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):
        return False
