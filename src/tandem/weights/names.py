"""Tensor names: every foreign format is a pure renaming to and from the original's names.

Original names are OpenAI's: `visual.` for the image tower, no prefix for the text tower. open_clip has the same, or
the text tower under `text.` and timm's image towers under `visual.trunk.`; transformers has its own. Which tensor is
called what is written in the rooms of the towers. Here arrays are cut, turned and stacked as those rules say. No files.
"""

import functools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

import numpy as np

from tandem.towers import IMAGE_TOWERS, TEXT_TOWERS, tower_part
from tandem.towers.parts.int8 import QuantizedTensors
from tandem.towers.parts.names import Names, Rule

Naming = Literal["original", "open_clip", "transformers"]

# Wrappers that training code leaves in front of every name.
_PREFIXES = ("module.", "_orig_mod.", "model.", "clip_model.", "clip.")
_BUFFERS = ("num_batches_tracked", "attn_mask", "position_ids")
_SIZES = ("input_resolution", "context_length", "vocab_size")  # the three extra buffers of OpenAI's archives


class StackedOnDemand(Mapping[str, np.ndarray]):
    """Arrays by name, some of which lie in parts in the file and are stacked each time they are asked for.

    `parts(name)` are the arrays as they lie: what an engine takes, so that no stacked copy stays in memory.
    """

    def __init__(self, whole: Mapping[str, np.ndarray], stacked: Mapping[str, tuple[np.ndarray, ...]]) -> None:
        self._parts = {name: (array,) for name, array in whole.items()} | dict(stacked)

    def parts(self, name: str) -> tuple[np.ndarray, ...]:
        return self._parts[name]

    def __getitem__(self, name: str) -> np.ndarray:
        parts = self._parts[name]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def __contains__(self, name: object) -> bool:
        return name in self._parts

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)


def subset(tensors: Mapping[str, np.ndarray], names: Iterable[str]) -> Mapping[str, np.ndarray]:
    """The tensors of these names, without stacking what lies in parts. Raises `KeyError`."""
    if isinstance(tensors, StackedOnDemand):
        return StackedOnDemand({}, {name: tensors.parts(name) for name in names})
    return {name: tensors[name] for name in names}


def shape_and_dtype(tensors: Mapping[str, np.ndarray], name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Without stacking what lies in parts, or computing what is quantised."""
    if isinstance(tensors, QuantizedTensors):
        return tensors.shape_and_dtype(name)
    parts = tensors.parts(name) if isinstance(tensors, StackedOnDemand) else (tensors[name],)
    rows = sum(part.shape[0] for part in parts) if len(parts) > 1 else None
    return (parts[0].shape if rows is None else (rows, *parts[0].shape[1:])), parts[0].dtype


def strip_prefixes(names: Iterable[str]) -> dict[str, str]:
    """Names as they came -> names without what wraps them all (`module.`, `_orig_mod.`, ...)."""
    renamed = {name: name for name in names}
    while renamed:
        prefix = next((p for p in _PREFIXES if all(name.startswith(p) for name in renamed.values())), None)
        if prefix is None:
            break
        renamed = {name: short.removeprefix(prefix) for name, short in renamed.items()}
    return renamed


def is_buffer(name: str) -> bool:
    """Whether a tensor follows from the architecture, so that it is dropped."""
    return name in _SIZES or name.rpartition(".")[2] in _BUFFERS


def has_openai_buffers(names: Iterable[str]) -> bool:
    """Whether the three extra buffers of OpenAI's archives are there."""
    return set(_SIZES) <= set(names)


def naming_of(names: Iterable[str]) -> Naming:
    """Which format the (unwrapped) names are of. Unknown names count as original: the check will name them."""
    names = set(names)
    if any(name.startswith(("vision_model.", "text_model.")) for name in names):
        return "transformers"
    if any(name.startswith(("text.", "visual.trunk.")) for name in names):
        return "open_clip"
    return "original"


@functools.cache
def names_of(naming: Naming) -> Names:
    """The names that a format has for the tensors of every tower that Tandem knows."""
    kinds = (*IMAGE_TOWERS.values(), *TEXT_TOWERS.values())
    return Names(rule for kind in kinds for rule in tower_part(kind, "names").RULES.get(naming, ()))


def to_original(tensors: Mapping[str, np.ndarray]) -> tuple[Mapping[str, np.ndarray], Naming]:
    """Foreign tensors under the original names, without wrappers and buffers, and the naming they came in.

    A tensor that has no place keeps its name: the check against the configuration then names it as surplus.
    """
    stripped = {short: tensors[name] for name, short in strip_prefixes(tensors).items()}
    kept = {name: array for name, array in stripped.items() if not is_buffer(name)}
    for scalar in ("logit_scale", "logit_bias"):  # open_clip and transformers can train them as vectors of one
        if scalar in kept and kept[scalar].shape == (1,):
            kept[scalar] = kept[scalar].reshape(())
    naming = naming_of(stripped)
    if naming == "open_clip":
        kept = {name.removeprefix("text."): array for name, array in kept.items()}
    return renamed_from(kept, names_of(naming)), naming


def display_name(name: str, names: Names) -> str:
    """One of our names as a file has it, for messages."""
    found = names.theirs(name)
    if found is None:
        return name
    first, *others = found[1]
    return first.replace("q_proj", "{q,k,v}_proj") if others else first


def renamed_from(tensors: Mapping[str, np.ndarray], names: Names) -> Mapping[str, np.ndarray]:
    """Tensors of another format under our names; those without a place there keep theirs."""
    renamed: dict[str, np.ndarray] = {}
    divided: dict[str, dict[int, tuple[str, np.ndarray]]] = {}
    rules: dict[str, Rule] = {}
    for name, array in tensors.items():
        found = names.ours(name)
        if found is None:
            renamed[name] = array
        elif len(found[0].theirs) > 1:
            divided.setdefault(found[1], {})[found[2]] = (name, array)
            rules[found[1]] = found[0]
        else:
            renamed[found[1]] = _turned(array, found[0])
    stacked: dict[str, tuple[np.ndarray, ...]] = {}
    for name, given in divided.items():
        pieces = [given[i][1] for i in range(len(rules[name].theirs)) if i in given]
        if _fit(pieces, rules[name]):
            stacked[name] = tuple(pieces)
        else:
            renamed.update(dict(given.values()))  # left as they came, for the check to name
    return StackedOnDemand(renamed, stacked) if stacked else renamed


def renamed_to(tensors: Mapping[str, np.ndarray], names: Names, *, keep_others: bool = False) -> dict[str, np.ndarray]:
    """Our tensors under another format's names. Raises `KeyError` with a name that has no place there.

    keep_others: what has no rule keeps its name.
    """
    renamed: dict[str, np.ndarray] = {}
    for name, array in tensors.items():
        found = names.theirs(name)
        if found is None:
            if not keep_others:
                raise KeyError(name)
            renamed[name] = array
            continue
        rule, theirs = found
        if len(theirs) == 1:
            renamed[theirs[0]] = _turned_back(array, rule)
        else:
            shares = rule.rows or (1,) * len(theirs)
            rows = len(array) // sum(shares)
            cuts = np.cumsum([share * rows for share in shares])[:-1]
            renamed.update(zip(theirs, np.split(array, cuts), strict=True))
    return renamed


def _turned(array: np.ndarray, rule: Rule) -> np.ndarray:
    if rule.ones and array.shape[: rule.ones] == (1,) * rule.ones:
        return array.reshape(array.shape[rule.ones :])
    return np.ascontiguousarray(array.T) if rule.transposed and array.ndim == 2 else array


def _turned_back(array: np.ndarray, rule: Rule) -> np.ndarray:
    if rule.ones:
        return array.reshape((1,) * rule.ones + array.shape)
    return np.ascontiguousarray(array.T) if rule.transposed else array


def _fit(pieces: list[np.ndarray], rule: Rule) -> bool:
    """Whether these are all the parts of one tensor."""
    shares = rule.rows or (1,) * len(rule.theirs)
    if len(pieces) != len(rule.theirs) or not all(piece.ndim for piece in pieces):
        return False
    rows = len(pieces[0])
    return all(
        piece.dtype == pieces[0].dtype and piece.shape == (rows * share, *pieces[0].shape[1:])
        for piece, share in zip(pieces, shares, strict=True)
    )
