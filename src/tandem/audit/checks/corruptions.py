"""Fifteen kinds of damage at five strengths: noise, blur, weather, and what programs do to images."""

import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tandem.audit.answers import answer_examples, scores
from tandem.audit.corrupting import CORRUPTIONS, FAMILIES, STRENGTHS, corrupt
from tandem.audit.estimates import chance_agreement, difference, right_answers, share
from tandem.audit.labelled_images import CaptionedImage, LabelledImages
from tandem.audit.protocol import About, Example, Finding, Findings, Subject, Table
from tandem.prefetch import in_order

ABOUT = About(
    title="Corruptions",
    measures="The same images with each of fifteen kinds of damage at five strengths: how often the answer "
    "among the names is still right. The kinds are ImageNet-C's, drawn by Tandem.",
    chance="One of the names. Where the reference is the model's own answer to the clean image: how often "
    "unrelated answers with the same frequencies would agree.",
    not_for="Do not compare the figures with published ones of ImageNet-C: images, names and drawings differ. "
    "Cameras in use fail in other ways, too.",
)


_SHOWN = 3  # the strength of the examples


def encoded(subject: Subject) -> int:
    """About how many images it encodes."""
    return (1 + len(CORRUPTIONS) * len(STRENGTHS)) * len(subject.images.some(subject.count(64)))


def measure(subject: Subject) -> Findings:
    given = subject.images.some(subject.count(64))
    clean = scores(subject.encoder, given.images, given)
    outcomes: dict[str, NDArray[np.floating]] = {}  # right or not, [strengths n]
    answers: dict[str, NDArray[np.int64]] = {}
    examples: list[Example] = []
    for kind in CORRUPTIONS:
        found = [scores(subject.encoder, _damaged(subject.seed, given, kind, s), given) for s in STRENGTHS]
        outcomes[kind] = np.stack([right_answers(each, given.labels) for each in found])
        answers[kind] = np.stack([each.argmax(1) for each in found])
        shown = _damaged(subject.seed, given.some(6), kind, _SHOWN)
        rows = slice(0, len(shown))
        asked = f"{kind}, strength {_SHOWN}"
        examples += answer_examples(shown, given.names, given.labels[rows], found[_SHOWN - 1][rows], 1, asked)[:1]

    def chance(kinds: Sequence[str]) -> float:
        if given.has_truth:
            return 1 / len(given.names)
        every = np.concatenate([answers[kind].ravel() for kind in kinds])
        return chance_agreement(given.labels, every, len(given.names))

    def whole(kinds: Sequence[str]) -> NDArray[np.floating]:
        return np.asarray(np.mean([outcomes[kind].mean(0) for kind in kinds], axis=0))

    what, kinds = "right" if given.has_truth else "as on the clean image", tuple(CORRUPTIONS)
    before = right_answers(clean, given.labels)
    findings = [Finding("all kinds and strengths", share(whole(kinds), chance(kinds)))]
    if given.has_truth:
        findings.insert(0, Finding("clean images", share(before, chance(kinds)), control=True))
        findings.append(Finding("lost to corruption", difference(whole(kinds), before)))
    findings += [Finding(family, share(whole(members), chance(members))) for family, members in FAMILIES.items()]
    table = Table(
        f"Answers that are {what}, by kind and strength",
        ("kind", "all strengths", *(f"strength {s}" for s in STRENGTHS)),
        tuple(
            (kind, *(share(each, chance([kind])) for each in (outcomes[kind].mean(0), *outcomes[kind])))
            for kind in CORRUPTIONS
        ),
    )
    settings = {"images": len(given), "names": len(given.names), "reference": given.reference}
    return Findings(tuple(findings), tuple(examples), (table,), settings)


def _damaged(seed: int, given: LabelledImages, kind: str, strength: int) -> list[CaptionedImage]:
    """The images with one kind of damage, drawn in threads; random numbers are each image's own."""

    def one(place: int) -> Image.Image:
        random = np.random.default_rng([seed, zlib.crc32(kind.encode()), strength, place])
        return corrupt(given.images[place].pixels, kind, strength, random)

    damaged = in_order(one, range(len(given)), ahead=len(given))
    return [original.changed(image) for original, image in zip(given.images, damaged, strict=True)]
