"""A decoded image -> the square that training sees. Pillow and arithmetic; no random numbers are drawn here.

Every function takes `u`, uniform numbers in 0..1 that belong to the slot, and is a pure function of them.
"""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

from tandem.train.recipe import Source

UNIFORMS = 12  # uniform numbers that an image needs at most
_OVERSAMPLING = 2.0  # a JPEG may be decoded smaller, but not below this many times the output
_LOG_ASPECT = math.log(4 / 3)  # a crop's aspect ratio is within exp(-this)..exp(this)
_JITTER = 0.4  # brightness, contrast and saturation are scaled by 1 - this .. 1 + this
_HUE = 0.1  # of a whole turn
_GREY_PROBABILITY = 0.2
_LEAST_RESOLUTION = 0.35  # of the side of an image that loses resolution
_LUMA = np.array([0.299, 0.587, 0.114])
# RGB -> YIQ and back: a turn of hue is a rotation of the last two (ITU-R BT.601, NTSC)
_TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
_FROM_YIQ = np.linalg.inv(_TO_YIQ)


def min_decode_size(source: Source, size: int, u: Sequence[float]) -> int:
    """The pixels on the shorter side of a JPEG that `augment` needs for the crop it will take."""
    if source.augment in ("paper", "none"):
        return math.ceil(_OVERSAMPLING * size)
    share, aspect = _crop_shape(source, u)
    return math.ceil(_OVERSAMPLING * size / math.sqrt(share * min(aspect, 1 / aspect)))


def augment(image: Image.Image, source: Source, size: int, u: Sequence[float]) -> np.ndarray:
    """RGB image, `u` [UNIFORMS] -> uint8 [size size 3], augmented as the source says."""
    if source.augment == "none":
        return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC, box=_square_box(image, 0.5, 0.5)))
    if source.augment == "paper":  # of the image resized to `size` on its shorter side: Radford et al. 2021, 2.5
        return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC, box=_square_box(image, u[2], u[3])))
    crop = image.resize((size, size), Image.Resampling.BILINEAR, box=_crop_box(image, source, u))
    if u[10] < source.low_resolution:
        crop = _reduce(crop, u[11])
    if source.augment == "strong":
        crop = _jitter_colours(crop, u)
    # Pillow mirrors pixels as whole words: three times as fast as numpy over runs of 3 bytes
    return np.asarray(crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if u[4] < 0.5 else crop)


def _crop_shape(source: Source, u: Sequence[float]) -> tuple[float, float]:
    """Share of the area and width over height of a crop (Szegedy et al. 2015)."""
    least, most = source.crop
    return least + (most - least) * u[0], math.exp(_LOG_ASPECT * (2 * u[1] - 1))


def _crop_box(image: Image.Image, source: Source, u: Sequence[float]) -> tuple[int, int, int, int]:
    width, height = image.size
    share, aspect = _crop_shape(source, u)
    w = max(1, min(width, round(math.sqrt(width * height * share * aspect))))
    h = max(1, min(height, round(math.sqrt(width * height * share / aspect))))
    left, top = int(u[2] * (width - w + 1)), int(u[3] * (height - h + 1))
    return left, top, left + w, top + h


def _square_box(image: Image.Image, across: float, down: float) -> tuple[float, float, float, float]:
    """The largest square inside, at these shares of the free width and height."""
    width, height = image.size
    side = min(width, height)
    left, top = across * (width - side), down * (height - side)
    return left, top, left + side, top + side


def _reduce(image: Image.Image, u: float) -> Image.Image:
    """As if a smaller photo had been enlarged."""
    side = max(1, round(image.width * (_LEAST_RESOLUTION + (1 - _LEAST_RESOLUTION) * u)))
    return image.resize((side, side), Image.Resampling.BOX).resize(image.size, Image.Resampling.BILINEAR)


def _jitter_colours(image: Image.Image, u: Sequence[float]) -> Image.Image:
    """Brightness, contrast, saturation and hue jittered, some images grey: one affine map of colours."""
    brightness, contrast, saturation = (1 + _JITTER * (2 * x - 1) for x in u[5:8])
    if u[9] < _GREY_PROBABILITY:
        colours = np.tile(_LUMA, (3, 1))
    else:
        turn = 2 * math.pi * _HUE * (2 * u[8] - 1)
        cos, sin = math.cos(turn), math.sin(turn)
        rotation = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
        greyed = saturation * np.eye(3) + (1 - saturation) * np.tile(_LUMA, (3, 1))
        colours = greyed @ _FROM_YIQ @ rotation @ _TO_YIQ
    mean = float(np.asarray(image.convert("L")).mean())
    shift = brightness * (1 - contrast) * mean  # contrast scales around the mean brightness
    matrix = np.column_stack([brightness * contrast * colours, np.full(3, shift)])
    return image.convert("RGB", tuple(matrix.ravel().tolist()))
