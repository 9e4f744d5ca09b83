"""Encoded pictures of one source -> RGB, or why not. Here a sample turns out to be sound or broken."""

import contextlib
import hashlib
import os
from collections.abc import Iterator

import numpy as np
from PIL import Image

from tandem.errors import DataError, ImageError
from tandem.image import decode
from tandem.pixels import as_rgb
from tandem.prefetch import in_order
from tandem.train.data.index import Place
from tandem.train.data.samples import Broken, Samples


class Pictures:
    """The decoded pictures of a source; kept in memory when asked to."""

    def __init__(self, samples: Samples, keep: bool) -> None:
        self.samples, self.keep = samples, keep
        self._kept: dict[int, Image.Image] = {}

    def picture(self, number: int, enough: int) -> Image.Image:
        """RGB, upright; a JPEG may have shrunk while it was decoded, not below `enough` pixels on its shorter side.

        Raises `Broken`.
        """
        if (found := self._kept.get(number)) is not None:
            return found
        content = self.samples.picture(number)
        try:
            image = as_rgb(decode(content, at_least=None if self.keep else enough).image)
        except ImageError as error:
            raise Broken(error.reason) from None
        if self.keep:
            self._kept[number] = image
        return image


def sound(samples: Samples) -> np.ndarray:
    """bool [n]: which samples of a source can be decoded; found out once and kept beside the index.

    With several processes each must know which pictures the others cannot show, since their names are targets of all.
    """
    parts, first = [], 0
    for place in samples.places:
        parts.append(_sound_file(samples, place, range(first, first + place.count)))
        first += place.count
    return np.concatenate(parts)


def _sound_file(samples: Samples, place: Place, numbers: range) -> np.ndarray:
    from filelock import FileLock

    state = hashlib.sha256(place.state.encode()).hexdigest()[:8]
    path = place.index.with_suffix(f".{state}.sound")
    try:
        with FileLock(path.with_suffix(".lock")):
            if path.exists() and path.stat().st_size == place.count:
                return np.fromfile(path, bool)
            found = np.fromiter(_decodable(samples, numbers), bool, len(numbers))
            part = path.with_suffix(f".part{os.getpid()}")
            found.tofile(part)
            part.replace(path)
            return found
    except OSError as error:
        raise DataError(f"{path.parent}: cannot keep what was checked ({error.strerror}); set cache_folder") from None


def _decodable(samples: Samples, numbers: range) -> Iterator[bool]:
    pictures = Pictures(samples, keep=False)

    def can_be_decoded(content: bytes | None) -> bool:
        with contextlib.suppress(ImageError):
            if content is not None:
                as_rgb(decode(content).image)
                return True
        return False

    def contents() -> Iterator[bytes | None]:  # drawn in one thread: open files are not shared between threads
        for number in numbers:
            try:
                yield pictures.samples.picture(number)
            except Broken:
                yield None

    yield from in_order(can_be_decoded, contents())
