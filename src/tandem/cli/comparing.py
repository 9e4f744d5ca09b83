"""Compares the vectors of two models for `tandem verify`: what is compared, and the tolerances.

Shapes: n images or texts, d dimensions, h and w of an image.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tandem import engine as engines
from tandem.arrays import Vectors
from tandem.cli import comparing_quantised
from tandem.config import ModelConfig, to_dict, tower_type
from tandem.errors import ImageError, TandemError
from tandem.image import ImageSource
from tandem.model import Model, load

# Of float32 against float32, by another route: 1e-4 is what the engines are held to against the original.
SAME_DIFFERENCE = 1e-4
# Weights rounded to half precision stay above the first (measured: 1 - 3e-7), the wrong activation does not;
# computing in half precision stays above the second (measured: 0.9999).
ROUNDED_COSINE, REDUCED_COSINE = 0.99999, 0.99

TEXTS = (
    "a photo of a cat.",
    "a dog",
    "two people on a bench in front of the sea, seen from behind",
    "X-ray of a hand; left, 3rd finger",
    "¿Dónde está la biblioteca? 图书馆在哪里",
    "a red cube on top of a blue sphere, next to a green cone, in the style of a technical drawing of 1920",
    "",
    "100% off!!! don't miss it :)",
)


@dataclass(frozen=True)
class Comparison:
    """How far two sets of unit vectors are apart."""

    what: str
    other: str
    count: int
    largest_difference: float
    least_cosine: float
    reduced: bool  # one of the two computes in less than float32
    least: float  # the cosine from which they are called the same

    @property
    def same(self) -> bool:
        return self.largest_difference <= SAME_DIFFERENCE or self.least_cosine >= self.least

    @property
    def verdict(self) -> str:
        if self.largest_difference == 0:
            return "identical"
        if self.largest_difference <= SAME_DIFFERENCE:
            return "the same"
        return "the same up to rounding" if self.same else "different"


def rivals(reference: Model, arguments: argparse.Namespace) -> Iterator[tuple[str, Model]]:
    """What the reference is compared with: another source, or itself with every other engine and precision."""
    if arguments.against:
        yield (
            arguments.against,
            load(
                arguments.against,
                engine=arguments.engine,
                device=arguments.device,
                precision=arguments.precision,
                activation=arguments.activation,
            ),
        )
        return
    checkpoint = reference.checkpoint
    ways: list[tuple[engines.EngineName, engines.Precision]] = [
        ("openvino", precision)  # type: ignore[misc]
        for precision in engines.available_precisions()
        if precision != "float32"
    ]
    if find_spec("torch"):
        ways.append(("torch", "float32"))
    if (arguments.engine, arguments.device, arguments.precision) != ("auto", None, "auto"):
        ways = [
            way
            for way in ways
            if arguments.device is None
            and arguments.engine in ("auto", way[0])
            and arguments.precision in ("auto", way[1])
        ] or [(arguments.engine, arguments.precision)]  # exactly as given: an error says what is unavailable
    for engine, precision in ways:
        built = engines.build(
            checkpoint.config, checkpoint.tensors, engine=engine, device=arguments.device, precision=precision
        )
        way = (engine, built.device if engine == "auto" or arguments.device else "", built.precision)
        yield " ".join(filter(None, way)), Model(checkpoint, built)
    if not ways:
        raise TandemError("nothing to compare: this machine has one precision and no torch; give --against OTHER")


def compare(
    reference: Model, name: str, other: Model, images: list[ImageSource], skipped: list[ImageError]
) -> list[Comparison]:
    """Vectors of the same images and texts, each model with its own preprocessing and tokenizer.

    Unreadable images are removed from `images` and their errors added to `skipped`, so that they are read only once.
    """
    mine, theirs = embed(reference, images), embed(other, images)
    bad = {i: item for side in (theirs, mine) for i, item in enumerate(side) if isinstance(item, ImageError)}
    skipped += [bad[i] for i in sorted(bad)]
    good = [i for i in range(len(images)) if i not in bad]
    images[:] = [images[i] for i in good]
    reduced = other.engine.precision != "float32"
    about = comparing_quantised.made_from(other, reference)
    if about is not None:
        least = comparing_quantised.LEAST_COSINES[about.method]
    else:
        least = REDUCED_COSINE if reduced else ROUNDED_COSINE
    pairs: dict[str, tuple[Vectors, Vectors]] = {}
    if good:
        pairs["images"] = (np.stack([mine[i] for i in good]), np.stack([theirs[i] for i in good]))
    pairs |= {
        "texts": (
            reference.embed_texts(TEXTS, truncate=True),
            other.embed_texts(TEXTS, truncate=True),
        ),
    }
    return [
        Comparison(what, name, len(a), float(np.abs(a - b).max()), least_cosine(a, b), reduced, least)
        for what, (a, b) in pairs.items()
    ]


def least_cosine(a: Vectors, b: Vectors) -> float:
    """The least cosine of rows [n d] of a and b; exactly 1 for equal rows, whose float32 lengths are only nearly 1."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    cosines = np.where((a == b).all(axis=1), 1.0, (a * b).sum(axis=1) / lengths)
    return min(1.0, float(cosines.min()))


def embed(model: Model, images: Sequence[ImageSource]) -> list[Any]:
    """The vector [d] of each image, or its `ImageError`."""
    return [item for _, item in model.iter_embed_images(images)]


def reasons(a: Model, b: Model, names: tuple[str, str]) -> Iterator[str]:
    """What differs before any vector is computed: settings first, then weights. `names` are what a and b are called.

    Of a quantised model and its source, a: what must not differ.
    """
    if a.config.embed_dim != b.config.embed_dim:
        yield f"embed_dim: {a.config.embed_dim} dimensions against {b.config.embed_dim}"
    for field, mine, theirs in differing_fields(a.config, b.config):
        yield f"{field}: {mine} against {theirs}"
    if a.tokenizer.to_json() != b.tokenizer.to_json():
        yield "the tokenizers differ"
    if comparing_quantised.made_from(b, a):
        yield from comparing_quantised.other_weights(a, b)
    else:
        yield from differing_tensors(a.tensors, b.tensors, names)


def differing_tensors(
    a: Mapping[str, NDArray[Any]], b: Mapping[str, NDArray[Any]], names: tuple[str, str]
) -> Iterator[str]:
    """Tensors of other values, of other shapes, and those that only one of the two has: how many, and which."""
    shared = sorted(a.keys() & b.keys())
    reshaped = [name for name in shared if a[name].shape != b[name].shape]
    apart = [
        (float(np.abs(a[name].astype(np.float32) - b[name].astype(np.float32)).max(initial=0)), name)
        for name in shared
        if a[name].shape == b[name].shape
    ]
    changed = sorted(((far, name) for far, name in apart if far > 0), reverse=True)
    if changed:
        far, name = changed[0]
        yield f"{len(changed)} of {len(apart)} tensors of equal shapes differ, most of all {name} (by {far:.3g})"
    if reshaped:
        listed = [f"{name} ({_shape(a[name])} against {_shape(b[name])})" for name in reshaped]
        yield f"{len(reshaped)} of {len(shared)} shared tensors have other shapes: {_some(listed)}"
    for name, mine, theirs in ((names[0], a, b), (names[1], b, a)):
        if alone := sorted(mine.keys() - theirs.keys()):
            yield f"{len(alone)} of {len(mine)} tensors are only in {name}: {_some(alone)}"


def _shape(array: NDArray[Any]) -> str:
    return "x".join(map(str, array.shape)) or "one number"


def _some(names: Sequence[str], most: int = 3) -> str:
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")


def differing_fields(a: ModelConfig, b: ModelConfig) -> Iterator[tuple[str, Any, Any]]:
    """Settings that change vectors and are not equal, as `text.activation`; of other architectures only their names."""
    mine, theirs = to_dict(a), to_dict(b)
    for part in ("vision", "text", "preprocessing"):
        one, other = getattr(a, part), getattr(b, part)
        if type(one) is not type(other):
            yield "other architectures", tower_type(one), tower_type(other)
            continue
        for field in sorted(mine[part].keys() | theirs[part].keys()):
            if mine[part].get(field) != theirs[part].get(field):
                # Files leave out what is at its default
                yield f"{part}.{field}", *(_setting(side, field) for side in (one, other))


def _setting(description: Any, field: str) -> Any:
    value = getattr(description, field)
    return "none" if value is None else list(value) if isinstance(value, tuple) else value


def made_up_images() -> list[Image.Image]:
    """Eight deterministic images, of shapes that exercise the cropping."""
    random = np.random.default_rng(0)
    sizes = ((300, 200), (200, 301), (224, 224), (97, 61), (640, 480), (333, 500), (50, 400), (256, 256))
    return [Image.fromarray(_made_up(random, width, height)) for width, height in sizes]


def _made_up(random: np.random.Generator, width: int, height: int) -> NDArray[np.uint8]:
    """Waves of random direction and colour with a disc on top: smooth areas, edges and texture."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    waves = [np.sin(x * a + y * b + c) for a, b, c in random.uniform(-0.3, 0.3, (3, 3))]
    image = np.stack(waves, axis=-1) * 90 + 128  # [h w 3]
    disc = (x - width * random.uniform(0.3, 0.7)) ** 2 + (y - height / 2) ** 2 < (min(width, height) / 4) ** 2
    image[disc] = random.uniform(0, 255, 3)
    noisy = image + random.normal(0, 12, image.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)
