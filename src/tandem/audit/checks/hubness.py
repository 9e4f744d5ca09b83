"""Words that answer everything: how unevenly everyday words are given as answers."""

import numpy as np
from numpy.typing import NDArray

from tandem.audit.answers import example, name_vectors
from tandem.audit.estimates import difference, share
from tandem.audit.protocol import About, Finding, Findings, Subject, Table
from tandem.evaluate.figures import Figure
from tandem.evaluate.intervals import Statistic, bootstrap
from tandem.prompts import DEFAULT_TEMPLATE, read_vocabulary

ABOUT = About(
    title="Hubness: words that answer everything",
    measures="Every image is answered with the nearest of some 1,300 everyday words. How often the most "
    "frequent answer is given, and how often the word most often among the ten nearest is there (k-occurrence, k = "
    "10; Radovanovic et al. 2010). The word is chosen on one half of the images and counted on the other, so that "
    "the largest of many counts does not flatter itself.",
    chance="For the most frequent answer, the share of the most frequent thing in the images; none is stated "
    "where images have no labels. For the ten nearest, ten of the words.",
    not_for="Images of few things deserve few words: compare models on the same images only. Frequent words "
    "are not wrong by being frequent.",
)
K = 10


def encoded(subject: Subject) -> int:
    """About how many images it encodes."""
    return len(subject.images.some(subject.count(192)))


def measure(subject: Subject) -> Findings:
    given = subject.images.some(subject.count(192))
    words, n = read_vocabulary(), len(given)
    vectors = subject.encoder.images(given.images)
    cosines = vectors @ name_vectors(subject.encoder, words, (DEFAULT_TEMPLATE,)).T  # [n words]
    halves = subject.random("hubness").permutation(n) % 2
    # Less the mean cosine of each word on the other half: what a word has over images in general.
    centred = cosines - np.stack([cosines[halves != half].mean(0) for half in (0, 1)])[halves]
    first, second = (_top(scores, 1) for scores in (cosines, centred))
    near = _top(cosines, K)
    fair = float(np.bincount(given.labels).max() / n) if given.has_truth else None
    plain, corrected = _hub(first, halves), _hub(second, halves)
    skewness, never = bootstrap(_occurrence_statistics(near), n, centred=True)
    findings = (
        Finding("most frequent answer", share(plain, fair), better="lower"),
        Finding("the same, less each word's mean", share(corrected, fair), better="lower"),
        Finding("what subtracting means changes", difference(corrected, plain), better="lower"),
        Finding("most frequent of ten nearest", share(_hub(near, halves), K / len(words)), better=None),
        Finding("skewness of k-occurrence", Figure.of(skewness, n, unit="score"), None),
        Finding("words never among ten nearest", Figure.of(never.within(0.0, 1.0), n), None),
    )
    counts = first.sum(0)
    ranked = np.argsort(-counts, kind="stable")[:10]
    # Chance is that of the most frequent answer, not of each word.
    rows = tuple((words[i], share(first[:, i], None)) for i in ranked if counts[i])
    hub = int(ranked[0])
    examples = [
        example(given.images[i].pixels, given.images[i].shows, words[hub])
        for i in np.flatnonzero(first[:, hub])
        if not given.has_truth or given.images[i].shows != words[hub]
    ]
    return Findings(
        findings,
        tuple(examples[:6]),
        (Table("The most frequent answers", ("word", "share of images"), rows),),
        {"images": n, "words": len(words), "k": K, "template": DEFAULT_TEMPLATE},
    )


def _top(scores: NDArray[np.floating], k: int) -> NDArray[np.bool_]:
    """Whether a word is among the k nearest of an image, [n words]."""
    found = np.zeros(scores.shape, dtype=bool)
    np.put_along_axis(found, np.argpartition(-scores, k - 1, axis=1)[:, :k], True, axis=1)
    return found


def _hub(near: NDArray[np.bool_], halves: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether an image has the word that is most frequent on the other half, [n]."""
    hubs = np.array([near[halves != half].sum(0).argmax() for half in (0, 1)])
    return np.asarray(near[np.arange(len(near)), hubs[halves]])


def _occurrence_statistics(near: NDArray[np.bool_]) -> Statistic:
    """Skewness of how often words are among the nearest, and the share of words that never are."""

    def statistic(weights: NDArray[np.floating]) -> NDArray[np.floating]:
        counts = weights @ near.astype(weights.dtype)  # [b words]
        centred = counts - counts.mean(1, keepdims=True)
        spread = np.maximum(centred.std(1), 1e-9)
        return np.stack([(centred**3).mean(1) / spread**3, (counts == 0).mean(1)], axis=1)

    return statistic
