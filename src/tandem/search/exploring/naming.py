"""Names clusters by the word that sets each apart from all other images; by none where no word clearly does.

A word fits a cluster by how much nearer it is to the cluster's images than to the others, in standard deviations: a
word that is near to every image of a collection gains nothing by it, whatever the model. Everyday words come first.
Knows vectors and words; no models or stores.

Shapes: n images, c clusters, w words, d dimensions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tandem import prompts
from tandem.arrays import Vectors

EVERYDAY = Path(__file__).parents[2] / "assets" / "everyday_words.txt"
# The bare word names clusters slightly better with tandem-mini's first edition; others are trained on the usual prompt.
TEMPLATES = ("{}", prompts.DEFAULT_TEMPLATE)
BLOCK = 2048
WORDS = 3  # that describe a cluster, at most; the first is its name
# Penalties, in standard deviations of fit, of the rarest everyday word and of any other built-in word; the commonest
# has none. Chosen with the two bars below on one half of Flickr8k dev (bench/cluster_names.py).
RAREST, OTHERS = 0.7, 1.5
MIN_IMAGES = 30  # of a sample: among fewer, clusters are of a handful, whose variance is a guess, and any word fits
MIN_FIT = 2.0  # standard deviations, less two standard errors: 92% of pairs of an image inside and one outside agree
MIN_LEAD = 3.5  # standard deviations over words' fits: how far a name stands out of the everyday words


@dataclass(frozen=True)
class Candidates:
    """Words that names are chosen from, and the everyday words that they have to stand out of.

    `words` [w] begin with the everyday words, `everyday_count` of them. `penalty` [w] is subtracted from a word's fit;
    it is infinite for words that only serve the comparison.
    """

    words: tuple[str, ...]
    everyday_count: int
    penalty: NDArray[np.float64]


def candidates(vocabulary: Sequence[str] | None = None) -> Candidates:
    """The words of a user's vocabulary, none before another, or the built-in ones, common words first (None)."""
    everyday = prompts.read_labels(EVERYDAY)
    rarity = np.arange(len(everyday)) / len(everyday)  # the list is in order of frequency
    if vocabulary is None:
        others = [word for word in prompts.read_vocabulary() if word not in set(everyday)]
        penalty = np.concatenate([RAREST * rarity, np.full(len(others), OTHERS)])
    else:
        others = [word for word in vocabulary if word not in set(everyday)]
        penalty = np.zeros(len(everyday) + len(others))
        penalty[: len(everyday)][[word not in set(vocabulary) for word in everyday]] = np.inf
    return Candidates((*everyday, *others), len(everyday), penalty)


def name(
    sample: Vectors, clusters: NDArray[np.int32], count: int, chosen_from: Candidates, word_vectors: Vectors
) -> list[tuple[str, ...]]:
    """The words that set each of `count` clusters of a sample [n d] apart, its name first; none if none clearly do.

    clusters [n]: that of each image. A name's fit, less two standard errors, is at least `MIN_FIT`; its fit, less its
    penalty, stands `MIN_LEAD` standard deviations above the mean everyday word. Several clusters may have one name:
    there may be two groups of dogs. Samples of fewer than `MIN_IMAGES` have no names.
    """
    if len(sample) < MIN_IMAGES:
        return [()] * count
    fits = fit(sample, clusters, count, word_vectors, chosen_from.everyday_count)
    sizes = np.bincount(clusters, minlength=count)
    with np.errstate(divide="ignore"):
        error = np.sqrt(1 / sizes + 1 / (len(sample) - sizes))[:, None]  # infinite where there is nothing to compare
    usable = np.isfinite(chosen_from.penalty)
    scores = fits - np.where(usable, chosen_from.penalty, 0)  # [c w]
    everyday = scores[:, : chosen_from.everyday_count]
    spread = np.maximum(everyday.std(axis=1, keepdims=True), 1e-12)
    lead = (scores - everyday.mean(axis=1, keepdims=True)) / spread
    clear = usable & (fits - 2 * error >= MIN_FIT) & (lead >= MIN_LEAD)
    described = []
    for cluster in range(count):
        order = np.argsort(-np.where(usable, scores[cluster], -np.inf), kind="stable")[:WORDS].tolist()
        # Where the best word is not clear, the cluster has no name: none of the words behind it stands in.
        described.append(tuple(chosen_from.words[word] for word in takewhile(clear[cluster].__getitem__, order)))
    return described


def fit(
    sample: Vectors, clusters: NDArray[np.int32], count: int, word_vectors: Vectors, everyday_count: int
) -> NDArray[np.float64]:
    """How well each word [w d] fits each cluster of a sample [n d]: Cohen's d, [c w]; 0 with nothing to compare.

    The difference between the mean score inside and outside, over the root of the mean of the two variances. A score is
    the cosine to the word, less the mean over the first `everyday_count` words: what an image has in common with every
    word says nothing about any of them.
    """
    words = word_vectors - word_vectors[:everyday_count].mean(axis=0)
    middle = sample.mean(axis=0)
    sums, squares = (np.zeros((count, len(words))) for _ in range(2))
    for begin in range(0, len(sample), BLOCK):
        scores = (sample[begin : begin + BLOCK] - middle) @ words.T  # [block w]
        inside = clusters[begin : begin + BLOCK] == np.arange(count)[:, None]  # [c block]
        sums += inside.astype(np.float32) @ scores
        squares += inside.astype(np.float32) @ scores**2
    sizes = np.bincount(clusters, minlength=count)[:, None].astype(np.float64)
    outside = len(sample) - sizes
    compared = (sizes > 0) & (outside > 0) & (len(sample) > 2)  # two images have no variance to be measured by
    sizes, outside = np.maximum(sizes, 1), np.maximum(outside, 1)
    means, rest = sums / sizes, (sums.sum(axis=0) - sums) / outside
    variance = squares / sizes - means**2 + (squares.sum(axis=0) - squares) / outside - rest**2
    return np.where(compared, (means - rest) / np.sqrt(np.maximum(variance / 2, 1e-12)), 0)
