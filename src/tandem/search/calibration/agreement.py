"""Which pictures of a caption set a sentence is true of, as far as captions can tell. Knows words; no model, no scores.

Caption sets say of each sentence which picture it was written for. It may be as true of others ("A dog runs through
the grass."), and calling those mismatches would teach that good hits are bad. So a sentence is also taken to be true
of a picture whose own captions, together, say nearly all that it says; words weigh by their rarity, so that "a" and
"is" count for nothing, in any language that puts spaces between words.

Legend: n pictures, m sentences, w different words.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

# Words are compared by their first letters: "running" and "runner" say the same; a plural's s counts for nothing.
STEM = 5
# Of what a sentence says. On Flickr8k dev a quarter of the captions are covered this well by the four others of
# their own picture; read by eye, such pairs nearly always match, at 0.56 (the half) often not.
SENTENCE_SHARE = 0.75
# Of what two pictures' captions say, on average: captions of one picture cover each other by 0.56 (the median).
PICTURE_SHARE = 0.55


def coverage(texts: Sequence[str], owner: NDArray[np.intp], pictures: int) -> NDArray[np.float32]:
    """How much of what each sentence says the captions of each picture say, 0..1, float32 [m n].

    `owner` [m] is the picture that each sentence was written for.
    """
    sentences = [_stems(text) for text in texts]
    said: list[set[str]] = [set() for _ in range(pictures)]
    for stems, own in zip(sentences, owner, strict=True):
        said[own] |= stems
    frequency = Counter(stem for stems in said for stem in stems)
    column = {stem: index for index, stem in enumerate(frequency)}
    weight = np.array([math.log(pictures / count) for count in frequency.values()], dtype=np.float32)  # [w]
    shares = np.empty((len(texts), pictures), dtype=np.float32)
    by_picture = np.zeros((pictures, len(column)), dtype=np.float32)  # [n w]
    for row, stems in enumerate(said):
        by_picture[row, [column[stem] for stem in stems]] = 1
    for start in range(0, len(texts), 1024):  # bounds memory
        block = sentences[start : start + 1024]
        asked = np.zeros((len(block), len(column)), dtype=np.float32)
        for row, stems in enumerate(block):
            columns = [column[stem] for stem in stems]
            asked[row, columns] = weight[columns]
        total = asked.sum(1, keepdims=True)
        shares[start : start + 1024] = np.divide(asked @ by_picture.T, total, where=total > 0, out=asked @ by_picture.T)
    return shares


def true_of(shares: NDArray[np.float32], owner: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Which pictures each sentence is true of, bool [m n], from `coverage`: its own, and those that say as much."""
    matches = shares >= SENTENCE_SHARE
    matches[np.arange(len(owner)), owner] = True
    return matches


def alike(shares: NDArray[np.float32], owner: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Which pictures people write the same about, bool [n n], from `coverage`: row's captions, said by column's."""
    pictures = shares.shape[1]
    total = np.zeros((pictures, pictures), dtype=np.float32)
    np.add.at(total, owner, shares)
    count = np.bincount(owner, minlength=pictures)
    matches = total >= PICTURE_SHARE * np.maximum(count, 1)[:, None]
    matches[np.arange(pictures), np.arange(pictures)] = True
    return np.asarray(matches)


def phrases(
    texts: Sequence[str], owner: NDArray[np.intp], pictures: int, random: np.random.Generator
) -> tuple[list[str], NDArray[np.intp]]:
    """What people type rather than write: one to four words running, from each sentence that has some; their owners.

    They begin and end with a word that most captions of the picture have, and most pictures have not: what the picture
    is about.
    """
    tokens = [re.findall(r"\w+", text.lower()) for text in texts]
    times = [Counter[str]() for _ in range(pictures)]
    for words, own in zip(tokens, owner, strict=True):
        times[own].update(set(map(_stem, words)))
    frequency = Counter(stem for each in times for stem in each)
    captions = np.bincount(owner, minlength=pictures)
    found, owners = [], []
    for words, own in zip(tokens, owner, strict=True):
        stems = list(map(_stem, words))
        about = [times[own][stem] > captions[own] / 2 and frequency[stem] < 0.4 * pictures for stem in stems]
        ends = [
            (first, last)
            for first in range(len(words))
            for last in range(first, min(first + 4, len(words)))
            if about[first] and about[last]
        ]
        if ends:
            first, last = ends[random.integers(len(ends))]
            found.append(" ".join(words[first : last + 1]))
            owners.append(int(own))
    return found, np.array(owners, dtype=np.intp)


def unsaid(texts: Sequence[str], words: Sequence[str]) -> list[str]:
    """Those of the words that no caption has: what the pictures, as far as captions can tell, do not show."""
    said = set().union(*(_stems(text) for text in texts))
    return [word for word in words if not _stems(word) & said]


def _stems(text: str) -> set[str]:
    return set(map(_stem, re.findall(r"\w+", text.lower())))


def _stem(word: str) -> str:
    return word.removesuffix("s")[:STEM]
