"""Classification: images and labels, or a head, in, an `Answer` out, by vectors that a model computes.

Knows vectors, cosines and what they mean; how vectors are computed, it asks of the model.

Shapes: n images, m texts, c labels, d the shared dimension.
"""

import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tandem import prompts
from tandem.answer import Answer, Failure
from tandem.arrays import Vectors
from tandem.config import ModelConfig
from tandem.defaults import BATCH_SIZE, LongTexts
from tandem.errors import ImageError, TandemError
from tandem.heads.head import Head
from tandem.image import ImageSource, is_several, many, source_name
from tandem.progress import Progress, count_of
from tandem.scores.scoring import Scoring, softmax
from tandem.weights import Checkpoint

if TYPE_CHECKING:
    from tandem.scores.relevance import Calibration

AnyHead: TypeAlias = Head | str | os.PathLike[str]  # a head, or its file


class Classifier(ABC):
    """What a model offers for labels: logits, probabilities, answers."""

    checkpoint: Checkpoint
    hides_source = False  # whether messages go to others, who are not to learn where its files are
    _calibration: "Calibration | None" = None

    @property
    @abstractmethod
    def name(self) -> str:
        """What the model is called."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Which weights it has."""

    @property
    @abstractmethod
    def config(self) -> ModelConfig:
        """What the model is."""

    @property
    @abstractmethod
    def is_english_only(self) -> bool:
        """Whether it is known to read English only."""

    @property
    @abstractmethod
    def tensors(self) -> Mapping[str, NDArray[Any]]:
        """Its weights."""

    @abstractmethod
    def class_vectors(
        self,
        labels: prompts.Labels,
        templates: str | Sequence[str] | None = None,
        *,
        language: str | None = None,
        long: LongTexts = "error",
    ) -> Vectors:
        """One vector for each label, float32 [c d]."""

    @abstractmethod
    def _encoded_batches(
        self, sources: Iterable[ImageSource], batch_size: int
    ) -> Iterator[list[tuple[int, Vectors | ImageError]]]:
        """The vector [d] of each image, or its error, with its index."""

    @cached_property
    def logit_scale(self) -> float:
        """The factor of cosines before softmax: exp of the learned scale (about 100 in published models)."""
        return float(np.exp(np.float32(self.tensors["logit_scale"])))

    @cached_property
    def logit_bias(self) -> float:
        """What is added to the scaled cosines; 0 for models without a learned bias."""
        return float(np.float32(self.tensors["logit_bias"])) if self.config.logit_bias else 0.0

    @property
    def calibration(self) -> "Calibration | None":
        """What its scores mean: the user's own calibration, else the one in the model's folder; None without one.

        Read once it is there. Raises `TandemError` for an invalid file.
        """
        if self._calibration is None:
            from tandem.scores.calibration_files import load_calibration

            self._calibration = load_calibration(self)
        return self._calibration

    def similarity(self, images: Vectors, texts: Vectors) -> Vectors:
        """The cosine of every pair of vectors, [n d] and [m d] -> float32 [n m]."""
        a, b = np.atleast_2d(images), np.atleast_2d(texts)
        for vectors in (a, b):
            if vectors.ndim != 2 or vectors.shape[1] != self.config.embed_dim:
                raise TandemError(
                    f"expected vectors [n {self.config.embed_dim}] of {self.name}, got an array of {vectors.shape}"
                )
        return np.asarray(a.astype(np.float32) @ b.astype(np.float32).T)

    def logits(self, images: Vectors, texts: Vectors) -> Vectors:
        """Cosine times the learned scale, plus the bias: float32 [n m], `logits_per_image` of other implementations."""
        return self._scoring.logits(self.similarity(images, texts))

    def probabilities(self, images: Vectors, texts: Vectors) -> Vectors:
        """Softmax of the logits over the texts, float32 [n m]."""
        return softmax(self.logits(images, texts))

    @property
    def _scoring(self) -> Scoring:
        return Scoring("softmax", self.logit_scale, self.logit_bias)

    def scoring(
        self,
        class_vectors: Vectors,
        *,
        independent: bool = False,
        templates: str | Sequence[str] | None = None,
        language: str | None = None,
        long: LongTexts = "error",
    ) -> Scoring:
        """How cosines with labels of these vectors [c d] become probabilities.

        Labels compete, unless they are `independent`: then each stands by itself, by the sigmoid of the logits where
        the model was trained so, else by its calibration. `templates`, `language` and `long` are those of
        the vectors. Raises `TandemError` where there is neither, and where the calibration does not hold for vectors
        that were made so: it was fitted with the default template.
        """
        if not independent:
            return self._scoring
        if self.config.logit_bias:
            return Scoring("sigmoid", self.logit_scale, self.logit_bias)
        from tandem.scores.independent import calibrated_scoring

        found = calibrated_scoring(self, class_vectors)
        self._check_calibrated(templates, language, long)
        return found

    def _check_calibrated(self, templates: str | Sequence[str] | None, language: str | None, long: LongTexts) -> None:
        """Raises `TandemError` for labels made from other texts than the calibration was fitted with."""
        if language is not None and self.is_english_only and prompts.base_language(language) != prompts.ENGLISH:
            raise TandemError(
                f"expected English labels with calibrated labels, got the language {language!r}: {self.name} was "
                "trained on English texts; see: tandem models --for languages"
            )
        if long == "split" or not prompts.is_default(templates, language):
            came = "labels split into parts" if long == "split" else "other templates"
            raise TandemError(
                f"expected the default template with calibrated labels, got {came}: the calibration of {self.name} "
                "was fitted with that template alone; leave them out, or let labels compete"
            )

    def head_scoring(self, head: AnyHead) -> tuple[Head, Scoring]:
        """A head, read where it is a path, and its scoring: products with its weights take the place of cosines.

        Raises `HeadError` for a head of another model.
        """
        from tandem.heads.head_file import check_model, read_head

        found, source = (head, "the head") if isinstance(head, Head) else (read_head(head), os.fspath(head))
        check_model(found, name=self.name, fingerprint=self.fingerprint, source=source)
        return found, Scoring("head", 1.0, np.asarray(found.bias, dtype=np.float32))

    def labels_and_scoring(
        self,
        labels: prompts.Labels | None,
        head: AnyHead | None,
        templates: str | Sequence[str] | None = None,
        language: str | None = None,
        long: LongTexts = "error",
        independent: bool = False,
    ) -> tuple[Sequence[str], Vectors, Scoring]:
        """The names of labels or of a head's classes, their vectors or its weights [c d], and the scoring.

        Raises `TandemError` unless exactly one of both is given, and for options of labels beside a head.
        """
        prompts.check_labels_or_head(
            labels, head, templates=templates, language=language, long=long, independent=independent
        )
        if head is not None:
            found, scoring = self.head_scoring(head)
            return found.classes, found.weights, scoring
        assert labels is not None
        classes = self.class_vectors(labels, templates, language=language, long=long)
        scoring = self.scoring(classes, independent=independent, templates=templates, language=language, long=long)
        return prompts.check_labels(labels), classes, scoring

    def classify(
        self,
        images: ImageSource | Iterable[ImageSource],
        labels: prompts.Labels | None = None,
        *,
        head: AnyHead | None = None,
        templates: str | Sequence[str] | None = None,
        language: str | None = None,
        long: LongTexts = "error",
        independent: bool = False,
        batch_size: int = BATCH_SIZE,
        progress: bool | None = None,
    ) -> Answer:
        """Classify images: a probability of every label for each image.

        The labels compete: their probabilities sum to 1. With `independent` each stands by itself, and several may be
        true of an image, or none: by the sigmoid of a model that was trained so, else by the model's calibration;
        `Answer.scoring` says which. Raises `TandemError` where there is neither; a calibration holds for the default
        template only, and for languages that the model reads.

        Instead of labels, a `head` (a path to a `.tandem-head` file, or a `Head`) answers with its classes, which
        compete; `tandem learn` makes one from a few labelled photos. Raises `HeadError` for that of another model.

        `templates` are prompts with `{}` for the label (default "a photo of a {}."); several are averaged
        (`tandem.prompts.ENSEMBLE` is a built-in set). `language` ("de") takes the default template of that language
        (`tandem.prompts.templates`), and of labels with texts by language (`{"dog": {"de": "Hund"}}`) that text; the
        answer gives their names. `long` as for `embed_texts`. Images that cannot be read are skipped with a warning
        and listed in `Answer.failures`. `progress` as for `embed_images`.
        """
        parts: list[Answer] = []
        with Progress(count_of(many(images)), show=progress, label="classifying", unit="image") as bar:
            for part in self.iter_classify(
                images,
                labels,
                head=head,
                templates=templates,
                language=language,
                long=long,
                independent=independent,
                batch_size=batch_size,
            ):
                parts.append(part)
                bar.advance(len(part) + len(part.failures))
        if not parts:
            names, classes, scoring = self.labels_and_scoring(labels, head, templates, language, long, independent)
            parts.append(self._answer(names, [], {}, classes, scoring))
        answer = Answer.join(parts)
        warn_of(answer.failures)
        return answer

    def iter_classify(
        self,
        images: ImageSource | Iterable[ImageSource],
        labels: prompts.Labels | None = None,
        *,
        head: AnyHead | None = None,
        templates: str | Sequence[str] | None = None,
        language: str | None = None,
        long: LongTexts = "error",
        independent: bool = False,
        batch_size: int = BATCH_SIZE,
    ) -> Iterator[Answer]:
        """`classify` as a stream: yields an answer for each batch as soon as it is ready."""
        names, classes, scoring = self.labels_and_scoring(labels, head, templates, language, long, independent)
        held = not is_several(images) or isinstance(images, list | tuple | np.ndarray)  # the caller does, if anyone
        seen: dict[int, tuple[str, ImageSource | None]] = {}

        def noted() -> Iterator[ImageSource]:
            for index, image in enumerate(many(images)):
                keep = isinstance(image, str | os.PathLike) or (held and not hasattr(image, "read"))
                seen[index] = (source_name(image), image if keep else None)
                yield image

        for batch in self._encoded_batches(noted(), batch_size):
            yield self._answer(names, batch, {index: seen.pop(index) for index, _ in batch}, classes, scoring)

    def _answer(
        self,
        labels: Sequence[str],
        batch: Sequence[tuple[int, Vectors | ImageError]],
        seen: Mapping[int, tuple[str, ImageSource | None]],
        classes: Vectors,
        scoring: Scoring,
    ) -> Answer:
        good = [(index, item) for index, item in batch if not isinstance(item, ImageError)]
        vectors = (
            np.stack([vector for _, vector in good]) if good else np.empty((0, self.config.embed_dim), dtype=np.float32)
        )
        logits = scoring.logits(self.similarity(vectors, classes))
        return Answer(
            self,
            tuple(labels),
            tuple(seen[index][0] for index, _ in good),
            logits,
            tuple(Failure(index, item) for index, item in batch if isinstance(item, ImageError)),
            tuple(seen[index][1] for index, _ in good),
            scoring.kind,
        )


def warn_of(failures: Sequence[Failure]) -> None:
    """Warn whoever called the caller of the first of the images that were skipped."""
    if failures:
        others = f", and {len(failures) - 1} more" if len(failures) > 1 else ""
        warnings.warn(f"skipped: {failures[0].error}{others}", stacklevel=3)
