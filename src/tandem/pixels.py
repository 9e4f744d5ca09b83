"""Converts a decoded image to the array of pixels that a model reads, bit for bit as the original CLIP does.

The original resizes the image in the mode it is in, crops, and only then converts to RGB; palettes are therefore
resized with nearest neighbour, and transparency is dropped, not blended. Models that keep the aspect ratio (NaFlex)
read an array of patches instead of a square. Knows no files and no limits.
"""

import math
from collections.abc import Callable, Iterator

import numpy as np
import PIL
from PIL import Image

from tandem.config import Preprocessing

_FILTERS = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "nearest": Image.Resampling.NEAREST,
    "lanczos": Image.Resampling.LANCZOS,
}
# How far filters reach on either side, in pixels of the smaller image
_SUPPORTS = {Image.Resampling.BICUBIC: 2, Image.Resampling.BILINEAR: 1, Image.Resampling.LANCZOS: 3}
_BY_AXES = ("RGB", "L")  # modes that PIL resizes in 8 bits, one axis after the other
# Which axis comes first is known of this release (`_down_first`). Of others, all of the image is resized: that is right
# whatever they do, and takes longer.
_KNOWN_ORDER = PIL.__version__.split(".")[:2] == ["13", "0"]
_ROWS_PIXELS = 2**18  # converted at a time: they stay in the processor's cache
_LONGEST_ASPECT = 32  # beyond this aspect ratio, most of a resized image is cropped away


def preprocess(image: Image.Image, preprocessing: Preprocessing, *, floor_crop: bool = False) -> np.ndarray:
    """RGB pixels uint8 of `preprocessing.pixel_shape`: a square [s s 3], or patches. Does not change the image.

    floor_crop: round the start of the crop down, as transformers does; at some odd sizes that is one pixel beside the
    original's.
    """
    image = image.convert("RGBA") if image.mode == "PA" else _eight_bit(image)  # PIL would average palette indices
    size, resample = preprocessing.image_size, _FILTERS[preprocessing.interpolation]
    if preprocessing.makes_patches:
        return _patches(_to_rgb(image), preprocessing, resample)
    if preprocessing.resize_mode == "shortest":
        square = _to_rgb(_shortest(image, size, resample, math.floor if floor_crop else round))
    elif preprocessing.resize_mode == "squash":
        square = _to_rgb(image.resize((size, size), resample))
    else:
        square = _longest(image, size, resample, preprocessing.fill)
    return np.array(square)  # a copy: views of PIL's memory cannot be written to


def thumbnail(image: Image.Image, longest: int) -> Image.Image:
    """A small RGB image of the whole, at most `longest` pixels on the longer side. Cheap rather than exact."""
    image = image.convert("RGBA") if image.mode == "PA" else _eight_bit(image)
    if image.mode in ("P", "1"):
        image = image.convert("RGB")  # whose colours, unlike their indices, can be averaged
    shrink = longest / max(image.size)
    if shrink < 1:
        width, height = (max(1, round(side * shrink)) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=1.5)
    return _to_rgb(image)


def _shortest(
    image: Image.Image, size: int, resample: Image.Resampling, rounded: Callable[[float], int] = round
) -> Image.Image:
    """The shorter side to `size`, the centre of the longer one."""
    shorter, longer = min(image.size), max(image.size)
    length = int(size * longer / shorter)
    start = rounded((length - size) / 2)
    wide = image.width >= image.height
    if longer > _LONGEST_ASPECT * shorter:
        # Apply the filter only to the part that stays: an image of 1 x 50,000 pixels would become 224 x 11,200,000.
        # Not for ordinary images: PIL keeps the box in float32, which may change a pixel by one level.
        first, last = start * longer / length, (start + size) * longer / length
        box = (first, 0, last, shorter) if wide else (0, first, shorter, last)
        return image.resize((size, size), resample, box=box)
    if _KNOWN_ORDER and image.mode in _BY_AXES and resample in _SUPPORTS and length - size >= size // 16:
        if wide:
            return _cut_wide(image, size, length, start, resample)
        cut = _cut_down_first if _down_first(image, size, length) else _cut_tall
        return cut(image, size, length, start, resample)
    resized = image.resize((length, size) if wide else (size, length), resample)
    left, top = (start, 0) if wide else (0, start)
    return resized.crop((left, top, left + size, top + size))


# PIL resizes one axis and then the other, rounding to 8 bits in between. Two calls of one axis each are the same to the
# bit if they come in its order, and what the crop takes away need not go through both.


def _down_first(image: Image.Image, width: int, height: int) -> bool:
    """Whether Pillow 13.0 resizes down before across: where it shrinks the height by over twice what it does the width.

    Never for wide images, whose width shrinks by more, or not at all when the height does not.
    """
    return image.height - height > max(0, 2 * (image.width - width))


def _cut_wide(image: Image.Image, size: int, length: int, start: int, resample: Image.Resampling) -> Image.Image:
    """Across, then down: cropped before it is resized down."""
    narrow = image.resize((length, image.height), resample).crop((start, 0, start + size, image.height))
    return narrow.resize((size, size), resample)


def _cut_down_first(image: Image.Image, size: int, length: int, start: int, resample: Image.Resampling) -> Image.Image:
    """Down, then across: cropped before it is resized across."""
    low = image.resize((image.width, length), resample).crop((0, start, image.width, start + size))
    return low.resize((size, size), resample)


def _cut_tall(image: Image.Image, size: int, length: int, start: int, resample: Image.Resampling) -> Image.Image:
    """Across, then down: only the rows that the crop is made of are resized across."""
    scale = image.height / length
    reach = _SUPPORTS[resample] * max(scale, 1) + 2
    first = max(0, math.floor((start + 0.5) * scale - reach))
    last = min(image.height, math.ceil((start + size - 0.5) * scale + reach))
    rows = image.crop((0, first, image.width, last)).resize((size, last - first), resample)
    whole = Image.new(image.mode, (size, image.height))  # of the whole height, on which PIL's weights depend
    whole.paste(rows, (0, first))
    return whole.resize((size, length), resample).crop((0, start, size, start + size))


def _longest(image: Image.Image, size: int, resample: Image.Resampling, fill: int) -> Image.Image:
    """The longer side to `size`, the shorter one padded on both ends (the odd pixel at the far end)."""
    longer = max(image.size)
    width, height = (max(1, round(side * size / longer)) for side in image.size)
    square = Image.new("RGB", (size, size), (fill, fill, fill))
    square.paste(_to_rgb(image.resize((width, height), resample)), ((size - width) // 2, (size - height) // 2))
    return square


def patch_grid(width: int, height: int, patch_size: int, max_patches: int) -> tuple[int, int]:
    """Rows and columns of the largest grid of at most `max_patches` in an image's aspect ratio, at least one of each.

    The scale is found by bisection to 1e-5, and sides are rounded up to whole patches, as transformers does it.
    """

    def at(scale: float) -> tuple[int, int]:
        rows, columns = (max(1, math.ceil(side * scale / patch_size)) for side in (height, width))
        return rows, columns

    low, high = 1e-6, 100.0
    while high - low >= 1e-5:
        scale = (low + high) / 2
        rows, columns = at(scale)
        low, high = (scale, high) if rows * columns <= max_patches else (low, scale)
    return at(low)


def _patches(image: Image.Image, preprocessing: Preprocessing, resample: Image.Resampling) -> np.ndarray:
    """The image in whole patches, row by row, as the last axis of `pixel_shape` describes them."""
    size = preprocessing.patch_size
    rows, columns = patch_grid(image.width, image.height, size, preprocessing.max_patches)
    resized = np.asarray(image.resize((columns * size, rows * size), resample))
    patches = resized.reshape(rows, size, columns, size, 3).transpose(0, 2, 1, 3, 4)  # [rows columns size size 3]
    array = np.zeros(preprocessing.pixel_shape, np.uint8)
    array[: rows * columns, :-4] = patches.reshape(rows * columns, -1)
    array[:, -4:] = (*divmod(rows, 256), *divmod(columns, 256))
    return array


def as_rgb(image: Image.Image) -> Image.Image:
    """The whole image as 8-bit RGB; the same object if it is that already."""
    return _to_rgb(image.convert("RGBA") if image.mode == "PA" else _eight_bit(image))


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    image.info.pop("transparency", None)  # PIL would warn about what it drops
    if image.mode == "La":
        image = image.convert("LA")
    return image.convert("RGB")


def _eight_bit(image: Image.Image) -> Image.Image:
    """Scale grey images of 16 or 32 bits or floats to 8 bits; PIL's own conversion would clip them to white.

    16-bit values have the range 0..65535; floats 0..1 if all are in it, else 0..255. An image outside its range is
    stretched from its minimum to its maximum. Works on some rows at a time, so that it takes a byte for each pixel.
    """
    if image.mode != "F" and not image.mode.startswith("I"):
        return image
    scaled = np.empty((image.height, image.width), np.uint8)
    ranges = [(values.min(), values.max()) for _, values in _rows(image)]
    low, high = float(min(least for least, _ in ranges)), float(max(most for _, most in ranges))
    if image.mode == "F" and low >= 0 and high <= 255:
        for rows, values in _rows(image):
            scaled[rows] = np.round(values * (255 if high <= 1 else 1))
    elif image.mode != "F" and low >= 0 and high <= 65535:
        table = np.round(np.arange(65536) / 257).astype(np.uint8)
        for rows, values in _rows(image):
            scaled[rows] = table[values]
    else:
        for rows, values in _rows(image):
            scaled[rows] = np.round((values.astype(np.float64) - low) * (255 / max(high - low, 1e-9)))
    return Image.fromarray(scaled)


def _rows(image: Image.Image) -> Iterator[tuple[slice, np.ndarray]]:
    """Rows of a grey image and their values, some at a time; of floats, what is not finite is 0."""
    height = max(1, _ROWS_PIXELS // image.width)
    for top in range(0, image.height, height):
        bottom = min(top + height, image.height)
        values = np.asarray(image.crop((0, top, image.width, bottom)))
        yield slice(top, bottom), np.nan_to_num(values, posinf=0, neginf=0) if image.mode == "F" else values
