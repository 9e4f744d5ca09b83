"""Fewer pixels, a part of the image, and the image small on a larger ground."""

from collections.abc import Callable

import numpy as np
from PIL import Image

from tandem.audit.answers import answer_examples, scores
from tandem.audit.estimates import chance_agreement, right_answers, share
from tandem.audit.protocol import About, Example, Finding, Findings, Subject

ABOUT = About(
    title="Resolution and crop",
    measures="The same images with a shorter side of 64, 32 and 16 pixels; their middle (80% and 50% of each "
    "side) and one corner (80%) alone; and the whole image at half its size on grey.",
    chance="One of the names. Where the reference is the model's own answer to the clean image: how often "
    "unrelated answers with the same frequencies would agree.",
    not_for="A crop may cut away what the right answer is about; a loss there is no fault by itself. A model that "
    "reads 64 pixels cannot lose by being given 64.",
)


def _small(side: int) -> Callable[[Image.Image], Image.Image]:
    def change(image: Image.Image) -> Image.Image:
        share_left = side / min(image.size)
        size = tuple(max(1, round(each * share_left)) for each in image.size)
        return image.resize(size, Image.Resampling.BICUBIC) if share_left < 1 else image  # type: ignore[arg-type]

    return change


def _part(part: float, across: float, down: float) -> Callable[[Image.Image], Image.Image]:
    def change(image: Image.Image) -> Image.Image:
        width, height = (max(1, round(each * part)) for each in image.size)
        left, top = round((image.width - width) * across), round((image.height - height) * down)
        return image.crop((left, top, left + width, top + height))

    return change


def _on_grey(image: Image.Image) -> Image.Image:
    ground = Image.new("RGB", (image.width * 2, image.height * 2), (128, 128, 128))
    ground.paste(image, (image.width // 2, image.height // 2))
    return ground


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "64 pixels": _small(64),
    "32 pixels": _small(32),
    "16 pixels": _small(16),
    "middle, 80% of each side": _part(0.8, 0.5, 0.5),
    "middle, 50% of each side": _part(0.5, 0.5, 0.5),
    "corner, 80% of each side": _part(0.8, 0, 0),
    "half its size, on grey": _on_grey,
}


def encoded(subject: Subject) -> int:
    """About how many images it encodes."""
    return (1 + len(CHANGES)) * len(subject.images.some(subject.count(192)))


def measure(subject: Subject) -> Findings:
    given = subject.images.some(subject.count(192))
    findings: list[Finding] = []
    examples: list[Example] = []
    if given.has_truth:
        right = right_answers(scores(subject.encoder, given.images, given), given.labels)
        findings.append(Finding("whole images", share(right, 1 / len(given.names)), control=True))
    for name, change in CHANGES.items():
        images = [image.changed(change(image.pixels)) for image in given.images]
        found = scores(subject.encoder, images, given)
        chance = (
            1 / len(given.names)
            if given.has_truth
            else chance_agreement(given.labels, np.asarray(found.argmax(1)), len(given.names))
        )
        findings.append(Finding(name, share(right_answers(found, given.labels), chance)))
        examples += answer_examples(images, given.names, given.labels, found, 1, name)[:1]
    return Findings(tuple(findings), tuple(examples), settings={"images": len(given), "reference": given.reference})
