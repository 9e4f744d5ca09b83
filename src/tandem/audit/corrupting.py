"""The fifteen kinds of corruption of ImageNet-C (Hendrycks and Dietterich 2019) at five strengths, drawn anew.

Kinds and their order of strengths are the paper's; frost and snow are drawn here instead of pasted from photos, and
lengths are shares of the image's side. So figures do not compare with published ones. Functions take pixels
float32 [h w 3] in 0..1, random numbers and a strength 1..5. Knows no model.
"""

import io
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Pixels = NDArray[np.floating]
Corruption = Callable[[Pixels, np.random.Generator, int], Pixels]
STRENGTHS = (1, 2, 3, 4, 5)
_REFERENCE_SIDE = 224  # lengths below are pixels at this side


def corrupt(image: Image.Image, kind: str, strength: int, random: np.random.Generator) -> Image.Image:
    """An RGB image with one of `CORRUPTIONS`. Raises `ValueError` for a strength that is not 1 to 5."""
    if strength not in STRENGTHS:
        raise ValueError(f"strength: expected 1 to 5, got {strength!r}")
    pixels = _pixels(image.convert("RGB"))
    return _image(CORRUPTIONS[kind](pixels, random, strength - 1))


def _image(pixels: Pixels) -> Image.Image:
    return Image.fromarray(np.round(np.clip(pixels, 0, 1) * 255).astype(np.uint8))


def _pixels(image: Image.Image) -> Pixels:
    return np.asarray(np.asarray(image, dtype=np.float32) / 255, dtype=np.float32)


def _length(pixels: Pixels, at_reference: float) -> float:
    return float(at_reference * min(pixels.shape[:2]) / _REFERENCE_SIDE)


# --- noise ---------------------------------------------------------------------------------------------------------


def _gaussian_noise(x: Pixels, random: np.random.Generator, s: int) -> Pixels:
    return x + np.float32((0.08, 0.12, 0.18, 0.26, 0.38)[s]) * random.standard_normal(x.shape, dtype=np.float32)


def _shot_noise(x: Pixels, random: np.random.Generator, s: int) -> Pixels:
    photons = (60, 25, 12, 5, 3)[s]
    return np.asarray(random.poisson(x * photons) / photons, dtype=np.float32)


def _impulse_noise(x: Pixels, random: np.random.Generator, s: int) -> Pixels:
    share, drawn = (0.03, 0.06, 0.09, 0.17, 0.27)[s], random.random(x.shape, dtype=np.float32)
    return np.where(drawn < share / 2, 0, np.where(drawn > 1 - share / 2, 1, x)).astype(np.float32)


# --- blur ----------------------------------------------------------------------------------------------------------


def _convolved(x: Pixels, kernel: Pixels) -> Pixels:
    """Each channel with an odd square kernel of sum 1; edges are repeated."""
    k = kernel.shape[0] // 2
    padded = np.pad(x, ((k, k), (k, k), (0, 0)), mode="edge")
    size = padded.shape[:2]
    placed = np.zeros(size, dtype=np.float32)
    placed[: kernel.shape[0], : kernel.shape[1]] = kernel
    placed = np.roll(placed, (-k, -k), (0, 1))
    spectrum = np.fft.rfft2(padded, axes=(0, 1)) * np.fft.rfft2(placed)[:, :, None]
    return np.asarray(np.fft.irfft2(spectrum, s=size, axes=(0, 1))[k:-k, k:-k], dtype=np.float32)


def _grid(radius: float) -> tuple[Pixels, Pixels]:
    k = max(1, int(np.ceil(radius)))
    y, x = np.mgrid[-k : k + 1, -k : k + 1].astype(np.float32)
    return y, x


def _defocus_blur(x: Pixels, random: np.random.Generator, s: int) -> Pixels:
    radius = _length(x, (3, 4, 6, 8, 10)[s])
    rows, columns = _grid(radius)
    disc = np.clip(radius + 0.5 - np.hypot(rows, columns), 0, 1)
    return _convolved(x, np.asarray(disc / disc.sum(), dtype=np.float32))


def _glass_blur(x: Pixels, random: np.random.Generator, s: int) -> Pixels:
    sigma, reach = ((0.7, 1), (0.9, 2), (1.2, 3), (1.5, 4), (1.9, 5))[s]
    soft = _pixels(_image(x).filter(ImageFilter.GaussianBlur(_length(x, sigma))))
    reach = max(1, round(_length(x, reach)))
    height, width = x.shape[:2]
    rows, columns = np.indices((height, width))
    moved = random.integers(-reach, reach + 1, (2, height, width))
    displaced = soft[np.clip(rows + moved[0], 0, height - 1), np.clip(columns + moved[1], 0, width - 1)]
    return _pixels(_image(displaced).filter(ImageFilter.GaussianBlur(_length(x, sigma))))


def _line_kernel(length: float, angle: float) -> Pixels:
    rows, columns = _grid(length / 2)
    along = rows * np.sin(angle) + columns * np.cos(angle)
    across = -rows * np.cos(angle) + columns * np.sin(angle)
    line = np.clip(1 - np.abs(across), 0, 1) * (np.abs(along) <= length / 2 + 0.5)
    return np.asarray(line / line.sum(), dtype=np.float32)


def _motion_blur(x: Pixels, random: np.random.Generator, s: int) -> Pixels:
    length = _length(x, (10, 15, 20, 27, 35)[s])
    return _convolved(x, _line_kernel(length, random.uniform(-np.pi / 4, np.pi / 4)))


def _zoom_blur(x: Pixels, random: np.random.Generator, s: int) -> Pixels:
    farthest = (1.11, 1.16, 1.21, 1.26, 1.33)[s]
    image, height, width = _image(x), x.shape[0], x.shape[1]
    total = x.copy()
    zooms = np.linspace(1, farthest, 10)[1:]
    for zoom in zooms:
        dy, dx = height * (1 - 1 / zoom) / 2, width * (1 - 1 / zoom) / 2
        box = (dx, dy, width - dx, height - dy)
        total += _pixels(image.resize((width, height), Image.Resampling.BILINEAR, box=box))
    return total / (len(zooms) + 1)


# --- weather -------------------------------------------------------------------------------------------------------


def _clouds(shape: tuple[int, int], random: np.random.Generator, decay: float = 2.0, first: int = 2) -> Pixels:
    """Smooth noise of several octaves, 0..1 [h w], each finer one weaker by `decay`."""
    height, width = shape
    total, weight, cells = np.zeros(shape, dtype=np.float32), 1.0, first
    while cells < min(shape):
        coarse = Image.fromarray(random.random((cells, cells), dtype=np.float32))
        total += weight * np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))
        weight, cells = weight / decay, cells * 2
    low, high = float(total.min()), float(total.max())
    return np.asarray((total - low) / max(high - low, 1e-6), dtype=np.float32)


def _snow(x: Pixels, random: np.random.Generator, s: int) -> Pixels:
    density, length, grey = ((0.012, 6, 0.15), (0.022, 8, 0.25), (0.03, 10, 0.3), (0.042, 12, 0.35), (0.055, 14, 0.4))[
        s
    ]
    height, width = x.shape[:2]
    cells = (max(8, height // 2), max(8, width // 2))  # flakes of about two pixels
    drawn = random.random(cells) < density
    flakes = np.asarray(
        Image.fromarray(drawn.astype(np.uint8) * 255).resize((width, height), Image.Resampling.BILINEAR)
    )
    fallen = _convolved(
        np.repeat(flakes[:, :, None].astype(np.float32) / 255, 3, axis=2),
        _line_kernel(_length(x, length), random.uniform(np.pi / 4, 3 * np.pi / 4)),
    )
    whiter = (1 - grey) * x + grey * np.maximum(x, x.mean(axis=2, keepdims=True) * 0.6 + 0.4)
    return np.asarray(whiter + np.clip(fallen * _length(x, length) * 0.6, 0, 1))


def _frost(x: Pixels, random: np.random.Generator, s: int) -> Pixels:
    keep, ice, bare = ((1, 0.4, 1.5), (0.85, 0.55, 1.4), (0.75, 0.7, 1.25), (0.7, 0.75, 1.1), (0.6, 0.8, 0.95))[s]
    shape = x.shape[:2]
    # Ridges where smooth noise crosses its middle look like crystals.
    ridges = 1 - np.abs(2 * _clouds(shape, random, 1.5, 4) - 1)
    crystals = np.clip(ridges * 2.2 - bare, 0, 1) * (0.4 + 0.6 * _clouds(shape, random))
    tint = np.array([0.86, 0.93, 1.0], dtype=np.float32)
    return np.asarray(keep * x + ice * crystals[:, :, None] * tint)


def _fog(x: Pixels, random: np.random.Generator, s: int) -> Pixels:
    thickness, decay = ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4))[s]
    brightest = float(x.max())
    fogged = x + thickness * _clouds(x.shape[:2], random, decay)[:, :, None]
    return np.asarray(fogged * brightest / (brightest + thickness), dtype=np.float32)


def _brightness(x: Pixels, random: np.random.Generator, s: int) -> Pixels:
    value = x.max(axis=2, keepdims=True)  # V of HSV: hue and saturation stay
    lighter = np.clip(value + (0.1, 0.2, 0.3, 0.4, 0.5)[s], 0, 1)
    return np.asarray(np.where(value > 0, x * lighter / np.maximum(value, 1e-6), lighter))


# --- digital -------------------------------------------------------------------------------------------------------


def _contrast(x: Pixels, random: np.random.Generator, s: int) -> Pixels:
    mean = x.mean(axis=(0, 1), keepdims=True)
    return np.asarray((x - mean) * (0.4, 0.3, 0.2, 0.1, 0.05)[s] + mean, dtype=np.float32)


def _elastic_transform(x: Pixels, random: np.random.Generator, s: int) -> Pixels:
    reach, cells = ((5, 6), (7, 7), (8, 9), (9, 11), (10, 13))[s]
    height, width = x.shape[:2]
    rows, columns = np.indices((height, width)).astype(np.float32)
    moved = []
    for _ in range(2):
        coarse = Image.fromarray(random.uniform(-1, 1, (cells, cells)).astype(np.float32))
        moved.append(_length(x, reach) * np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)))
    y, z = np.clip(rows + moved[0], 0, height - 1), np.clip(columns + moved[1], 0, width - 1)
    top, left = np.minimum(y.astype(int), height - 2), np.minimum(z.astype(int), width - 2)
    dy, dz = (y - top)[:, :, None], (z - left)[:, :, None]
    upper = x[top, left] * (1 - dz) + x[top, left + 1] * dz
    lower = x[top + 1, left] * (1 - dz) + x[top + 1, left + 1] * dz
    return np.asarray(upper * (1 - dy) + lower * dy, dtype=np.float32)


def _pixelate(x: Pixels, random: np.random.Generator, s: int) -> Pixels:
    share, (height, width) = (0.6, 0.5, 0.4, 0.3, 0.25)[s], x.shape[:2]
    size = (max(1, round(width * share)), max(1, round(height * share)))
    small = _image(x).resize(size, Image.Resampling.BOX)
    return _pixels(small.resize((width, height), Image.Resampling.NEAREST))


def _jpeg_compression(x: Pixels, random: np.random.Generator, s: int) -> Pixels:
    return _pixels(as_jpeg(_image(x), (25, 18, 15, 10, 7)[s]))


def as_jpeg(image: Image.Image, quality: int) -> Image.Image:
    """The image as it looks after JPEG."""
    from tandem.image import load_image

    file = io.BytesIO()
    image.convert("RGB").save(file, "JPEG", quality=quality)
    return load_image(file.getvalue()).convert("RGB")


CORRUPTIONS: dict[str, Corruption] = {
    "gaussian noise": _gaussian_noise,
    "shot noise": _shot_noise,
    "impulse noise": _impulse_noise,
    "defocus blur": _defocus_blur,
    "glass blur": _glass_blur,
    "motion blur": _motion_blur,
    "zoom blur": _zoom_blur,
    "snow": _snow,
    "frost": _frost,
    "fog": _fog,
    "brightness": _brightness,
    "contrast": _contrast,
    "elastic transform": _elastic_transform,
    "pixelate": _pixelate,
    "JPEG": _jpeg_compression,
}
FAMILIES: dict[str, tuple[str, ...]] = {
    "noise": ("gaussian noise", "shot noise", "impulse noise"),
    "blur": ("defocus blur", "glass blur", "motion blur", "zoom blur"),
    "weather": ("snow", "frost", "fog", "brightness"),
    "digital": ("contrast", "elastic transform", "pixelate", "JPEG"),
}
