"""What conditioning gives: states, pooled vectors, and which words were cut. Plain values, which a file can keep.

Shapes: n prompts, t tokens (those of k chunks, one after the other), w width of a tower, d shared dimension.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tandem.arrays import Vectors
from tandem.conditioning.chunks import Word
from tandem.errors import ConditioningError
from tandem.files import atomic_write, user_path
from tandem.weights.safetensors_file import write_safetensors


@dataclass(frozen=True, eq=False)
class TowerStates:
    """What one text tower makes of prompts, both pooled forms among it."""

    states: Vectors  # [n t w], at the layer that the consumer reads, with the weights of words applied
    pooled: Vectors  # [n w]: after the final norm, at the end token of the first chunk
    projected: Vectors  # [n d]: the same in the shared space, not of unit length; [n 0] for a tower without projection
    token_ids: NDArray[np.int32]  # [n t]
    attention_mask: NDArray[np.int32]  # [n t]: 1 up to the end token of each chunk, 0 at padding


@dataclass(frozen=True, eq=False)
class Conditioning:
    """What an image generator takes for prompts and negative prompts, as it takes it."""

    consumer: str
    context_length: int  # tokens of a chunk
    prompts: tuple[str, ...]
    negative_prompts: tuple[str | None, ...]
    states: Vectors  # [n t w]; of several towers side by side, and T5's after them
    pooled: Vectors  # [n p]; [n 0] for a consumer that takes none
    negative_states: Vectors
    negative_pooled: Vectors
    towers: Mapping[str, TowerStates]
    negative_towers: Mapping[str, TowerStates]
    words: tuple[tuple[Word, ...], ...]  # of each prompt, with their weights
    cut: tuple[tuple[str, ...], ...]  # for each prompt the words that reached no row
    negative_cut: tuple[tuple[str, ...], ...]
    missing: str = ""  # what the consumer needs beside this, in words; "": nothing

    @property
    def chunks(self) -> int:
        """How many chunks every prompt was made of."""
        return int(next(iter(self.towers.values())).token_ids.shape[1]) // self.context_length

    def save(self, path: str | Path) -> Path:
        """Write states, pooled vectors and ids as .safetensors, whole or not at all.

        Raises `ConditioningError` for a path that cannot be written to, `OSError` where the disk refuses.
        """
        target = check_target(path)
        arrays: dict[str, NDArray[Any]] = {
            "states": self.states,
            "pooled": self.pooled,
            "negative_states": self.negative_states,
            "negative_pooled": self.negative_pooled,
        }
        for name, tower in self.towers.items():
            arrays |= {f"{name}.token_ids": tower.token_ids, f"{name}.pooled": tower.pooled}
            arrays |= {f"{name}.projected": tower.projected, f"{name}.attention_mask": tower.attention_mask}
        about = {
            "format": "tandem conditioning",
            "consumer": self.consumer,
            "prompts": json.dumps(self.prompts),
            "negative_prompts": json.dumps(self.negative_prompts),
            "cut": json.dumps(self.cut),
        }
        with atomic_write(target) as temporary:
            write_safetensors(temporary, {name: each for name, each in arrays.items() if each.size}, about)
        return target

    def __repr__(self) -> str:
        cut = f", {sum(map(len, self.cut))} words cut" if any(self.cut) else ""
        shapes = f"states {list(self.states.shape)}, pooled {list(self.pooled.shape)}"
        return f"<Conditioning for {self.consumer}: {shapes}{cut}>"


def check_target(path: str | Path) -> Path:
    """The path of a file to write. Raises `ConditioningError` for another suffix, and where there is no folder."""
    target = user_path(path)
    if target.suffix.lower() != ".safetensors":
        raise ConditioningError(f"{target}: expected a name ending in .safetensors, got {target.suffix or 'no suffix'}")
    if not target.absolute().parent.is_dir():
        raise ConditioningError(f"{target}: there is no folder {target.parent}; make it first")
    return target
