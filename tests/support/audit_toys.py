"""Encoders that know what a scene shows: one that is always right, one that guesses, one that reads bags of words."""

import re
import zlib
from collections.abc import Sequence

import numpy as np

from tandem.arrays import Vectors
from tandem.audit import image_sample
from tandem.audit.checks import counting, prompts
from tandem.audit.labelled_images import CaptionedImage

DIMENSIONS = 256
TEMPLATES = sorted({*prompts.PROMPTS, *image_sample._TEMPLATES, counting._TEMPLATE} - {"{}"}, key=len, reverse=True)


def meaning(text: str) -> str:
    """The text without a prompt around it; a synonym is the name that it stands for."""
    for template in TEMPLATES:
        found = re.fullmatch(re.escape(template).replace(r"\{\}", "(.+)"), text)
        if found:
            text = found[1]
            break
    return {synonym: name for name, synonym in prompts.SYNONYMS.items()}.get(text, text)


def direction(name: str) -> Vectors:
    """A random unit vector that belongs to a name."""
    vector = np.random.default_rng(zlib.crc32(name.encode())).normal(size=DIMENSIONS)
    return np.asarray(vector / np.linalg.norm(vector), dtype=np.float32)


def unit(rows: Sequence[Vectors]) -> Vectors:
    stacked = np.stack(rows)
    return np.asarray(stacked / np.linalg.norm(stacked, axis=1, keepdims=True), dtype=np.float32)


class Oracle:
    """Reads what a scene shows, and tells images of the same thing apart by their pixels."""

    def images(self, images: Sequence[CaptionedImage]) -> Vectors:
        rows = []
        for image in images:
            small = np.asarray(image.pixels.convert("L").resize((8, 8)), dtype=np.float32).ravel()
            small -= small.mean()
            rows.append(np.concatenate([self.seen(image.shows), 0.4 * small / max(1, np.linalg.norm(small))]))
        return unit(rows)

    def texts(self, texts: Sequence[str]) -> Vectors:
        return unit([np.concatenate([self.read(text), np.zeros(64, np.float32)]) for text in texts])

    def seen(self, shows: str) -> Vectors:
        return direction(shows)

    def read(self, text: str) -> Vectors:
        return direction(meaning(text))


class BagOfWords(Oracle):
    """Knows every word and no order."""

    def seen(self, shows: str) -> Vectors:
        return self.read(shows)

    def read(self, text: str) -> Vectors:
        return np.asarray(np.sum([direction(word) for word in sorted(text.split())], axis=0))


class Guesser:
    """Looks at nothing: every image has a random vector."""

    def __init__(self) -> None:
        self._random = np.random.default_rng(5)

    def images(self, images: Sequence[CaptionedImage]) -> Vectors:
        return unit(list(self._random.normal(size=(len(images), DIMENSIONS))))

    def texts(self, texts: Sequence[str]) -> Vectors:
        return unit([direction(text) for text in texts])
