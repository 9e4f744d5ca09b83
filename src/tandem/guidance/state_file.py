"""A run that was interrupted, in one safetensors file: arrays, and in its metadata what they belong to.

Knows files and plain values; nothing of torch. Nothing in it is executed.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tandem.arrays import Vectors
from tandem.errors import TandemError, WeightsError
from tandem.files import user_path, write_bytes
from tandem.guidance.goals import Goal, Goals
from tandem.guidance.history import Judged
from tandem.guidance.settings import STATE_SUFFIX, Settings
from tandem.weights.safetensors_file import read_safetensors, safetensors_bytes

FORMAT = "tandem-guidance-1"
_GOALS = ("toward_vectors", "away_vectors", "negative_vectors")


@dataclass(frozen=True, eq=False)
class State:
    """An interrupted run: what it was asked for, how far it came, and the arrays that it consists of.

    `start` is the photo, uint8 [H W 3], or None; `among` the texts that the prompt is ranked among.
    """

    settings: Settings
    goals: Goals
    among: tuple[str, ...]
    fingerprint: str
    model: str
    step: int
    history: tuple[Judged, ...]
    start: NDArray[np.uint8] | None
    arrays: Mapping[str, NDArray[np.generic]]


def write_state(state: State, path: str | Path) -> Path:
    """Write a state file, whole or not at all. Raises `OSError`."""
    target = user_path(path)
    about = {
        "settings": asdict(state.settings),
        "toward": [asdict(goal) for goal in state.goals.toward],
        "away": [asdict(goal) for goal in state.goals.away],
        "among": list(state.among),
        "fingerprint": state.fingerprint,
        "model": state.model,
        "step": state.step,
        "history": [asdict(each) for each in state.history],
    }
    tensors: dict[str, NDArray[Any]] = {f"run.{name}": array for name, array in state.arrays.items()}
    tensors |= {f"goals.{name}": getattr(state.goals, name) for name in _GOALS}
    if state.start is not None:
        tensors["start"] = state.start
    write_bytes(target, safetensors_bytes(tensors, {"format": FORMAT, "about": json.dumps(about)}))
    return target


def read_state(path: str | Path) -> State:
    """Read a state file. Raises `TandemError` for any other file, and a damaged one."""
    source = user_path(path)
    if not source.is_file():
        what = "a folder" if source.is_dir() else "not there"
        raise TandemError(f"{source}: expected the state of an interrupted run (NAME{STATE_SUFFIX}), it is {what}")
    try:
        tensors, metadata = read_safetensors(source)
    except WeightsError:
        raise TandemError(f"{source}: not the state of an interrupted run, or a damaged one") from None
    if metadata.get("format") != FORMAT:
        raise TandemError(f"{source}: not the state of an interrupted run of this version ({FORMAT})")
    try:
        return _state(json.loads(metadata["about"]), tensors)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise TandemError(f"{source}: a damaged state ({error})") from None


def _state(about: dict[str, Any], tensors: Mapping[str, NDArray[Any]]) -> State:
    settings, step = Settings(**about["settings"]), int(about["step"])
    vectors: list[Vectors] = [np.array(tensors[f"goals.{name}"], dtype=np.float32) for name in _GOALS]
    toward, away = (tuple(Goal(**goal) for goal in about[name]) for name in ("toward", "away"))
    dimension = vectors[0].shape[-1]
    if not toward:
        raise ValueError("no goal to go toward")
    if [len(vectors[0]), len(vectors[1])] != [len(toward), len(away)]:
        raise ValueError("goals without vectors")
    if any(each.ndim != 2 or each.shape[1] != dimension for each in vectors):
        raise ValueError("vectors of different sizes")
    start = np.array(tensors["start"]) if "start" in tensors else None
    if start is not None and (start.dtype != np.uint8 or start.shape != (settings.height, settings.width, 3)):
        raise ValueError(f"a photo {start.dtype} {list(start.shape)}")
    if not 0 <= step <= settings.steps:
        raise ValueError(f"step {step} of {settings.steps}")
    return State(
        settings,
        Goals(toward, away, *vectors),
        tuple(str(each) for each in about["among"]),
        str(about["fingerprint"]),
        str(about["model"]),
        step,
        tuple(Judged(**each) for each in about["history"]),
        start,
        {name.removeprefix("run."): array for name, array in tensors.items() if name.startswith("run.")},
    )
