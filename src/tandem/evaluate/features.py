"""The vectors of a data set's images: what all tasks on frozen features read. Computed once, then found in the cache.

Shapes: n images, d the shared dimension.
"""

import contextlib
import functools
import hashlib
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import tandem
from tandem.arrays import Vectors
from tandem.datasets.dataset import Dataset
from tandem.errors import DataError, ImageError, TandemError
from tandem.evaluate.feature_cache import FeatureCache
from tandem.evaluate.readable import OnError, unreadable_note
from tandem.home import cache_folder
from tandem.image import ImageSource, read_bytes
from tandem.model import Model
from tandem.prefetch import in_order
from tandem.progress import Progress

# The modules between an image, or a caption, and its vector
_CODE = (
    *("image*.py", "pixels.py", "processor.py", "config.py", "model.py", "bpe.py", "long_texts.py"),
    *("tokenizer/**/*.py", "engine/**/*.py", "nn/**/*.py", "towers/**/*.py"),
)
_BATCH = 128  # images encoded at once
_KEEP_ROWS, _KEEP_S = 4096, 30.0  # after so many images or seconds, what was computed is written down


@dataclass(frozen=True, eq=False)
class Features:
    """A data set and the vectors of its images, one row for each, and whose vectors they are."""

    dataset: Dataset
    vectors: Vectors  # float32 [n d] of unit length; may be memory-mapped, and read-only
    model_name: str
    fingerprint: str

    def __len__(self) -> int:
        return len(self.dataset)

    def take(self, places: Sequence[int] | NDArray[np.integer], note: str | None = None) -> "Features":
        """Those of the images at `places`, in that order, with the same classes; `note` says why."""
        chosen = np.asarray(places, dtype=np.int64)
        return replace(self, dataset=self.dataset.take(chosen.tolist(), note), vectors=self.vectors[chosen])


def embed_dataset(
    model: Model,
    dataset: Dataset,
    *,
    cache: bool = True,
    on_error: OnError = "raise",
    progress: bool | None = None,
) -> Features:
    """The vectors of a data set's images by a model.

    With `cache`, vectors are kept below `TANDEM_CACHE` (or `~/.cache/tandem`), under the model, how it computes, and
    the bytes of each image; an interrupted call can be repeated to resume. The vectors of a collection are taken
    from it.

    `on_error` is for images that cannot be read: "raise" raises `DataError` that counts them and names the first,
    after all others were computed; "skip" leaves them out of the data set, with a note. `progress` shows a bar; None
    shows one for many images in a terminal or a notebook.
    """
    if on_error not in ("raise", "skip"):
        raise TandemError(f'on_error: expected "raise" or "skip", got {on_error!r}')
    if dataset.stored is not None:
        return _stored(model, dataset)
    kept = feature_cache(model) if cache else None
    found = kept.lookup(dataset.digests) if kept is not None else None
    if found is not None and found[1].all():
        return Features(dataset, found[0], model.name, model.fingerprint)
    vectors, present = found if found is not None else (np.zeros((0, 0)), np.zeros(len(dataset), np.bool_))
    rows = np.zeros((len(dataset), model.config.embed_dim), np.float32)
    rows[present] = vectors[present] if present.any() else 0
    missing = np.flatnonzero(~present).tolist()
    failures: dict[int, ImageError] = {}
    with (
        Progress(len(missing), show=progress, label="embedding", unit="image") as bar,
        _Keeper(kept, dataset) as keeper,
    ):
        for place, item in _embedded(model, dataset, missing):
            bar.advance()
            if isinstance(item, ImageError):
                failures[place] = item.renewed(dataset.keys[place])
            else:
                rows[place] = item
                keeper.add(place, item)
    features = Features(dataset, rows, model.name, model.fingerprint)
    return _without(features, failures, on_error) if failures else features


def feature_cache(model: Model) -> FeatureCache | None:
    """The cache of this model's vectors; None for an engine of the caller's own, of which nothing is known."""
    engine = model.engine
    package = type(engine).__module__
    if not package.startswith("tandem.engine."):
        return None
    key = {
        "fingerprint": model.fingerprint,  # weights, configuration and preprocessing
        "orient": model.orient,
        "engine": engine.name,
        "device": engine.device.lower().partition(":")[0],
        "precision": engine.precision,
        # What decodes, resizes and computes may differ in the last digits from version to version.
        "versions": {name: _version(name) for name in ("Pillow", "numpy", engine.name)}
        | {"tandem": tandem.__version__},
        "code": code_hash(Path(tandem.__file__).parent),
    }
    return FeatureCache(cache_folder() / "features", key, model.config.embed_dim)


@functools.cache
def code_hash(package: Path) -> str:
    """SHA-256 over the modules that make vectors: a change of them is not always a new version."""
    found = hashlib.sha256()
    for path in sorted(path for pattern in _CODE for path in package.glob(pattern)):
        found.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return found.hexdigest()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _stored(model: Model, dataset: Dataset) -> Features:
    assert dataset.stored is not None
    if dataset.stored.fingerprint != model.fingerprint:
        raise DataError(
            f"{dataset.source}: it holds vectors of another model ({dataset.stored.fingerprint[:12]}), not of "
            f"{model.name} ({model.fingerprint[:12]}): evaluate that model, or the images themselves"
        )
    if dataset.stored.orient != model.orient:
        raise DataError(
            f"{dataset.source}: its vectors are of images {'upright' if dataset.stored.orient else 'as stored'}: "
            f"load the model with orient={dataset.stored.orient}"
        )
    return Features(dataset, dataset.stored.vectors, model.name, model.fingerprint)


def _embedded(model: Model, dataset: Dataset, places: Sequence[int]) -> Iterator[tuple[int, Vectors | ImageError]]:
    """Each place with its vector [d], or why its image cannot be read."""

    def checked(item: tuple[int, ImageSource]) -> ImageSource:
        """The bytes of an image, which have to be those whose digest is known: vectors are kept under it."""
        place, source = item
        try:
            content = read_bytes(source, limits=model.limits)
        except ImageError:
            return source  # the model finds the same, in its place
        if hashlib.sha256(content).digest() != dataset.digests[place]:
            raise DataError(
                f"{dataset.name}, {dataset.keys[place]}: it has changed since the data set was opened; open it again"
            )
        return content

    with contextlib.closing(in_order(checked, zip(places, dataset.images(places), strict=True), ahead=_BATCH)) as read:
        for index, item in model.iter_embed_images(read, batch_size=_BATCH):
            yield places[index], item


class _Keeper:
    """Writes vectors to the cache in batches, and the last ones however the work ends."""

    def __init__(self, cache: FeatureCache | None, dataset: Dataset) -> None:
        self.cache, self.dataset = cache, dataset
        self.waiting: list[tuple[bytes, Vectors]] = []
        self.written = time.monotonic()

    def __enter__(self) -> "_Keeper":
        return self

    def __exit__(self, *_: object) -> None:
        self.write()

    def add(self, place: int, vector: Vectors) -> None:
        if self.cache is not None:
            self.waiting.append((self.dataset.digests[place], vector))
            if len(self.waiting) >= _KEEP_ROWS or time.monotonic() - self.written > _KEEP_S:
                self.write()

    def write(self) -> None:
        if self.cache is None or not self.waiting:
            return
        try:
            self.cache.append([digest for digest, _ in self.waiting], np.stack([row for _, row in self.waiting]))
        except OSError as error:
            warnings.warn(f"vectors are not kept for the next time: {self.cache.folder}: {error}", stacklevel=3)
            self.cache = None
        self.waiting.clear()
        self.written = time.monotonic()


def _without(features: Features, failures: dict[int, ImageError], on_error: OnError) -> Features:
    """The features without images that cannot be read, or the error that counts them."""
    note = unreadable_note(features.dataset, failures, on_error)
    return features.take([place for place in range(len(features)) if place not in failures], note)
