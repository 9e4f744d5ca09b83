"""Images that are in memory rather than in files -> records of a collection.

They have ids and no paths, so no ledger remembers them. Knows a store and a model; knows no files.
"""

import contextlib
import itertools
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from PIL import Image

from tandem.defaults import BATCH_SIZE
from tandem.errors import ImageError, TandemError
from tandem.image import ImageSource, decode_in_budget, image_errors, is_several, preprocess, source_name
from tandem.pixels import as_rgb
from tandem.prefetch import in_order
from tandem.progress import Progress, count_of
from tandem.search.indexing.entries import Entry, SkippedFile
from tandem.search.indexing.image_record import describe, image_id
from tandem.search.indexing.ledger import UNKNOWN
from tandem.search.indexing.local import encoded
from tandem.search.indexing.preparing import DecodeOptions, PreparedImage
from tandem.search.indexing.progress import IndexingProgress, ProgressMeter
from tandem.search.indexing.ready_vectors import belongs_to_a_file, check_ids, is_of_a_file
from tandem.search.indexing.recording import ImageRecord, read_records, to_records
from tandem.search.indexing.run import IndexingReport
from tandem.search.stores.protocol import Store

if TYPE_CHECKING:
    from tandem.model import Model

Named: TypeAlias = tuple[str | None, ImageSource]  # an id, None for that of the content, and an image


def named_images(sources: Any, ids: Any) -> Iterable[Named] | list[str | Path]:
    """Images in memory with their ids, drawn as they are asked for; or a list of paths, if those are meant.

    `TandemError` for what is neither, or both.
    """
    if isinstance(sources, Mapping):
        if ids is not None:
            raise TandemError("ids: expected none beside a mapping, whose keys they are")
        if not sources:
            raise TandemError("nothing to index: no images in the mapping")
        return _checked((str(id), image) for id, image in sources.items())
    alone = isinstance(sources, str | os.PathLike) or _is_image(sources)
    if not alone and not isinstance(sources, Iterable):
        raise TandemError(f"sources: expected paths or images, got {type(sources).__name__}")
    iterator = iter([sources] if alone else sources)
    first = next(iterator, None)
    several = iterator if first is None else itertools.chain([first], iterator)
    if first is None or isinstance(first, str | os.PathLike):
        if ids is not None:
            raise TandemError("ids: expected with images in memory; the ids of files are those of their content")
        return _paths(several)
    if ids is None:
        return _checked((None, image) for image in several)
    if isinstance(ids, bytes | Mapping) or not isinstance(ids, Iterable):
        raise TandemError(f"ids: expected a text for each image, got {ids!r:.60}")
    return _checked(_paired([ids] if isinstance(ids, str) else ids, several))


def add_images(
    store: Store | None,
    create: Callable[[], Store],
    model: "Model",
    images: Iterable[Named],
    *,
    batch_size: int = BATCH_SIZE,
    report: Callable[[int, int], None] = lambda done, skipped: None,
) -> IndexingReport:
    """Put images into a store. An id that is there gets the new vector, unless it is that of an indexed file.

    An image without an id gets that of its content, and is left alone if it is there. Images that cannot be added are
    in the report's failures, by their id or their place. Where there is no store yet, `create` makes it for the first
    image that can be read. `report` is told after each batch how many images are done, and how many of them failed.
    """
    began = time.perf_counter()
    options = DecodeOptions.of(model)
    added = changed = unchanged = done = 0
    failures: list[SkippedFile] = []

    def prepared(item: tuple[int, Named]) -> tuple[bool, PreparedImage]:
        index, (id, image) = item
        return _prepare(id, image, id or f"{source_name(image)} {index}", options)

    with contextlib.closing(in_order(prepared, enumerate(images), ahead=2 * batch_size)) as ready:
        while batch := list(itertools.islice(ready, batch_size)):
            named = {one.id for has_own_id, one in batch if has_own_id}
            outcomes = [one for one in encoded([one for _, one in batch], model) if isinstance(one, PreparedImage)]
            failures += [SkippedFile(one.entry.path, one.reason) for one in outcomes if one.reason is not None]
            batch_images = {one.id: one for one in outcomes}
            if store is None and any(one.vector is not None for one in batch_images.values()):
                store = create()
            there = {} if store is None else read_records(store, [id for id in batch_images if id])
            records = []
            for id, one in batch_images.items():
                if id is None or one.values is None or one.vector is None:
                    continue
                held = there.get(id)
                if held is None:
                    added += 1
                    records.append(ImageRecord(id, one.vector, dict(one.values), True, set()))
                elif id not in named:  # its id is its content's: it is the same
                    unchanged += 1
                elif is_of_a_file(held.values):
                    failures.append(SkippedFile(id, belongs_to_a_file(id)))
                else:
                    changed += 1
                    values = held.values | dict(one.values)
                    if held.paths:  # of ready vectors: no file was decoded
                        values["decoding"] = None
                    records.append(ImageRecord(id, one.vector, values, False, held.paths))
            if records and store is not None:
                store.upsert(to_records(records, store.schema))
            done += len(batch)
            report(done, len(failures))
    seconds = time.perf_counter() - began
    return IndexingReport(
        added=added,
        unchanged=unchanged,
        changed=changed,
        failures=failures,
        total=0 if store is None else store.count(),
        fast=0 if store is None else store.count("decoding = 'fast'"),
        seconds=seconds,
        rate=(added + changed + unchanged) / seconds if seconds > 0 else 0.0,
    )


def refuse(**of_files: object) -> None:
    """Refuse options that have a meaning for files only."""
    if wrong := next((name for name, value in of_files.items() if value not in (None, False, (), [])), None):
        raise TandemError(f"{wrong}: expected with folders and files; these images are in memory")


@contextlib.contextmanager
def reporting(
    sources: object, show: bool | None, on_progress: Callable[[IndexingProgress], None] | None
) -> Iterator[Callable[[int, int], None]]:
    """What to tell how many images are done and how many failed: it calls `on_progress`, or draws a bar."""
    count = count_of(sources) if is_several(sources) else 1
    done = skipped = 0
    if on_progress is None:
        with Progress(count, show=show, label="adding", unit="image") as shown:

            def advance(now: int, failed: int) -> None:
                nonlocal done
                shown.advance(now - done)
                done = now

            yield advance
        return
    meter = ProgressMeter(lambda: iter([] if count is None else [count]), on_progress)

    def report(now: int, failed: int) -> None:
        nonlocal done, skipped
        done, skipped = now, failed
        meter.report(done, skipped)

    if count is not None:
        meter.start()
    try:
        yield report
        meter.report(done, skipped, at_once=True)
    finally:
        if count is not None:
            meter.stop()


def _prepare(id: str | None, image: ImageSource, name: str, options: DecodeOptions) -> tuple[bool, PreparedImage]:
    """The image, and whether its id is another than that of its content."""
    content = bytes(image) if isinstance(image, bytes | bytearray | memoryview) else b""
    entry = Entry(name, UNKNOWN, "")
    try:
        reading = decode_in_budget(image, limits=options.limits, orient=options.orient)
        with reading as decoded, image_errors(name, "converted"):
            pixels = preprocess(decoded.image, options.preprocessing)
            values = describe(decoded.image, content, (decoded.width, decoded.height))
            if not content:
                values |= {"bytes": None, "format": values["format"] or None}
                # PIL cannot convert this mode itself; the others keep the ids that they always had.
                whole = as_rgb(decoded.image) if decoded.image.mode == "La" else decoded.image.convert("RGB")
                content = b"%d %d " % whole.size + whole.tobytes()
    except ImageError as error:
        return False, PreparedImage(entry, reason=error.reason)
    values |= {"decoding": "full", "indexed": datetime.now(UTC).isoformat(timespec="seconds")}
    own = image_id(content)
    return id not in (None, own), PreparedImage(entry, id or own, values=values, pixels=pixels)


def _is_image(source: object) -> bool:
    if isinstance(source, np.ndarray):
        return source.ndim < 4 and source.dtype.kind not in "USO"  # arrays of texts or objects hold several
    return isinstance(source, bytes | bytearray | memoryview | Image.Image) or hasattr(source, "read")


def _paths(several: Iterable[Any]) -> list[str | Path]:
    paths: list[str | Path] = []
    for path in several:
        if not isinstance(path, str | os.PathLike):
            raise TandemError(f"sources: expected a path, as the others, got {source_name(path)}")
        paths.append(path if isinstance(path, str) else Path(path))
    return paths


def _paired(ids: Iterable[Any], images: Iterable[ImageSource]) -> Iterator[Named]:
    """Pairs. `TandemError` where there are more of the one than of the other."""
    none: Any = object()
    for count, (id, image) in enumerate(itertools.zip_longest(ids, images, fillvalue=none)):
        if id is none or image is none:
            more = "images" if id is none else "ids"
            raise TandemError(f"ids: expected one for each image; there are more {more} than {count}")
        yield id, image


def _checked(images: Iterable[Named]) -> Iterator[Named]:
    """The same, as they come. `TandemError` for an id that is none or comes twice, and for paths among images."""
    known: set[str] = set()
    for id, image in images:
        if id is not None:
            check_ids([id], known)
        if isinstance(image, str | os.PathLike):
            raise TandemError(f"{image}: expected an image in memory, as the others; add paths by themselves")
        yield id, image
