"""Whether a sentence is more than a bag of words: the same words in another order, and shuffled."""

import numpy as np
from numpy.typing import NDArray

from tandem.audit import scenes
from tandem.audit.answers import ask_pairs, chosen, example, pair_examples, pair_findings
from tandem.audit.estimates import difference, share
from tandem.audit.labelled_images import CaptionedImage
from tandem.audit.protocol import About, Example, Finding, Findings, Subject

ABOUT = About(
    title="Word order",
    measures="Pairs of scenes such as a star inside a circle and a circle inside a star. Only captions with the "
    "same bag of words enter, so that order alone tells them apart; the control is two scenes that share no shape. "
    "Then captions against their own words shuffled, beside what the model prefers when the image is another one.",
    chance="50% for one of two; 1/6 for all four choices of a pair. A shuffled sentence can be told from a whole "
    "one without looking at any image: what counts is the difference to the same choice with another image, for "
    "which chance is 0.",
    not_for="Tests whose wrong captions use other words measure vocabulary; this one does not compare with them. "
    "At chance does not mean that search is bad: most queries name things.",
)
_SHUFFLED = 4  # words, at least: fewer have too few orders


def encoded(subject: Subject) -> int:
    """About how many images it encodes."""
    return 6 * subject.count(80)


def measure(subject: Subject) -> Findings:
    count, random = subject.count(80), subject.random("word_order")
    pairs = [scenes.relation_pair(random) for _ in range(count)]
    outcomes = ask_pairs(subject.encoder, pairs, same_words=True)
    control = [scenes.other_shapes_pair(random) for _ in range(count)]
    findings = [
        *pair_findings("other shapes", ask_pairs(subject.encoder, control), control=True),
        *pair_findings("same words", outcomes),
    ]
    images, where = _captioned(subject, pairs, random)
    shuffled = [shuffle(image.shows, random) for image in images]
    vectors = subject.encoder.images(images)
    sentences, shuffles = (subject.encoder.texts(list(t)) for t in ([p.shows for p in images], shuffled))
    own = _prefer(vectors, sentences, shuffles)
    other = _prefer(np.roll(vectors, len(vectors) // 2, axis=0), sentences, shuffles)
    findings += [
        Finding(f"{where}: sentence over its words shuffled", share(own, 0.5), better=None),
        Finding(f"{where}: the same, with another image", share(other, 0.5), better=None, control=True),
        Finding(f"{where}: what the image adds", difference(own, other)),
    ]
    examples = [
        example(image.pixels, image.shows, image.shows if prefers else words)
        for image, words, prefers in zip(images, shuffled, own, strict=True)
    ]
    shown: list[Example] = [*pair_examples(pairs, outcomes, 4), *chosen(examples, 4)]
    return Findings(tuple(findings), tuple(shown), settings={"pairs": count, "sentences": len(images)})


def shuffle(sentence: str, random: np.random.Generator) -> str:
    """The words in another order; a full stop stays at the end."""
    words = sentence.rstrip(".").split()
    while True:
        order = [words[i] for i in random.permutation(len(words))]
        if order != words:
            return " ".join(order) + "." * sentence.endswith(".")


def _captioned(
    subject: Subject, pairs: list[scenes.Pair], random: np.random.Generator
) -> tuple[list[CaptionedImage], str]:
    """The user's images with a caption each, where they have some; else scenes of two objects."""
    given = subject.images
    if given.captions:
        places = random.permutation(len(given))[: subject.count(200)]
        found = [CaptionedImage(given.images[i].pixels, next(iter(given.captions[i]), "")) for i in places]
        found = [image for image in found if len(set(image.shows.lower().split())) >= _SHUFFLED]
        if len(found) >= _SHUFFLED:
            return found, "your captions"
    return [scenes.colour_pair(random)[0] for _ in range(2 * len(pairs))], "scenes"


def _prefer(
    vectors: NDArray[np.floating], whole: NDArray[np.floating], shuffled: NDArray[np.floating]
) -> NDArray[np.floating]:
    a, b = (vectors * whole).sum(1), (vectors * shuffled).sum(1)
    return np.asarray((a > b) + (a == b) / 2)
