"""Textual inversion (Gal et al. 2022): files of embeddings that stand for a new word of a prompt.

Reads what diffusers, the web UIs and ComfyUI write: `{token: tensor}`, `string_to_param["*"]`, `emb_params`, and for
SDXL `clip_l` with `clip_g`; `.safetensors`, and `.pt` or `.bin` without executing anything in them.

Shapes: m vectors of a word, w width of a text tower.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tandem.conditioning.consumers import Consumer, tower_names
from tandem.errors import ConditioningError
from tandem.files import user_path
from tandem.weights.tensor_files import read_tensor_file

MOST_VECTORS = 75  # of one word: what one chunk holds
_UNNAMED = ("*", "emb_params")  # keys under which the file's name is the word


@dataclass(frozen=True, eq=False)
class TextualInversion:
    """A new word and its embeddings. `vectors` are by tower, or under "" where the file does not say which."""

    token: str
    vectors: Mapping[str, NDArray[np.float32]]  # [m w]
    source: str = ""

    def of(self, tower: str, consumer: Consumer) -> NDArray[np.float32]:
        """Those for one tower of a consumer [m w]. Raises `ConditioningError` where the file has none for it."""
        if tower in self.vectors:
            return self.vectors[tower]
        if "" in self.vectors and len(consumer.towers) == 1:
            return self.vectors[""]
        wanted = ", ".join(use.name for use in consumer.towers)
        found = ", ".join(name or "one tensor without a tower's name" for name in self.vectors)
        raise ConditioningError(
            f"{self.source}: {consumer.name} takes embeddings for {wanted}; the file has {found}: it was learnt for "
            "another image generator"
        )


def read_inversion(source: str | Path, token: str | None = None) -> TextualInversion:
    """Read a file of embeddings. `token` is the word it stands for; else the file's own, or the file's name.

    Raises `WeightsError` for a file that cannot be read, and `ConditioningError` for one of another kind.
    """
    path = user_path(source)
    tensors = read_tensor_file(path).tensors
    towers = [name for name in tensors if name in tower_names()]
    if towers:
        named = {name: tensors[name] for name in towers}
    elif len(tensors) == 1:
        (key, only) = next(iter(tensors.items()))
        named = {"": only}
        token = token or (None if key in _UNNAMED else key)
    else:
        raise ConditioningError(
            f"{path}: expected embeddings of one word, or clip_l and clip_g; found {len(tensors)} tensors, such as "
            f"{', '.join(list(tensors)[:3])}"
        )
    vectors = {name: _vectors(array, path, name) for name, array in named.items()}
    counts = {len(each) for each in vectors.values()}
    if len(counts) > 1:
        raise ConditioningError(f"{path}: expected as many vectors for each tower, got {sorted(counts)}")
    return TextualInversion((token or path.stem).strip(), vectors, str(path))


def read_inversions(
    given: Mapping[str, str | Path | TextualInversion] | Iterable[str | Path | TextualInversion],
) -> tuple[TextualInversion, ...]:
    """Those of files, or of words with files. Raises `ConditioningError` for a word that comes twice."""
    pairs = given.items() if isinstance(given, Mapping) else ((None, each) for each in given)
    found = [each if isinstance(each, TextualInversion) else read_inversion(each, token) for token, each in pairs]
    names = [each.token.lower() for each in found]
    for name in names:
        if names.count(name) > 1:
            raise ConditioningError(f"two embeddings stand for {name!r}; name one of them otherwise")
        if not name:
            raise ConditioningError("an embedding stands for a word of no letters; name it")
    return tuple(found)


def pattern_of(inversions: Iterable[TextualInversion]) -> re.Pattern[str] | None:
    """Finds their words in prompts, longest first, also as ComfyUI writes them (`embedding:word`); None for none."""
    words = sorted((each.token for each in inversions), key=len, reverse=True)
    if not words:
        return None
    any_word = "|".join(re.escape(word) for word in words)
    # A word that begins or ends with a letter is none inside of a longer one
    return re.compile(rf"(?:\bembedding:)?(?<!\w)(?P<word>{any_word})(?!\w)", re.IGNORECASE)


def _vectors(array: NDArray[np.generic], path: Path, name: str) -> NDArray[np.float32]:
    what = f"{path}: {name or 'the embedding'}"
    if array.ndim == 1:
        array = array[None]
    if array.ndim != 2 or not 1 <= len(array) <= MOST_VECTORS or array.dtype.kind not in "fV":
        raise ConditioningError(f"{what}: expected 1 to {MOST_VECTORS} vectors, got {array.dtype} {list(array.shape)}")
    vectors = np.ascontiguousarray(array, np.float32)
    if not np.isfinite(vectors).all():
        raise ConditioningError(f"{what}: expected finite numbers; the file is damaged")
    return vectors
