"""Encoded images of one source -> RGB, or why not. Here a sample turns out to be decodable or broken."""

import contextlib
import hashlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

from tandem import files
from tandem.errors import DataError, ImageError
from tandem.image import decode
from tandem.pixels import as_rgb
from tandem.prefetch import in_order
from tandem.train.data.index import IndexedFile
from tandem.train.data.remote import RemoteFile
from tandem.train.data.samples import BrokenSample, Samples


class Images:
    """The decoded images of a source; kept in memory when asked to."""

    def __init__(self, samples: Samples, keep: bool) -> None:
        self.samples, self.keep = samples, keep
        self._kept: dict[int, Image.Image] = {}

    def remote_range(self, number: int) -> tuple[RemoteFile, int, int] | None:
        """The bytes of a remote file that `image` will read; None for an image that is kept, or on this machine."""
        return None if number in self._kept else self.samples.remote_range(number)

    def image(self, number: int, least: int) -> Image.Image:
        """RGB, upright. A JPEG may be decoded smaller, but not below `least` pixels on its shorter side.

        Raises `BrokenSample`.
        """
        if (found := self._kept.get(number)) is not None:
            return found
        content = self.samples.image(number)
        try:
            image = as_rgb(decode(content, at_least=None if self.keep else least).image)
        except ImageError as error:
            raise BrokenSample(error.reason) from None
        if self.keep:
            self._kept[number] = image
        return image


def decodable(samples: Samples) -> np.ndarray:
    """bool [n]: which samples of a source can be decoded; found out once and kept beside the index.

    With several processes, each must know which images the others cannot decode: their names are targets of all.
    """
    parts, first = [], 0
    for file, count in zip(samples.files, samples.counts, strict=True):
        parts.append(_decodable_in(samples, file, range(first, first + count)))
        first += count
    return np.concatenate(parts)


def _decodable_in(samples: Samples, file: IndexedFile, numbers: range) -> np.ndarray:
    from filelock import FileLock

    share = f" {samples.source.hold_out:g}" if samples.source.hold_out else ""
    state = hashlib.sha256(f"{file.state}{share}".encode()).hexdigest()[:8]
    path = file.index.with_suffix(f".{state}.decodable")
    try:
        with FileLock(path.with_suffix(".lock")):
            if path.exists() and path.stat().st_size == len(numbers):
                return np.fromfile(path, bool)
            found = np.fromiter(_check(samples, numbers), bool, len(numbers))
            files.write_bytes(path, found.tobytes())
            return found
    except OSError as error:
        raise DataError(f"{path.parent}: cannot keep what was checked ({error.strerror}); set cache_folder") from None


def _check(samples: Samples, numbers: range) -> Iterator[bool]:
    def can_be_decoded(content: bytes | None) -> bool:
        with contextlib.suppress(ImageError):
            if content is not None:
                as_rgb(decode(content).image)
                return True
        return False

    def contents() -> Iterator[bytes | None]:  # read in one thread: open files are not shared between threads
        ranges = map(samples.remote_range, numbers)
        samples.reader.prefetch(each for each in ranges if each is not None)
        for number in numbers:
            try:
                yield samples.image(number)
            except BrokenSample:
                yield None

    yield from in_order(can_be_decoded, contents())
