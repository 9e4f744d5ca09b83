"""A category as vectors: how much an image speaks for it, and which texts and examples say so. Knows no probabilities.

The score of the texts is the log-odds of softmax between both sides, each side counting as one text:

    score = log mean_i exp(s f.t_i) - log mean_j exp(s f.u_j)      t for, u against, s the model's scale

Labelled images give a linear score instead, the difference of a head's two logits (`heads`). Either only orders images
until a fit says what it means.

Shapes: n images, a texts or examples for, b against, d the shared dimension.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tandem.arrays import Vectors
from tandem.errors import ImageError
from tandem.heads.fitting import automatic, fit_shots
from tandem.heads.shots import Shots, check_shots
from tandem.model import Model
from tandem.moderation.policy_files import PolicyFile, bad_example

Numbers = NDArray[np.float64]
AGAINST, FOR = 0, 1  # the classes of a binary head


@dataclass(frozen=True, eq=False)
class LinearScore:
    """A score that is linear in an image's vector: that of a head of two classes."""

    weights: Vectors  # float32 [d]
    bias: float

    def __call__(self, vectors: Vectors) -> Numbers:
        """[n d] -> [n]"""
        return np.asarray(vectors @ self.weights, dtype=np.float64) + self.bias


@dataclass(frozen=True, eq=False)
class Side:
    """The texts and examples for a category, or those against it, and their vectors."""

    texts: tuple[str, ...]
    text_vectors: Vectors  # [a d]
    examples: tuple[str, ...]  # names of files
    example_vectors: Vectors  # [a d]


@dataclass(frozen=True)
class Nearest:
    """The text and the example of one side that are nearest to an image, with their cosines."""

    text: str
    text_cosine: float
    example: str | None = None
    example_cosine: float | None = None


@dataclass(frozen=True, eq=False)
class CategoryVectors:
    """A category as one model sees it."""

    against: Side
    in_favour: Side
    logit_scale: float

    def text_scores(self, vectors: Vectors) -> Numbers:
        """The score of the texts, [n d] -> [n]."""
        return self._log_mean(vectors, self.in_favour) - self._log_mean(vectors, self.against)

    def _log_mean(self, vectors: Vectors, side: Side) -> Numbers:
        logits = self.logit_scale * (vectors @ side.text_vectors.T).astype(np.float64)  # [n a]
        highest = logits.max(axis=1, keepdims=True)
        return np.asarray(highest[:, 0] + np.log(np.exp(logits - highest).mean(axis=1)))

    @cached_property
    def class_vectors(self) -> Vectors:
        """The mean text of each side, of unit length, [2 d]: what a head of both begins at."""
        means = np.stack([self.against.text_vectors.mean(axis=0), self.in_favour.text_vectors.mean(axis=0)])
        return np.asarray(means / np.linalg.norm(means, axis=1, keepdims=True), dtype=np.float32)

    def shots(self, vectors: Vectors, shown: NDArray[np.bool_]) -> Shots:
        """Labelled images [n d] and whether each shows the category [n], as a head is fitted from."""
        labels = np.where(shown, FOR, AGAINST)
        return check_shots(vectors, labels, ("against", "for"), self.class_vectors, self.logit_scale)

    @cached_property
    def example_score(self) -> LinearScore | None:
        """The head of the examples; None for a category without any."""
        sides = [self.against.example_vectors, self.in_favour.example_vectors]
        if not all(map(len, sides)):
            return None
        return head_score(self.shots(np.concatenate(sides), np.repeat([False, True], list(map(len, sides)))))

    def unfitted(self, vectors: Vectors) -> Numbers:
        """What orders images before anything was measured: the head of the examples, without examples the texts."""
        return self.text_scores(vectors) if self.example_score is None else self.example_score(vectors)

    def nearest(self, vectors: Vectors) -> list[dict[str, Nearest]]:
        """For each image [n d] what is nearest on each side, by "for" and "against"."""
        sides = {"for": _nearest(vectors, self.in_favour), "against": _nearest(vectors, self.against)}
        return [dict(zip(sides, each, strict=True)) for each in zip(*sides.values(), strict=True)]


def head_score(shots: Shots) -> LinearScore:
    """The score of the head that is fitted from these images, by the method that suits their number."""
    fit = fit_shots(automatic(int(shots.counts.min())), shots)
    return LinearScore(
        np.asarray(fit.weights[FOR] - fit.weights[AGAINST], np.float32), float(fit.bias[FOR] - fit.bias[AGAINST])
    )


def _nearest(vectors: Vectors, side: Side) -> list[Nearest]:
    places, cosines = _best(vectors @ side.text_vectors.T)
    texts = [(side.texts[place], cosine) for place, cosine in zip(places, cosines, strict=True)]
    if not side.examples:
        return [Nearest(*each) for each in texts]
    places, cosines = _best(vectors @ side.example_vectors.T)
    examples = [(side.examples[place], cosine) for place, cosine in zip(places, cosines, strict=True)]
    return [Nearest(*text, *example) for text, example in zip(texts, examples, strict=True)]


def _best(cosines: NDArray[np.floating]) -> tuple[list[int], list[float]]:
    places = cosines.argmax(axis=1)
    return places.tolist(), [float(f"{x:.6f}") for x in cosines[np.arange(len(cosines)), places].tolist()]


def category_vectors(model: Model, opened: PolicyFile) -> Mapping[str, CategoryVectors]:
    """Every category of a policy as a model sees it. Raises `TextError`, and `ConfigError` for bad examples."""
    policy = opened.policy
    found = {}
    for name, category in policy.categories.items():
        sides = []
        for side, texts in (("against", category.texts_against), ("for", category.texts_for)):
            examples = opened.examples.get((name, side), ())
            vectors = np.zeros((len(examples), model.config.embed_dim), np.float32)
            for place, vector in model.iter_embed_images([each.content for each in examples]):
                if isinstance(vector, ImageError):
                    raise bad_example(opened.path, name, side, examples[place].name, vector)
                vectors[place] = vector
            sides.append(
                Side(
                    texts,
                    model.class_vectors(texts, policy.templates),
                    tuple(each.name for each in examples),
                    vectors,
                )
            )
        against, in_favour = sides
        found[name] = CategoryVectors(against, in_favour, model.logit_scale)
    return found
