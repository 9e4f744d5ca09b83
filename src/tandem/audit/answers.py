"""How tests ask a model: images among names, pairs of images against their captions; a few answers as examples.

Shapes: n images, c names, d dimensions.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tandem import prompts
from tandem.arrays import Vectors
from tandem.audit import scenes
from tandem.audit.estimates import CHANCE_OF_BOTH, PairOutcomes, pair_outcomes, share
from tandem.audit.labelled_images import CaptionedImage, LabelledImages
from tandem.audit.protocol import Encoder, Example, Finding
from tandem.class_vectors import averaged

Pairs = Sequence[tuple[CaptionedImage, CaptionedImage]]
EXAMPLES = 6  # of a test, at most
THUMBNAIL = 160  # pixels


def name_vectors(encoder: Encoder, names: Sequence[str], templates: Sequence[str]) -> Vectors:
    """A vector for each name, the average over the templates: float32 [c d]."""
    filled = [text for name in names for text in prompts.fill(name, templates)]
    return averaged(encoder.texts(filled).reshape(len(names), len(templates), -1))


def scores(encoder: Encoder, images: Sequence[CaptionedImage], among: LabelledImages) -> Vectors:
    """Cosines of images with the names of a set: float32 [n c]."""
    return np.asarray(encoder.images(images) @ name_vectors(encoder, among.names, among.templates).T)


def ask_pairs(encoder: Encoder, pairs: Pairs, *, same_words: bool = False) -> PairOutcomes:
    """Each image of a pair against both captions; with `same_words` both have to be the same bag of words.

    Else a model that is blind to order tells them apart, as it does in most pairs of published sets.
    """
    if same_words and not all(scenes.same_words(first.shows, second.shows) for first, second in pairs):
        raise ValueError("captions of a pair have different words")
    images = [image for pair in pairs for image in pair]
    return pair_outcomes(encoder.images(images), encoder.texts([image.shows for image in images]))


def pair_findings(name: str, outcomes: PairOutcomes, *, control: bool = False) -> list[Finding]:
    """The three figures of a test on pairs; of a control, the first alone."""
    found = [Finding(f"{name}: caption for an image", share(outcomes.caption, 0.5), control=control)]
    if not control:
        found.append(Finding(f"{name}: image for a caption", share(outcomes.image, 0.5)))
        found.append(Finding(f"{name}: all four right", share(outcomes.both, CHANCE_OF_BOTH), one_sided=True))
    return found


def pair_examples(pairs: Pairs, outcomes: PairOutcomes, count: int = EXAMPLES) -> list[Example]:
    """Images of pairs with the caption that the model prefers, wrong ones first."""
    found = []
    for pair, cosines in zip(pairs, outcomes.cosines, strict=True):
        for place in (0, 1):
            answer = pair[int(np.argmax(cosines[place]))].shows
            found.append(example(pair[place].pixels, pair[place].shows, answer))
            if len(found) == 2 * count:
                break
    return chosen(found, count)


def answer_examples(
    images: Sequence[CaptionedImage],
    names: Sequence[str],
    labels: NDArray[np.int64],
    given: Vectors,
    count: int = EXAMPLES,
    asked: str = "",
) -> list[Example]:
    """Images with the right name and the one of the highest score, wrong ones first."""
    answers = given.argmax(1)
    wrong = np.flatnonzero(answers != labels)
    right = np.flatnonzero(answers == labels)
    places = [*wrong[:count], *right[:2]]
    found = [example(images[i].pixels, names[labels[i]], names[answers[i]], asked) for i in places]
    return chosen(found, count)


def example(image: Image.Image, right: str, answer: str, asked: str = "") -> Example:
    """An example with its own small copy of the image."""
    small = image.copy()
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    return Example(small, right, answer, asked)


def chosen(examples: Sequence[Example], count: int = EXAMPLES) -> list[Example]:
    """Wrong ones first, and a third of right ones where there are any: what the model can do is seen, too."""
    wrong = [each for each in examples if each.right != each.answer]
    right = [each for each in examples if each.right == each.answer]
    kept = right[: max(count // 3, count - len(wrong))]
    return [*wrong[: count - len(kept)], *kept]
