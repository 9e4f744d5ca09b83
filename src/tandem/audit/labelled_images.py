"""Images with what they show, and a set of them with names to choose from. Knows no model and no scene."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Reference = Literal["drawn", "label", "own answer"]


@dataclass(frozen=True, eq=False)
class CaptionedImage:
    """An RGB image and, in a phrase, what is right to say of it."""

    pixels: Image.Image
    shows: str

    def changed(self, pixels: Image.Image) -> "CaptionedImage":
        """The same content in another image: corrupted, cropped, painted on."""
        return replace(self, pixels=pixels)


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Images, the names among which one is chosen, and which is right: int64 [n], places in `names`.

    `reference` says who knows: Tandem drew the scene, the data set has labels, or, where nobody knows, the model itself
    answered the unchanged image. Then a test measures consistency and not accuracy.
    """

    images: tuple[CaptionedImage, ...]
    names: tuple[str, ...]
    labels: NDArray[np.int64]
    reference: Reference
    templates: tuple[str, ...]
    source: str
    hash: str  # of the images and names
    captions: tuple[tuple[str, ...], ...] = ()

    def __len__(self) -> int:
        return len(self.images)

    @property
    def has_truth(self) -> bool:
        return self.reference != "own answer"

    def some(self, count: int) -> "LabelledImages":
        """The first `count` of them: drawn things stand in turn, and a user's images in random order."""
        first = slice(0, count)
        return replace(self, images=self.images[first], labels=self.labels[first], captions=self.captions[first])
