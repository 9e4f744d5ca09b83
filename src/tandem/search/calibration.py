"""From pictures with captions to a `Fit`: what a model's scores mean, and a report of how well that holds.

The arithmetic of a fit is `relevance`, of the searches it learns from `trials`, of what counts as a match
`agreement`; where fits are kept is at the end. Knows no command line.

Legend: n pictures, m sentences, d dimensions, t trials, k hits of each.
"""

import os
import secrets
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from tandem.answer import Failure
from tandem.errors import DataError, ImageError, TandemError
from tandem.image import load_image
from tandem.model import Model
from tandem.samples import Sample
from tandem.search.agreement import alike, coverage, phrases, true_of
from tandem.search.home import data_folder
from tandem.search.relevance import Fit, Terms, fit_logistic, sigmoid
from tandem.search.trials import TOP, Known, Trial, many_trials, sizes_up_to

TERMS = ("score", "standing", "size", "freely", "spread")  # in the order of Terms.features
FILE = "relevance.json"
MOST_PICTURES, MOST_CAPTIONS = 1000, 5  # more of them make no better fit: it has six numbers
LEAST_PICTURES = 50
# A search that shows a match among its best hits is told "nothing matches well" in at most this share of cases.
WRONGLY_DISCOURAGED = 0.1


@dataclass(frozen=True, eq=False)
class CaptionSet:
    """Vectors of pictures [n d], of a view of each [n d], and of sentences [m d] with the picture each is about [m].

    `short` [m] says which sentences are phrases out of captions rather than captions.
    """

    pictures: NDArray[np.float32]
    views: NDArray[np.float32]
    sentences: NDArray[np.float32]
    owner: NDArray[np.intp]
    short: NDArray[np.bool_]
    texts: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.pictures)

    def known(self) -> dict[str, Known]:
        """Queries with their right answers, by kind: the sentences, and the views."""
        shares = coverage(self.texts, self.owner, len(self))
        own = np.arange(len(self))
        return {
            "words": Known(self.sentences @ self.pictures.T, true_of(shares, self.owner), self.owner),
            "picture": Known(self.views @ self.pictures.T, alike(shares[~self.short], self.owner[~self.short]), own),
        }

    def part(self, keep: NDArray[np.intp]) -> "CaptionSet":
        """Some of the pictures, with their sentences."""
        place = np.full(len(self), -1)
        place[keep] = np.arange(len(keep))
        rows = np.flatnonzero(place[self.owner] >= 0)
        return CaptionSet(
            self.pictures[keep],
            self.views[keep],
            self.sentences[rows],
            place[self.owner[rows]],
            self.short[rows],
            tuple(self.texts[row] for row in rows),
        )

    def halves(self, seed: int = 0) -> "tuple[CaptionSet, CaptionSet]":
        """Two halves without a picture in common."""
        order = np.random.default_rng(seed).permutation(len(self))
        return self.part(np.sort(order[: len(self) // 2])), self.part(np.sort(order[len(self) // 2 :]))


def choose(samples: Iterable[Sample], *, seed: int = 0) -> list[Sample]:
    """At most `MOST_PICTURES` of the samples that have captions, drawn evenly from a stream of any length."""
    random = np.random.default_rng(seed)
    chosen: list[Sample] = []
    seen = 0
    for sample in samples:
        if not sample.texts:
            continue
        seen += 1
        if len(chosen) < MOST_PICTURES:
            chosen.append(sample)
        elif (place := int(random.integers(seen))) < MOST_PICTURES:
            chosen[place] = sample
    return chosen


def embed(
    model: Model, samples: Sequence[Sample], *, advance: Callable[[int], None] = lambda _: None
) -> tuple[CaptionSet, list[Failure]]:
    """Vectors of the samples' pictures and captions, and the pictures that cannot be read.

    A view is the picture cropped to 40-90% of its area, half of the time mirrored, brighter or darker: what a query by
    picture of the same thing may look like. `advance` is called twice for each sample.
    """
    random = np.random.default_rng(0)
    pictures, failures = _embed_pictures(model, samples, [sample.image for sample in samples], advance)
    good = [index for index, vector in enumerate(pictures) if vector is not None]
    if len(good) < LEAST_PICTURES:
        raise DataError(f"expected at least {LEAST_PICTURES} pictures with captions, got {len(good)}")
    shown = (_view(load_image(samples[index].image, limits=model.limits), random) for index in good)
    views, _ = _embed_pictures(model, [samples[index] for index in good], shown, advance)
    texts = [(row, text) for row, index in enumerate(good) for text in samples[index].texts[:MOST_CAPTIONS]]
    captions, owner = [text for _, text in texts], np.array([row for row, _ in texts], dtype=np.intp)
    typed, typed_owner = phrases(captions, owner, len(good), random)
    return CaptionSet(
        np.stack([vector for vector in pictures if vector is not None]),
        np.stack([vector for vector in views if vector is not None]),
        model.embed_texts(captions + typed, truncate=True),
        np.concatenate([owner, typed_owner]),
        np.arange(len(captions) + len(typed)) >= len(captions),
        tuple(captions + typed),
    ), failures


def _embed_pictures(
    model: Model, samples: Sequence[Sample], sources: Iterable[Any], advance: Callable[[int], None]
) -> tuple[list[NDArray[np.float32] | None], list[Failure]]:
    vectors: list[NDArray[np.float32] | None] = []
    failures = []
    for index, item in model.iter_embed_images(sources):
        vectors.append(None if isinstance(item, ImageError) else item)
        if isinstance(item, ImageError):
            failures.append(Failure(index, ImageError(samples[index].key, item.reason)))
        advance(1)
    return vectors, failures


def _view(picture: Image.Image, random: np.random.Generator) -> Image.Image:
    width, height = picture.size
    side = np.sqrt(random.uniform(0.4, 0.9))
    across, down = max(1, int(width * side)), max(1, int(height * side))
    left, top = int(random.integers(width - across + 1)), int(random.integers(height - down + 1))
    view = picture.convert("RGB").crop((left, top, left + across, top + down))
    if random.random() < 0.5:
        view = view.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return ImageEnhance.Brightness(view).enhance(random.uniform(0.7, 1.3))


# --- the fit ---------------------------------------------------------------------------------------------------------


def fit(model_name: str, fingerprint: str, known: dict[str, Known], *, seed: int = 0) -> Fit:
    """What the scores of a model mean, from queries by kind (`CaptionSet.known`)."""
    trials = {kind: list(many_trials(each, sizes_up_to(each.scores.shape[1]), seed)) for kind, each in known.items()}
    words, picture = (_usual(known[kind]) for kind in ("words", "picture"))
    mixed = replace(words, mean=(words.mean + picture.mean) / 2, deviation=(words.deviation + picture.deviation) / 2)
    of_words, of_picture = (
        [(usual, trial) for trial in trials[kind]] for usual, kind in ((words, "words"), (picture, "picture"))
    )
    return Fit(
        fingerprint,
        model_name,
        words=_fit_terms(words, of_words),
        picture=_fit_terms(picture, of_picture),
        mixed=_fit_terms(mixed, of_words + of_picture, by_score=False),
    )


def _usual(known: Known) -> Terms:
    """Terms that know what scores are usual, and nothing yet of what they mean."""
    scores = known.scores.astype(np.float64)
    return Terms(0, 0, 0, 0, 0, 0, scores.shape[1], float(scores.mean()), float(np.sqrt(scores.var(axis=1).mean())))


def _fit_terms(usual: Terms, trials: list[tuple[Terms, Trial]], *, by_score: bool = True) -> Terms:
    features = np.concatenate(
        [standard.features(t.scores.astype(np.float64), t.background)[t.there] for standard, (_, _, t) in trials]
    )
    matches = np.concatenate([t.matches[t.there] for _, (_, _, t) in trials])  # [h]; features [h 5]
    used = list(TERMS if by_score else ("standing", "size"))
    while True:
        columns = [TERMS.index(name) for name in used]
        found = dict(zip(["constant", *used], fit_logistic(features[:, columns], matches).tolist(), strict=True))
        # A higher score must never look worse: the weaker of the two terms that rise with it goes if it says so.
        falling = [name for name in ("score", "standing") if found.get(name, 0) < 0]
        if not falling:
            break
        used.remove(falling[0])
    fitted = replace(usual, **found)
    return replace(fitted, threshold=_threshold(fitted, trials))


def _threshold(fitted: Terms, trials: list[tuple[Terms, Trial]]) -> float:
    """The relevance that the best hit exceeds in all but `WRONGLY_DISCOURAGED` of the searches that show a match."""
    best = []
    for usual, (size, present, each) in trials:
        if present and size >= TOP:
            terms = replace(fitted, mean=usual.mean, deviation=usual.deviation)
            relevance = sigmoid(terms.log_odds(each.scores[:, :1].astype(np.float64), each.background))[:, 0]
            best.append(relevance[(each.matches & each.there).any(1)])
    found = np.concatenate([*best, np.zeros(0)])
    return float(np.quantile(found, WRONGLY_DISCOURAGED)) if len(found) else 0.0


# --- where fits are kept ---------------------------------------------------------------------------------------------


def load_fit(model: Model) -> Fit | None:
    """What the scores of this model mean: the user's own fit, else the one in the model's folder, else None.

    A fit that was made for other weights is refused: a warning says so, and there is none. Raises `TandemError` for a
    file that is no fit.
    """
    for path in (own_path(model.fingerprint), Path(model.checkpoint.source) / FILE):
        if path.is_file():
            found = Fit.from_json(path.read_text(encoding="utf-8"), str(path))
            if found.fingerprint == model.fingerprint:
                return found
            warnings.warn(
                f"{path} is for {found.model} ({found.fingerprint[:12]}), not for {model.name} "
                f"({model.fingerprint[:12]}): not used; fit this model with tandem calibrate",
                stacklevel=2,
            )
    return None


def save_fit(fit: Fit, path: Path | None = None) -> Path:
    """Keep a fit where `load_fit` finds it, or at `path`. The file is written whole or not at all."""
    path = own_path(fit.fingerprint) if path is None else path
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(fit.to_json(), encoding="utf-8")
        os.replace(beside, path)
    except OSError as error:
        raise TandemError(f"{path}: cannot be written: {error.strerror or error}") from None
    finally:
        beside.unlink(missing_ok=True)
    return path


def own_path(fingerprint: str) -> Path:
    """Where the user's own fit of a model is kept."""
    return data_folder() / "relevance" / f"{fingerprint}.json"
