"""Copies that nobody tells from their original: how far their vectors move, and whether the original is still found."""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance

from tandem.audit.answers import example
from tandem.audit.corrupting import as_jpeg
from tandem.audit.estimates import mean, share
from tandem.audit.protocol import About, Example, Finding, Findings, Subject
from tandem.evaluate.retrieval_ranks import RESOLUTION

ABOUT = About(
    title="Near-duplicates",
    measures="Each image saved again as JPEG, made 10% smaller, shifted by 2% of its side, and 5% brighter: the "
    "cosine with its original, and whether of all originals its own is the nearest.",
    chance="One of the originals. A cosine has no chance level: compare it with that of different images, the control.",
    not_for="A high cosine does not prove a copy: no threshold follows from these images. Deciding about "
    "copyright or deletion by it needs a look at both images.",
)


def _shifted(image: Image.Image) -> Image.Image:
    by = max(1, round(0.02 * min(image.size)))
    moved = image.copy()
    moved.paste(image, (by, by))  # the first rows and columns stay, as if the edge were repeated
    return moved


def _smaller(image: Image.Image) -> Image.Image:
    width, height = (max(1, round(0.9 * side)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC)


COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "saved as JPEG": lambda image: as_jpeg(image, 60),
    "10% smaller": _smaller,
    "shifted by 2%": _shifted,
    "5% brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.05),
}


def encoded(subject: Subject) -> int:
    """About how many images it encodes."""
    return (1 + len(COPIES)) * len(subject.images.some(subject.count(192)))


def measure(subject: Subject) -> Findings:
    given = subject.images.some(subject.count(192))
    n = len(given)
    originals = subject.encoder.images(given.images)
    among = originals @ originals.T
    np.fill_diagonal(among, -np.inf)
    findings = []
    examples: list[Example] = []
    for name, change in COPIES.items():
        images = [image.changed(change(image.pixels)) for image in given.images]
        copies = subject.encoder.images(images)
        cosines = copies @ originals.T  # [copies originals]
        own = cosines.diagonal()
        others = np.where(np.eye(n, dtype=bool), -np.inf, cosines).max(1)
        # A tie counts against the model, however it was rounded: an equal stranger is shown first as often as not.
        findings.append(Finding(f"{name}: the original is nearest", share(own > others + RESOLUTION, 1 / n)))
        findings.append(Finding(f"{name}: cosine with the original", mean(own)))
        worst = int(np.argmin(own - others))
        nearest = int(np.argmax(cosines[worst]))
        right, answer = f"image {worst + 1}", f"image {nearest + 1}"
        examples.append(example(images[worst].pixels, right, answer, f"{name}: cosine {own[worst]:.3f}"))
    nearest_others = among.max(1)
    findings.append(Finding("cosine with the nearest other image", mean(nearest_others), better=None, control=True))
    return Findings(tuple(findings), tuple(examples), settings={"images": n})
