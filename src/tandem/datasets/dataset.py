"""A data set as tasks see it: images in a fixed order, with labels or captions. It knows no layout and no model.

Shapes: n images, c classes.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import sha256
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from tandem.arrays import Vectors
from tandem.errors import DataError
from tandem.image import ImageSource

_Value = TypeVar("_Value")
OpenImages = Callable[[Sequence[int]], Iterable[ImageSource]]


@dataclass(frozen=True, eq=False)
class StoredVectors:
    """The vectors of a data set that were computed before, float32 [n d], and the fingerprint of their model."""

    fingerprint: str
    vectors: Vectors
    orient: bool = True  # whether the images were turned upright


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images with labels, with captions, or with both; `keys`, `label_sets`, `captions` and `digests` have n rows.

    Images are read only when they are asked for, and stay encoded. Nothing in it depends on the order in which a
    file system lists files.
    """

    name: str  # short, for tables and reports
    source: str  # what the user gave
    layout: str  # "folder", "parquet", "webdataset", "coco", "karpathy", "table", "collection"
    split: str | None
    keys: tuple[str, ...]  # stable names of the images: relative paths, keys in shards, `FILE#ROW`
    digests: tuple[bytes, ...]  # SHA-256 of each image's bytes
    open_images: OpenImages  # yields the images at these places, in their order, as paths or bytes
    classes: tuple[str, ...] = ()  # names as a person reads them; () without labels
    label_sets: tuple[tuple[int, ...], ...] = ()  # places in `classes`; several, or none, where labels do not compete
    captions: tuple[tuple[str, ...], ...] = ()
    templates: tuple[str, ...] | None = None  # prompts that came with the data set
    multi_label: bool = False
    stored: StoredVectors | None = None
    notes: tuple[str, ...] = field(default=())  # what was left out, in a line each

    def __len__(self) -> int:
        return len(self.keys)

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """The class of each image, int64 [n]. Raises `DataError` for a data set whose images have several."""
        if self.multi_label or not self.classes:
            what = "images have several labels" if self.multi_label else "there are no labels"
            raise DataError(f"{self.name}: expected one label for each image, but {what}")
        return np.array([labels[0] for labels in self.label_sets], dtype=np.int64)

    @cached_property
    def label_matrix(self) -> NDArray[np.bool_]:
        """Whether each image has each label, bool [n c]."""
        matrix = np.zeros((len(self), len(self.classes)), dtype=bool)
        for row, labels in enumerate(self.label_sets):
            matrix[row, list(labels)] = True
        return matrix

    @cached_property
    def images_hash(self) -> str:
        """SHA-256 over the bytes of all images in their order: what vectors depend on."""
        return sha256(b"".join(self.digests)).hexdigest()

    @cached_property
    def hash(self) -> str:
        """SHA-256 over images, classes, labels and captions: what figures depend on."""
        everything = sha256(self.images_hash.encode())
        everything.update(repr((self.classes, self.label_sets, self.captions, self.multi_label)).encode())
        return everything.hexdigest()

    def images(self, places: Sequence[int] | None = None) -> Iterator[ImageSource]:
        """The images, or those at `places`, in that order."""
        return iter(self.open_images(range(len(self)) if places is None else places))

    def take(self, places: Sequence[int], note: str | None = None) -> "Dataset":
        """The data set of the images at `places`, in that order, with the same classes; `note` says why."""
        chosen = [int(place) for place in places]

        def some(values: tuple[_Value, ...]) -> tuple[_Value, ...]:
            return tuple(values[place] for place in chosen) if values else ()

        stored = self.stored
        return replace(
            self,
            keys=some(self.keys),
            digests=some(self.digests),
            label_sets=some(self.label_sets),
            captions=some(self.captions),
            open_images=lambda wanted: self.open_images([chosen[place] for place in wanted]),
            stored=None if stored is None else replace(stored, vectors=stored.vectors[chosen]),
            notes=self.notes if note is None else (*self.notes, note),
        )

    def with_digests(self, digests: Sequence[bytes], notes: Sequence[str]) -> "Dataset":
        """The same data set with the digests of its images, and these notes."""
        return replace(self, digests=tuple(digests), notes=tuple(notes))
