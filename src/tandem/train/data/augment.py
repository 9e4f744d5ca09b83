"""A decoded picture and numbers drawn for its slot -> the square that training sees. Pillow and arithmetic, no chance.

Every function takes `u`, uniform numbers 0..1: a picture is a pure function of them, whoever drew them.
"""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

from tandem.train.recipe import Source

NUMBERS = 12  # uniform numbers that a picture takes at most
_KEEP = 2.0  # a JPEG may shrink while it is decoded, but not below so many times the output
_ASPECTS = math.log(4 / 3)  # a crop's sides have a ratio within exp of -this..this
_JITTER = 0.4  # brightness, contrast and saturation are scaled by 1 - this .. 1 + this
_HUE = 0.1  # of a whole turn
_GREY_SHARE = 0.2
_LUMA = np.array([0.299, 0.587, 0.114])
# RGB -> YIQ and back: a turn of hue is a rotation of the last two (ITU-R BT.601, NTSC)
_TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
_FROM_YIQ = np.linalg.inv(_TO_YIQ)


def enough(source: Source, size: int, u: Sequence[float]) -> int:
    """How many pixels on the shorter side of a JPEG are enough for what `augmented` will cut out of it."""
    if source.augment in ("paper", "none"):
        return math.ceil(_KEEP * size)
    share, aspect = _area(source, u)
    return math.ceil(_KEEP * size / math.sqrt(share * min(aspect, 1 / aspect)))


def augmented(image: Image.Image, source: Source, size: int, u: Sequence[float]) -> np.ndarray:
    """RGB picture, the source's way of changing it, `u` [NUMBERS] -> uint8 [size size 3]."""
    if source.augment == "none":
        return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC, box=_square(image, 0.5, 0.5)))
    if source.augment == "paper":  # of the picture resized to `size` on its shorter side: Radford et al. 2021, 2.5
        return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC, box=_square(image, u[2], u[3])))
    cut = image.resize((size, size), Image.Resampling.BILINEAR, box=_cut(image, source, u))
    if source.augment == "strong":
        cut = _recoloured(cut, u)
    # Pillow mirrors pixels as whole words: three times as fast as numpy over runs of 3 bytes
    return np.asarray(cut.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if u[4] < 0.5 else cut)


def _area(source: Source, u: Sequence[float]) -> tuple[float, float]:
    """Share of the area and width over height of a crop (Szegedy et al. 2015)."""
    least, most = source.crop
    return least + (most - least) * u[0], math.exp(_ASPECTS * (2 * u[1] - 1))


def _cut(image: Image.Image, source: Source, u: Sequence[float]) -> tuple[int, int, int, int]:
    width, height = image.size
    share, aspect = _area(source, u)
    w = max(1, min(width, round(math.sqrt(width * height * share * aspect))))
    h = max(1, min(height, round(math.sqrt(width * height * share / aspect))))
    left, top = int(u[2] * (width - w + 1)), int(u[3] * (height - h + 1))
    return left, top, left + w, top + h


def _square(image: Image.Image, across: float, down: float) -> tuple[float, float, float, float]:
    """The largest square inside, so far across and down."""
    width, height = image.size
    side = min(width, height)
    left, top = across * (width - side), down * (height - side)
    return left, top, left + side, top + side


def _recoloured(image: Image.Image, u: Sequence[float]) -> Image.Image:
    """Brightness, contrast, saturation and hue jittered, grey now and then: one affine map of colours."""
    brightness, contrast, saturation = (1 + _JITTER * (2 * x - 1) for x in u[5:8])
    if u[9] < _GREY_SHARE:
        colours = np.tile(_LUMA, (3, 1))
    else:
        turn = 2 * math.pi * _HUE * (2 * u[8] - 1)
        cos, sin = math.cos(turn), math.sin(turn)
        rotation = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
        greyed = saturation * np.eye(3) + (1 - saturation) * np.tile(_LUMA, (3, 1))
        colours = greyed @ _FROM_YIQ @ rotation @ _TO_YIQ
    mean = float(np.asarray(image.convert("L")).mean())
    shift = brightness * (1 - contrast) * mean  # contrast turns around the mean brightness
    matrix = np.column_stack([brightness * contrast * colours, np.full(3, shift)])
    return image.convert("RGB", tuple(matrix.ravel().tolist()))
