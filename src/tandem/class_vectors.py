"""A vector for each label: those of its prompts averaged. Recent sets of labels are cached, large ones on disk.

Knows texts and vectors; the encoder is passed in, and what files depend on beside the texts.

Shapes: c labels, k templates, d dimensions.
"""

import threading
import warnings
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from tandem import prompts
from tandem.arrays import Vectors
from tandem.defaults import LongTexts
from tandem.language_identification import is_latin, is_not_english

CACHED_LABEL_SETS = 16

_Key = tuple[tuple[str, ...], tuple[str, ...], LongTexts]


class ClassVectors:
    """The class vectors of one model. Thread-safe."""

    def __init__(self) -> None:
        self._cache: dict[_Key, Vectors] = {}  # the oldest first
        self._lock = threading.Lock()
        self._warned = False

    def __len__(self) -> int:
        return len(self._cache)

    def warn_of_language(self, language: str | None, labels: Sequence[str], model: str) -> None:
        """Warn once that a model of English was not trained on the language of the labels, or on their letters.

        Without `language`, labels in Latin letters are recognised where they are sentences.
        """
        if self._warned:
            return
        if language is not None and prompts.base_language(language) != prompts.ENGLISH:
            foreign = f"labels in {language!r}"
        else:
            foreign = next((f"{label!r}, in other letters," for label in labels if not is_latin(label)), "")
            if not foreign:
                foreign = next((f"{each!r}, no English," for each in labels if is_not_english(each)), "")
            foreign = foreign and f"labels such as {foreign}"
        if foreign:
            self._warned = True
            warnings.warn(
                f"{model} was trained on English texts: it guesses what {foreign} mean; give English ones, or load a "
                "model of many languages; see: tandem models --for languages",
                stacklevel=4,
            )

    def get(
        self,
        labels: Sequence[str],
        templates: str | Sequence[str],
        long: LongTexts,
        embed_texts: Callable[..., Vectors],
        file_key: Callable[[int], Mapping[str, object] | None] = lambda prompts: None,
    ) -> Vectors:
        """float32 [c d] of unit length, read-only (Radford et al. 2021, 3.1.4).

        file_key: of a number of prompts, all that their vectors depend on beside the texts; None where a file of them
        is not worth its while.
        """
        chosen = prompts.check_templates(templates)
        key = (tuple(labels), chosen, long)
        with self._lock:
            vectors = self._cache.pop(key, None)
        if vectors is None:
            filled = [prompts.fill(label, template)[0] for template in chosen for label in labels]

            def embedded() -> Vectors:
                each = embed_texts(filled, long=long).reshape(len(chosen), len(labels), -1)  # [k*c d] -> [k c d]
                return averaged(each.swapaxes(0, 1))

            about = file_key(len(filled))
            key_on_disk = {**(about or {}), "prompts": filled, "labels": len(labels), "long": long}
            vectors = embedded() if about is None else _kept(key_on_disk, embedded)
            vectors.flags.writeable = False  # shared with later callers
        with self._lock:
            self._cache[key] = vectors
            if len(self._cache) > CACHED_LABEL_SETS:
                del self._cache[next(iter(self._cache))]
        return vectors


def _kept(key: Mapping[str, object], compute: Callable[[], Vectors]) -> Vectors:
    """The vectors from their file; computed, and written there, where it has none."""
    from tandem.class_vector_files import ClassVectorFile

    file = ClassVectorFile(key)
    vectors = file.read()
    if vectors is None:
        vectors = compute()
        file.write(vectors)
    return vectors


def averaged(each: Vectors) -> Vectors:
    """Average the vectors of several texts for each label: [c k d] -> unit length [c d]."""
    mean = each.mean(axis=1)
    return np.asarray(mean / np.linalg.norm(mean, axis=-1, keepdims=True))
