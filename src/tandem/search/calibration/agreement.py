"""Which images of a caption set a text describes, as far as captions can tell. Knows words; no model, no scores.

A caption set assigns each text to one image. It may describe others as well ("A dog runs through the grass."), and
treating those as mismatches would teach that good hits are bad. So a text also matches an image whose own captions,
together, contain most of its words. Words are weighted by rarity, so that "a" and "is" count for nothing, and by how
consistently people use them for the same image: an image without "near" in its captions may well show something near,
one without "dog" shows no dog. No word list is needed, so this works for any language with spaces between words.

Shapes: n images, m texts, w different words.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tandem.scores.relevance import LONGEST_PHRASE

# Words are compared by what is left without the endings of plurals and of verbs, and by so many first letters.
STEM = 6
# Minimum coverage of a text. On Flickr8k dev, the four other captions of the same image reach it for 64% of captions,
# 79% of two-word phrases and 70% of longer ones: a stricter rule would reject what people accept.
TEXT_COVERAGE = 2 / 3
# Of what two images' captions say, on average: captions of one image are covered so by the others (the median).
IMAGE_SHARE = 0.65
# The prior of a word's agreement: pairs of captions added to those that have the word, and their agreement.
FEW, BASELINE_AGREEMENT = 8, 0.3
# Words that say what an image shows: minimum agreement, and minimum ratio to its overall frequency.
MIN_AGREEMENT, MIN_LIFT = 0.25, 3.0
LONGEST_LABEL, MIN_LABEL_IMAGES, MAX_LABELS = 3, 5, 1000  # words, images that are said to show it, labels


@dataclass(frozen=True)
class Usage:
    """How captions use words, by stem: the share of images of which they say it, the share of captions that do, and
    how often another caption says it where one does."""

    images: int
    shown: dict[str, int]  # number of images
    frequency: dict[str, float]
    agreement: dict[str, float]

    def weight(self, stem: str) -> float:
        """The weight of a stem that an image's captions lack."""
        return math.log(self.images / self.shown[stem]) * self.agreement[stem] if stem in self.shown else 0.0

    def tells(self, stem: str) -> bool:
        """Whether the word describes what is shown, unlike "a" or "of"."""
        agreement = self.agreement[stem]
        return agreement >= MIN_AGREEMENT and agreement >= MIN_LIFT * self.frequency[stem]


def usage(captions: Sequence[set[str]], owner: NDArray[np.intp], images: int) -> Usage:
    """The usage of stems in captions, each of the image `owner` [m]."""
    times = [Counter[str]() for _ in range(images)]
    for stems, own in zip(captions, owner, strict=True):
        times[own].update(stems)
    count = np.bincount(owner, minlength=images)
    agreeing, pairs = Counter[str](), Counter[str]()
    for own, each in enumerate(times):
        for stem, number in each.items():
            agreeing[stem] += number * (number - 1)
            pairs[stem] += number * int(count[own] - 1)
    said = Counter(stem for stems in captions for stem in stems)
    return Usage(
        images,
        dict(Counter(stem for each in times for stem in each)),
        {stem: number / len(captions) for stem, number in said.items()},
        {stem: (agreeing[stem] + FEW * BASELINE_AGREEMENT) / (pairs[stem] + FEW) for stem in said},
    )


def coverage(
    texts: Sequence[str], owner: NDArray[np.intp], images: int, written: NDArray[np.bool_] | None = None
) -> NDArray[np.float32]:
    """The share of each text that the captions of each image cover, 0..1, float32 [m n].

    `owner` [m] is the image that each text was written for; `written` [m] says which texts are captions (all if None)
    rather than parts of them.
    """
    text_stems = [_stems(text) for text in texts]
    captions = range(len(texts)) if written is None else np.flatnonzero(written).tolist()
    used = usage([text_stems[row] for row in captions], owner[list(captions)], images)
    said: list[set[str]] = [set() for _ in range(images)]
    for stems, own in zip(text_stems, owner, strict=True):
        said[own] |= stems
    column = {stem: index for index, stem in enumerate(sorted(set().union(*said)))}
    weight = np.array([used.weight(stem) for stem in column], dtype=np.float32)  # [w]
    covered = np.empty((len(texts), images), dtype=np.float32)
    by_image = np.zeros((images, len(column)), dtype=np.float32)  # [n w]
    for row, stems in enumerate(said):
        by_image[row, [column[stem] for stem in stems]] = 1
    for start in range(0, len(texts), 1024):  # bounds memory
        block = text_stems[start : start + 1024]
        weights = np.zeros((len(block), len(column)), dtype=np.float32)
        for row, stems in enumerate(block):
            columns = [column[stem] for stem in stems]
            weights[row, columns] = weight[columns]
        total = weights.sum(1, keepdims=True)
        covered[start : start + 1024] = np.divide(
            weights @ by_image.T, total, where=total > 0, out=weights @ by_image.T
        )
    return covered


def true_of(covered: NDArray[np.float32], owner: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Which images each text matches, bool [m n], from `coverage`: its own, and those with similar captions."""
    matches = covered >= TEXT_COVERAGE - 1e-6
    matches[np.arange(len(owner)), owner] = True
    return matches


def alike(covered: NDArray[np.float32], owner: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Which images have similar captions, bool [n n], from `coverage`: a row's captions by a column's."""
    images = covered.shape[1]
    total = np.zeros((images, images), dtype=np.float32)
    np.add.at(total, owner, covered)
    count = np.bincount(owner, minlength=images)
    matches = total >= IMAGE_SHARE * np.maximum(count, 1)[:, None]
    matches[np.arange(images), np.arange(images)] = True
    return np.asarray(matches)


def phrases(
    texts: Sequence[str], owner: NDArray[np.intp], images: int, random: np.random.Generator
) -> tuple[list[str], NDArray[np.intp]]:
    """Queries as people type them: some consecutive words of each caption, more often few; and their owners.

    They begin and end with a word that says what is shown; half of those that follow an article, or whatever nearly all
    images' captions have, keep it. As each caption gives one, what is often said comes often: "a dog", "man".
    """
    tokens = [re.findall(r"\w+", text.lower()) for text in texts]
    used = usage([set(map(_stem, words)) for words in tokens], owner, images)
    found, owners = [], []
    for words, own in zip(tokens, owner, strict=True):
        stems = list(map(_stem, words))
        telling = [index for index, stem in enumerate(stems) if used.tells(stem)]
        ends = [(first, last) for first in telling for last in telling if first <= last < first + LONGEST_PHRASE]
        if ends:
            lengths = np.unique([last - first + 1 for first, last in ends])
            length = random.choice(lengths, p=(1 / lengths) / (1 / lengths).sum())
            ends = [(first, last) for first, last in ends if last - first + 1 == length]
            first, last = ends[random.integers(len(ends))]
            if first and used.shown[stems[first - 1]] > 0.8 * images and random.random() < 0.5:
                first -= 1
            found.append(" ".join(words[first : last + 1]))
            owners.append(int(own))
    return found, np.array(owners, dtype=np.intp)


def labels(texts: Sequence[str], owner: NDArray[np.intp], images: int) -> tuple[list[str], NDArray[np.intp]]:
    """What people may give as labels: one to three words that captions often have; and an image of each.

    They begin and end with a word that says what is shown, and are said of at least `MIN_LABEL_IMAGES` images; the most
    frequent, at most `MAX_LABELS`. Labels that captions agree upon more are told better, but those alone would be an
    easier question, not a better fit.
    """
    tokens = [re.findall(r"\w+", text.lower()) for text in texts]
    stems = [list(map(_stem, words)) for words in tokens]
    used = usage([set(each) for each in stems], owner, images)
    shown: dict[str, set[int]] = {}
    for words, each, own in zip(tokens, stems, owner.tolist(), strict=True):
        telling = [index for index, stem in enumerate(each) if used.tells(stem)]
        for first in telling:
            for last in telling:
                if first <= last < first + LONGEST_LABEL:
                    shown.setdefault(" ".join(words[first : last + 1]), set()).add(own)
    often = sorted(
        (label for label in shown if len(shown[label]) >= MIN_LABEL_IMAGES),
        key=lambda label: (-len(shown[label]), label),
    )
    return often[:MAX_LABELS], np.array([min(shown[label]) for label in often[:MAX_LABELS]], dtype=np.intp)


def unsaid(texts: Sequence[str], words: Sequence[str]) -> list[str]:
    """The words that no caption has: as far as captions can tell, no image shows them."""
    said = set().union(*(_stems(text) for text in texts))
    return [word for word in words if not _stems(word) & said]


def _stems(text: str) -> set[str]:
    return set(map(_stem, re.findall(r"\w+", text.lower())))


def _stem(word: str) -> str:
    """ "running", "runs" and "run" are one, and so are "dogs" and "dog"; crude, and only ever compared."""
    for suffix in ("ing", "ed", "es", "s"):
        if word.endswith(suffix) and len(word) >= len(suffix) + 3:
            word = word.removesuffix(suffix)
            break
    if len(word) > 3 and word[-1] == word[-2]:
        word = word[:-1]
    if len(word) > 3 and word[-1] in "ey":
        word = word[:-1]
    return word[:STEM]
