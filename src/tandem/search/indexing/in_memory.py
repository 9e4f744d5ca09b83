"""Images and vectors that are in memory rather than in files -> records of a collection.

They have ids and no paths, so no ledger remembers them. Knows a store and a model; knows no files.
"""

import contextlib
import itertools
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from PIL import Image

from tandem.arrays import Vectors
from tandem.defaults import BATCH_SIZE
from tandem.errors import ImageError, TandemError
from tandem.image import ImageSource, decode, image_errors, preprocess, source_name
from tandem.model import Model
from tandem.prefetch import in_order
from tandem.search.indexing.entries import Entry, SkippedFile
from tandem.search.indexing.image_record import COLUMNS, describe, image_id
from tandem.search.indexing.ledger import UNKNOWN
from tandem.search.indexing.local import encoded
from tandem.search.indexing.preparing import DecodeOptions, PreparedImage
from tandem.search.indexing.recording import ImageRecord, read_records, to_records
from tandem.search.indexing.run import IndexingReport
from tandem.search.stores.protocol import Records, Store, Value

Named: TypeAlias = tuple[str | None, ImageSource]  # an id, None for that of the content, and an image

UNIT_TOLERANCE = 1e-3


def named_images(sources: Any, ids: str | Iterable[str] | None) -> Iterable[Named] | list[str | Path]:
    """Images in memory with their ids, drawn as they are asked for; or a list of paths, if those are meant.

    `TandemError` for what is neither, or both.
    """
    if isinstance(sources, Mapping):
        if ids is not None:
            raise TandemError("ids: expected none beside a mapping, whose keys they are")
        return _checked((str(id), image) for id, image in sources.items())
    alone = isinstance(sources, str | os.PathLike) or _is_image(sources)
    iterator = iter([sources] if alone else sources)
    first = next(iterator, None)
    several = iterator if first is None else itertools.chain([first], iterator)
    if first is None or isinstance(first, str | os.PathLike):
        if ids is not None:
            raise TandemError("ids: expected with images in memory; the ids of files are those of their content")
        return _paths(several)
    if ids is None:
        return _checked((None, image) for image in several)
    return _checked(zip([ids] if isinstance(ids, str) else ids, several, strict=True))


def add_images(
    store: Store,
    model: Model,
    images: Iterable[Named],
    *,
    batch_size: int = BATCH_SIZE,
    advance: Callable[[int], None] = lambda count: None,
) -> IndexingReport:
    """Put images into a store. An id that is there gets the new vector and keeps its paths.

    An image without an id gets that of its content, and is left alone if it is there. Images that cannot be read are
    in the report's failures, by their id or their place.
    """
    began = time.perf_counter()
    options = DecodeOptions.of(model)
    added = changed = unchanged = 0
    failures: list[SkippedFile] = []

    def prepared(item: tuple[int, Named]) -> tuple[bool, PreparedImage]:
        index, (id, image) = item
        return id is not None, _prepare(id, image, id or f"{source_name(image)} {index}", options)

    with contextlib.closing(in_order(prepared, enumerate(images), ahead=2 * batch_size)) as ready:
        while batch := list(itertools.islice(ready, batch_size)):
            named = {one.id for has_id, one in batch if has_id}
            failures += [SkippedFile(one.entry.path, one.reason) for _, one in batch if one.reason is not None]
            made = {one.id: one for one in encoded([one for _, one in batch], model) if isinstance(one, PreparedImage)}
            there = read_records(store, [id for id in made if id])
            records = []
            for id, one in made.items():
                if id is None or one.values is None or one.vector is None:
                    continue
                held = there.get(id)
                if held is None:
                    added += 1
                    records.append(ImageRecord(id, one.vector, dict(one.values), True, set()))
                elif id not in named:  # its id is its content's: it is the same
                    unchanged += 1
                else:
                    changed += 1
                    records.append(ImageRecord(id, one.vector, held.values | dict(one.values), False, held.paths))
            if records:
                store.upsert(to_records(records))
            advance(len(batch))
    seconds = time.perf_counter() - began
    return IndexingReport(
        added=added,
        unchanged=unchanged,
        changed=changed,
        failures=failures,
        total=store.count(),
        fast=store.count("decoding = 'fast'"),
        seconds=seconds,
        rate=(added + changed + unchanged) / seconds if seconds > 0 else 0.0,
    )


def vector_records(
    ids: Sequence[str],
    vectors: Vectors,
    metadata: Mapping[str, Sequence[Value]] | None,
    dimensions: int,
) -> Records:
    """Records of ready vectors [n d]. `TandemError` for shapes, lengths, ids or columns that do not fit."""
    vectors = np.asarray(vectors, dtype=np.float32)
    if vectors.ndim != 2 or vectors.shape != (len(ids), dimensions):
        raise TandemError(f"vectors: expected an array [{len(ids)} {dimensions}], got {list(vectors.shape)}")
    lengths = np.linalg.norm(vectors, axis=1)
    wrong = np.flatnonzero(~(np.abs(lengths - 1) < UNIT_TOLERANCE))  # also NaN
    if len(wrong):
        raise TandemError(f"vectors: expected unit length, got {lengths[wrong[0]]:g} for {ids[wrong[0]]!r}")
    _check_ids(ids)
    metadata = dict(metadata or {})
    if unknown := sorted(set(metadata) - (set(COLUMNS) - {"paths"})):
        raise TandemError(f"metadata: no column {unknown[0]!r}; there are {', '.join(COLUMNS)}")
    for name, values in metadata.items():
        if len(values) != len(ids):
            raise TandemError(f"metadata: {name}: expected {len(ids)} values, got {len(values)}")
    now = datetime.now(UTC).isoformat(timespec="seconds")
    records = []
    for row, id in enumerate(ids):
        own: dict[str, Value] = {"indexed": now}
        own |= {name: column[row] for name, column in metadata.items()}
        path = own.get("path")
        records.append(ImageRecord(id, vectors[row], own, True, {str(path)} if path else set()))
    return to_records(records)


def _prepare(id: str | None, image: ImageSource, name: str, options: DecodeOptions) -> PreparedImage:
    content = bytes(image) if isinstance(image, bytes | bytearray | memoryview) else b""
    entry = Entry(name, UNKNOWN, "")
    try:
        decoded = decode(image, limits=options.limits, orient=options.orient)
        with image_errors(name, "converted"):
            pixels = preprocess(decoded.image, options.preprocessing)
            values = describe(decoded.image, content, (decoded.width, decoded.height))
    except ImageError as error:
        return PreparedImage(entry, reason=error.reason)
    values |= {"decoding": "full", "indexed": datetime.now(UTC).isoformat(timespec="seconds")}
    if not content:
        values |= {"bytes": None, "format": values["format"] or None}
        content = b"%d %d " % decoded.image.size + decoded.image.convert("RGB").tobytes()
    return PreparedImage(entry, id or image_id(content), values=values, pixels=pixels)


def _is_image(source: object) -> bool:
    if isinstance(source, np.ndarray):
        return source.ndim < 4
    return isinstance(source, bytes | bytearray | memoryview | Image.Image) or hasattr(source, "read")


def _paths(several: Iterable[Any]) -> list[str | Path]:
    paths: list[str | Path] = []
    for path in several:
        if not isinstance(path, str | os.PathLike):
            raise TandemError(f"sources: expected a path, as the others, got {source_name(path)}")
        paths.append(path if isinstance(path, str) else Path(path))
    return paths


def _checked(images: Iterable[Named]) -> Iterator[Named]:
    """The same, as they come. `TandemError` for an id that is none or comes twice, and for paths among images."""
    known: set[str] = set()
    iterator = iter(images)
    while True:
        try:
            id, image = next(iterator)
        except StopIteration:
            return
        except ValueError as error:  # of zip
            raise TandemError(f"ids: expected one for each image ({error})") from None
        if id is not None:
            _check_ids([id], known)
        if isinstance(image, str | os.PathLike):
            raise TandemError(f"{image}: expected an image in memory, as the others; add paths by themselves")
        yield id, image


def _check_ids(ids: Sequence[str], known: set[str] | None = None) -> None:
    known = set() if known is None else known
    for id in ids:
        if not isinstance(id, str) or not id.strip():
            raise TandemError(f"ids: expected texts, got {id!r}")
        if id in known:
            raise TandemError(f"ids: {id!r} comes twice")
        known.add(id)
