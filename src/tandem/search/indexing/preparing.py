"""Prepares entries: reads, identifies, decodes and describes them. Runs in threads, or on other machines.

Knows images and the input of a model. It knows no store: `known` says whether an image is stored already.
"""

import errno
import os
import stat
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tandem.config import Preprocessing
from tandem.errors import ImageError, StoreError
from tandem.image import SIZE_MARGIN, DecodedImage, Limits, decode_in_budget, image_errors, preprocess, read_bytes
from tandem.samples import captions_in
from tandem.search.indexing.entries import Entry
from tandem.search.indexing.image_record import THUMBNAIL_SIDE, describe, image_id
from tandem.search.stores.protocol import Value
from tandem.tar_files import MAX_TEXT_BYTES

if TYPE_CHECKING:
    from tandem.model import Model
    from tandem.videos.moments import Moment


@dataclass(frozen=True)
class PreparedImage:
    """The outcome of an entry."""

    entry: Entry
    id: str | None = None  # of its content; None if that is not known
    reason: str | None = None  # why it is skipped
    transient: bool = False  # the reason is temporary, not in the file
    caption: str | None = None
    caption_reason: str | None = None  # why the caption beside it could not be read
    values: Mapping[str, Value] | None = None  # of an image that the collection does not have, for all it knew
    pixels: NDArray[np.uint8] | None = field(default=None, repr=False)  # [h w 3]
    vector: NDArray[np.float32] | None = field(default=None, repr=False)  # [d]


@dataclass(frozen=True)
class DecodeOptions:
    """How images are read, for the model and by the user's options. Can be sent to other processes."""

    preprocessing: Preprocessing
    limits: Limits
    orient: bool
    fast_decode: bool
    caption: str | None  # the key

    @classmethod
    def of(cls, model: "Model", *, fast_decode: bool = False, caption: str | None = None) -> "DecodeOptions":
        return cls(model.config.preprocessing, model.limits, model.orient, fast_decode, caption)

    @property
    def at_least(self) -> int | None:
        """Pixels on the shorter side that are enough, also for the thumbnail; None for all there are."""
        return max(SIZE_MARGIN * self.preprocessing.image_size, THUMBNAIL_SIDE) if self.fast_decode else None


class InFlight:
    """Which contents are being prepared, so that duplicates are decoded once, and which could not be decoded."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._claimed: set[str] = set()
        self._failed: dict[str, str] = {}

    def claim(self, id: str) -> bool:
        """Whether the caller is the first, and must prepare it."""
        with self._lock:
            first = id not in self._claimed
            self._claimed.add(id)
            return first

    def fail(self, id: str, reason: str) -> None:
        with self._lock:
            self._failed[id] = reason

    def failed(self, id: str) -> str | None:
        with self._lock:
            return self._failed.get(id)

    def release(self, ids: Collection[str]) -> None:
        """These are in the store now, or will not be."""
        with self._lock:
            self._claimed.difference_update(ids)


def prepare(entry: Entry, options: DecodeOptions, known: Callable[[str], bool], in_flight: InFlight) -> PreparedImage:
    """Read an entry, and decode it if its image is neither known nor in flight. Errors of the image are returned,
    not raised, of any kind; those of the store are not of the image.
    """
    try:
        return _prepared(entry, options, known, in_flight)
    except StoreError:
        raise
    except Exception as error:
        return PreparedImage(replace(entry, moment=None, content=None), reason=f"cannot be read: {described(error)}")


def described(error: Exception) -> str:
    """An error that nobody foresaw, in a few words."""
    return f"{type(error).__name__}: {error}".removesuffix(": ")[:300]


def _prepared(entry: Entry, options: DecodeOptions, known: Callable[[str], bool], in_flight: InFlight) -> PreparedImage:
    if entry.broken is not None:
        return PreparedImage(entry, reason=entry.broken)
    if entry.moment is not None:
        return _prepare_moment(entry, entry.moment, options, known, in_flight)
    try:
        content = entry.content
        if content is None:
            content = read_bytes(entry.file, limits=options.limits, at=entry.at, count=entry.count)
        elif not content:
            raise ImageError(entry.path, "empty: it has no bytes", "damaged")
    except ImageError as error:
        return PreparedImage(entry, reason=error.reason, transient=_is_transient(error))
    caption, caption_reason = _caption(entry, options.caption)
    id = image_id(content)
    if not in_flight.claim(id):
        return PreparedImage(entry, id, in_flight.failed(id), caption=caption, caption_reason=caption_reason)
    if known(id):
        in_flight.release([id])
        return PreparedImage(entry, id, caption=caption, caption_reason=caption_reason)
    try:
        limits = options.limits
        with (
            decode_in_budget(content, limits=limits, orient=options.orient, at_least=options.at_least) as decoded,
            image_errors(entry.path, "converted"),
        ):
            pixels, values = preprocess(decoded.image, options.preprocessing), _values(decoded, content)
    except ImageError as error:
        return _undecodable(entry, id, error.reason, in_flight, _is_transient(error))
    return PreparedImage(entry, id, caption=caption, caption_reason=caption_reason, values=values, pixels=pixels)


def _prepare_moment(
    entry: Entry, moment: "Moment", options: DecodeOptions, known: Callable[[str], bool], in_flight: InFlight
) -> PreparedImage:
    """A picture of a film, which its reader has decoded. The outcome is without its pixels: many may wait."""
    entry = replace(entry, moment=None)
    if not in_flight.claim(moment.id):
        return PreparedImage(entry, moment.id, in_flight.failed(moment.id))
    if known(moment.id):
        in_flight.release([moment.id])
        return PreparedImage(entry, moment.id)
    try:
        with image_errors(entry.path, "converted"):
            image = Image.fromarray(moment.pixels)
            described = describe(image, b"", (moment.width, moment.height))
            pixels = preprocess(image, options.preprocessing)
    except ImageError as error:
        return _undecodable(entry, moment.id, error.reason, in_flight, _is_transient(error))
    values = described | {
        "bytes": None,  # of the film, which has many
        "format": moment.format,
        "taken": moment.taken,
        "time": moment.time_s,
        "decoding": "full",
        "indexed": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return PreparedImage(entry, moment.id, values=values, pixels=pixels)


def _undecodable(entry: Entry, id: str, reason: str, in_flight: InFlight, transient: bool = False) -> PreparedImage:
    if transient:
        in_flight.release([id])
    else:
        in_flight.fail(id, reason)  # it stays claimed: a duplicate of it is not decoded again
    return PreparedImage(entry, id, reason, transient)


def _values(decoded: DecodedImage, content: bytes) -> dict[str, Value]:
    values = describe(decoded.image, content, (decoded.width, decoded.height))
    values["decoding"] = "fast" if decoded.shrunk else "full"
    values["indexed"] = datetime.now(UTC).isoformat(timespec="seconds")
    return values


def _is_transient(error: ImageError) -> bool:
    """Whether trying again may help although the file is as it was: it vanished, a disk failed, memory was short."""
    cause = error.__context__
    lasting = (errno.EACCES, errno.EPERM, None)
    return isinstance(cause, MemoryError) or (isinstance(cause, OSError) and cause.errno not in lasting)


def _caption(entry: Entry, key: str | None) -> tuple[str | None, str | None]:
    """The caption that came along or lies beside the image, and why it could not be read."""
    text, reason = entry.caption, entry.caption_reason
    if text is None and entry.caption_file is not None:
        suffix = entry.caption_file[entry.caption_file.rindex(".") :].lower()
        if key in (None, "txt") or suffix == ".json":
            try:
                text = "\n".join(captions_in(_small_file(entry.caption_file), suffix, key))
            except (OSError, ValueError) as error:
                reason = f"its caption {entry.caption_file} cannot be read: {error}"
    # Lone surrogates, which JSON can hold, are no text that a store could keep.
    text = (text or "").encode("utf-8", "replace").decode().replace("\0", "")
    lines = dict.fromkeys(line.strip() for line in text.splitlines())
    return "\n".join(filter(None, lines)) or None, reason


def _small_file(path: str) -> bytes:
    """The bytes of a regular file, no more of them than captions may have. Never waits for a pipe."""
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0))) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError("not a regular file")
        return file.read(MAX_TEXT_BYTES + 1)
