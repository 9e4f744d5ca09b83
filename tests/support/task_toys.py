"""A model whose vectors are given, and data sets without images: what tasks count is known beforehand."""

from collections.abc import Iterable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from support import toy
from tandem import prompts
from tandem.arrays import Vectors
from tandem.class_vectors import ClassVectors
from tandem.datasets.dataset import Dataset
from tandem.defaults import LongTexts
from tandem.evaluate.features import Features
from tandem.evaluate.splits import ranks_within_class

FINGERPRINT = "f" * 64


def unit(vectors: Any) -> Vectors:
    array = np.asarray(vectors, dtype=np.float32)
    return np.asarray(array / np.linalg.norm(array, axis=-1, keepdims=True), dtype=np.float32)


class GivenModel:
    """Its vector of a text is that of the longest of `words` in it; of texts that begin with "not", the opposite."""

    name, fingerprint, logit_scale = "given", FINGERPRINT, 10.0
    engine = None  # not one of ours: nothing is kept of it

    def __init__(self, words: Mapping[str, Sequence[float]], data: str = "") -> None:
        self.words = {word: unit(vector) for word, vector in words.items()}
        self.tokenizer = toy.tokenizer()
        self.config = SimpleNamespace(data=data, text=SimpleNamespace(context_length=toy.CONTEXT))

    def embed_texts(self, texts: Iterable[str], *, long: LongTexts = "error") -> Vectors:
        return np.stack([self._vector(text) for text in texts])

    def _vector(self, text: str) -> Vectors:
        found = self.words[max((word for word in self.words if word in text), key=len)]
        return -found if text.startswith("not") else found

    def class_vectors(
        self, labels: Sequence[str], templates: str | Sequence[str], *, language: str | None = None
    ) -> Vectors:
        return ClassVectors().get(prompts.check_labels(labels), templates, "error", self.embed_texts)


def features(
    vectors: Any,
    classes: Sequence[str] = (),
    label_sets: Sequence[Sequence[int]] = (),
    captions: Sequence[Sequence[str]] = (),
    **changes: Any,
) -> Features:
    """Vectors [n d], scaled to unit length, with labels or captions."""
    rows = unit(vectors)
    dataset = Dataset(
        "toys",
        "/data/toys",
        "folder",
        None,
        tuple(f"{i}.png" for i in range(len(rows))),
        tuple(bytes([i % 256]) * 32 for i in range(len(rows))),
        lambda places: [],
        tuple(classes),
        tuple(tuple(each) for each in label_sets),
        tuple(tuple(each) for each in captions),
        **changes,
    )
    return Features(dataset, rows, "given", FINGERPRINT)


def draw_shots(labels: NDArray[np.int64], shots: int, seed: int) -> NDArray[np.intp]:
    """The places of `shots` images of every class, fewer of a class that has fewer."""
    return np.flatnonzero(ranks_within_class(labels, seed) < shots)
