"""`learn`: labelled features to a head, with what it is worth beside zero-shot on the same images.

The accuracy is that of heads fitted without the images they answer for; the head that is kept is fitted on all of them.
A gain is claimed only where its interval excludes 0.

Shapes: n images, d the shared dimension, c classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

import tandem
from tandem.arrays import Vectors
from tandem.datasets.dataset import Dataset
from tandem.errors import DataError, named
from tandem.evaluate import metrics
from tandem.evaluate.confidence import calibration_errors, cross_fitted_temperatures, fit_temperature
from tandem.evaluate.evaluating import Data, opened_dataset
from tandem.evaluate.features import Features, embed_dataset
from tandem.evaluate.figures import Figure
from tandem.evaluate.intervals import Interval, bootstrap, mean_interval, paired_bootstrap
from tandem.evaluate.model_checks import check_same_model, note_of_training
from tandem.evaluate.readable import OnError
from tandem.heads.fitting import AUTO, automatic, check_learned, head_of
from tandem.heads.head import Head
from tandem.heads.head_file import check_class_names
from tandem.heads.leave_out import leave_out
from tandem.heads.shots import Shots, check_shots
from tandem.model import Model, load
from tandem.scores.scoring import softmax

GainVerdict = Literal["gain", "loss", "no difference shown", "not measured"]

NEAR_DUPLICATE = 0.99  # the cosine of photos of one moment
_COMPARED = 20_000  # images among which near-duplicates are looked for
_BLOCK = 2048
_CONFUSED = 20  # pairs of classes that the card names


@dataclass(frozen=True)
class Confusion:
    """Images of a class that were taken for another one."""

    label: str
    answer: str
    images: int
    of: int  # images of the class that were measured


@dataclass(frozen=True)
class LearnedClass:
    """A class and the share of its images that were right when left out; NaN where none was measured."""

    name: str
    images: int
    accuracy: float
    zero_shot: float

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON: null where nothing was measured."""
        shares = {"accuracy": self.accuracy, "zero_shot": self.zero_shot}
        return {"name": self.name, "images": self.images} | {
            name: None if np.isnan(share) else share for name, share in shares.items()
        }


@dataclass(frozen=True, eq=False)
class Learned:
    """A head and what it is worth. `figures` are empty where nothing could be measured: see `notes`."""

    head: Head
    figures: Mapping[str, Figure]  # "accuracy", "zero_shot", "gain", "calibration_error"
    verdict: GainVerdict
    scheme: str  # "leave-one-out", "8 folds"; "" where nothing was measured
    classes: tuple[LearnedClass, ...]
    confusions: tuple[Confusion, ...] = ()
    notes: tuple[str, ...] = field(default=())


def learn(
    model: Model | str | Path | None,
    data: Features | Data,
    *,
    method: str = AUTO,
    templates: str | Sequence[str] | None = None,
    language: str | None = None,
    seed: int = 0,
    cache: bool = True,
    on_error: OnError = "raise",
    progress: bool | None = None,
) -> Learned:
    """A head for the classes of a data set, from the vectors of its images.

    `model` is a model, or what `tandem.load` takes; `data` a data set, what `datasets.open_dataset` takes, or features.
    `cache`, `on_error` and `progress` are those of `embed_dataset`, for data that has no vectors yet.
    `method`: "clap", sound from one image of a class; "gda", which needs several of each; "auto" takes GDA from 8
    images of every class, else CLAP (`heads.fitting.METHODS`). `templates` and `language` are of the prompts that
    zero-shot uses and CLAP begins at: None for those of the data set, else the default. Equal files count once. Raises
    `DataError` for a single class, a class without images, an image with two labels, and too few images for the method.
    """
    check_learned(method)
    dataset = data.dataset if isinstance(data, Features) else opened_dataset(data)
    check_classes(dataset)  # before a model is loaded and images are read
    model = model if isinstance(model, Model) else load(model)
    if not isinstance(data, Features):
        data = embed_dataset(model, dataset, cache=cache, on_error=on_error, progress=progress)
    check_same_model(model, data)
    data, notes = _distinct(data)
    classes = data.dataset.classes
    chosen = templates if templates is not None else data.dataset.templates
    texts = model.class_vectors(classes, chosen, language=language)
    labels = data.dataset.labels
    shots = check_shots(np.asarray(data.vectors), labels, classes, texts, model.logit_scale)
    taken = automatic(int(shots.counts.min())) if method == AUTO else method
    head = head_of(taken, shots, fingerprint=model.fingerprint)
    prompts = list(chosen) if chosen is not None and not isinstance(chosen, str) else chosen
    made = {
        "model": model.name,
        "tandem": tandem.__version__,
        "date": datetime.now(UTC).date().isoformat(),
        "data": {"name": data.dataset.name, "layout": data.dataset.layout, "hash": data.dataset.hash},
        "templates": prompts,
        "language": language,
        "seed": seed,
    }
    head = replace(head, card={**head.card, **made})
    return _measured(shots, head, taken, (*data.dataset.notes, *notes, *note_of_training(model)), seed)


def check_classes(dataset: Dataset) -> None:
    """Raise `DataError` for a data set without labels, with several for an image, and with one class alone, and
    `HeadError` for classes whose names no head can have."""
    if len(dataset.labels) and len(dataset.classes) < 2:
        raise DataError(
            f"{dataset.name}: expected at least two classes to tell apart, got {dataset.classes[0]!r}; add a class "
            "'other' with photos of anything else"
        )
    check_class_names(dataset.classes, dataset.name)


def _measured(shots: Shots, head: Head, method: str, notes: tuple[str, ...], seed: int) -> Learned:
    """The head with its figures, and a temperature that makes its probabilities true of images left out."""
    alone = [name for name, count in zip(shots.classes, shots.counts, strict=True) if count == 1]
    if len(alone) == len(shots.classes):
        notes = (*notes, "there is one image of every class: nothing is left over to measure accuracy on")
        unknown = np.zeros(0, dtype=bool)
        classes = _classes(shots, unknown, unknown, np.zeros(0, dtype=np.int64))
        return _with_card(Learned(head, {}, "not measured", "", classes, (), notes))
    if alone:
        notes = (*notes, f"classes with one image cannot be measured: {named(alone)}")
    if len(shots.labels) <= _COMPARED and (near := near_duplicates(shots)):
        what = f"{near:,} image is a near-duplicate" if near == 1 else f"{near:,} images are near-duplicates"
        notes = (*notes, f"{what} of others of their class: on new photos expect less")
    left_out = leave_out(method, shots, seed=seed)
    places = np.flatnonzero(np.isfinite(left_out.logits).all(axis=1))
    logits, labels = left_out.logits[places], shots.labels[places]
    right = metrics.label_ranks(logits, labels) == 1
    zero_shot = metrics.label_ranks(shots.zero_shot_logits[places], labels) == 1
    n, chance = len(labels), 1 / len(shots.classes)
    gain = paired_bootstrap(right, zero_shot, seed=seed)
    smoothing = 1 / (n + 2)  # as if one more answer of each kind were there (Platt 1999, Laplace's rule)
    temperature = fit_temperature(logits, labels, smoothing)
    figures = {
        "accuracy": Figure.of(mean_interval(right, seed=seed), n, chance=chance),
        "zero_shot": Figure.of(mean_interval(zero_shot, seed=seed), n, chance=chance),
        "gain": Figure.of(gain, n, unit="difference"),
        "calibration_error": Figure.of(_calibration_error(logits, labels, smoothing, seed), n, unit="score"),
    }
    largest = float(np.bincount(labels).max() / n)
    if largest > (1 + chance) / 2:
        name = shots.classes[int(np.bincount(labels).argmax())]
        notes = (*notes, f"always answering {name!r} would be right for {largest:.1%}: there are most images of it")
    verdict: GainVerdict = "gain" if gain.low > 0 else "loss" if gain.high < 0 else "no difference shown"
    head = replace(
        head,
        weights=np.asarray(head.weights / temperature, dtype=np.float32),
        bias=np.asarray(head.bias / temperature, dtype=np.float32),
        card={**head.card, "probabilities_temperature": temperature},
    )
    confusions = _confusions(shots.classes, logits, labels)
    classes = _classes(shots, right, zero_shot, labels)
    return _with_card(Learned(head, figures, verdict, left_out.scheme, classes, confusions, notes))


def _with_card(learned: Learned) -> Learned:
    """The same, all of it in the head's card."""
    card: dict[str, Any] = {
        **learned.head.card,
        **{name: figure.as_dict() for name, figure in learned.figures.items()},
        "verdict": learned.verdict,
        "measured_by": learned.scheme,
        "confusions": [[each.label, each.answer, each.images, each.of] for each in learned.confusions[:_CONFUSED]],
        "notes": list(learned.notes),
    }
    return replace(learned, head=replace(learned.head, card=card))


def _classes(
    shots: Shots, right: NDArray[np.bool_], zero_shot: NDArray[np.bool_], labels: NDArray[np.int64]
) -> tuple[LearnedClass, ...]:
    """Outcomes [m] of the images that were measured, class by class."""
    shares = [metrics.per_class(each, labels, len(shots.classes))[1].tolist() for each in (right, zero_shot)]
    return tuple(
        LearnedClass(name, count, *both)
        for name, count, *both in zip(shots.classes, shots.counts.tolist(), *shares, strict=True)
    )


def _calibration_error(logits: Vectors, labels: NDArray[np.int64], smoothing: float, seed: int) -> Interval:
    """Of probabilities whose temperature was fitted on other images."""
    temperatures, _ = cross_fitted_temperatures(logits, labels, seed, smoothing)
    shares = softmax(np.asarray(logits / temperatures[:, None], dtype=np.float32))
    right = metrics.answers(logits, labels) == labels
    statistic = calibration_errors(shares.max(axis=1), right)
    return bootstrap(statistic, len(labels), centred=True, seed=seed)[0].within(0.0, 1.0)


def _confusions(classes: Sequence[str], logits: Vectors, labels: NDArray[np.int64]) -> tuple[Confusion, ...]:
    """What was taken for what, the most images first."""
    counts = np.bincount(labels, minlength=len(classes))
    cells = metrics.confusion(labels, metrics.answers(logits, labels), len(classes)).tolist()
    wrong = sorted((-images, label, answer) for label, answer, images in cells if label != answer)
    return tuple(
        Confusion(classes[label], classes[answer], -images, int(counts[label])) for images, label, answer in wrong
    )


def _distinct(data: Features) -> tuple[Features, tuple[str, ...]]:
    """Each image once: a copy of an image would answer for it when that is left out."""
    first: dict[bytes, int] = {}
    labels = data.dataset.labels
    for place, digest in enumerate(data.dataset.digests):
        other = first.setdefault(digest, place)
        if labels[other] != labels[place]:
            names = data.dataset.classes
            raise DataError(
                f"{data.dataset.name}: one image has two labels: {data.dataset.keys[other]} is "
                f"{names[labels[other]]!r}, {data.dataset.keys[place]} is {names[labels[place]]!r}; remove one of them"
            )
    copies = len(labels) - len(first)
    if not copies:
        return data, ()
    what = "1 copy of an image was" if copies == 1 else f"{copies:,} copies of images were"
    return data.take(list(first.values())), (f"{what} left out: equal files count once",)


def near_duplicates(shots: Shots) -> int:
    """Images that have a near-duplicate of the same class before them."""
    count = 0
    for start in range(0, len(shots.labels), _BLOCK):
        rows = slice(start, start + _BLOCK)
        alike = shots.vectors[rows] @ shots.vectors.T >= NEAR_DUPLICATE
        alike &= shots.labels[rows, None] == shots.labels
        alike &= np.arange(len(shots.labels)) < np.arange(start, start + len(alike))[:, None]
        count += int(alike.any(axis=1).sum())
    return count
