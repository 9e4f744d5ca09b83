"""Pictures with captions, embedded: queries whose right answers are known. Joins samples and a model.

What counts as an answer is `agreement`; what is searched with them is `trials`.

Legend: n pictures, m sentences, s strange queries, d dimensions.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from tandem.answer import Failure
from tandem.errors import DataError, ImageError
from tandem.image import load_image
from tandem.model import Model
from tandem.samples import (
    CAPTION_KEYS,
    PICTURES,
    Sample,
    as_captions,
    captions_in,
    parquet_columns,
    parquet_rows,
    tar_groups,
    tar_members,
)
from tandem.search.calibration.agreement import alike, coverage, phrases, true_of, unsaid
from tandem.search.calibration.trials import Known
from tandem.search.exploring.clusters import read_vocabulary
from tandem.search.relevance import log_length, number_of_words

MOST_PICTURES, MOST_CAPTIONS, MOST_STRANGE = 1000, 5, 1000  # more make no better fit: it has a handful of numbers
LEAST_PICTURES = 50


@dataclass(frozen=True, eq=False)
class CaptionSet:
    """Vectors of pictures [n d], of a view of each [n d], and of sentences [m d] with the picture each is about [m].

    `short` [m] says which sentences are phrases out of captions rather than captions. `strange` [s d] are queries that
    no picture matches.
    """

    pictures: NDArray[np.float32]
    views: NDArray[np.float32]
    sentences: NDArray[np.float32]
    owner: NDArray[np.intp]
    short: NDArray[np.bool_]
    texts: tuple[str, ...]
    strange: NDArray[np.float32]
    strange_texts: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.pictures)

    def known(self) -> dict[str, Known]:
        """Queries with their right answers: sentences ("words"), views ("picture"), and what matches nothing."""
        shares = coverage(self.texts, self.owner, len(self), ~self.short)
        like = alike(shares[~self.short], self.owner[~self.short])
        length = log_length([number_of_words(text) for text in self.texts])
        strange = log_length([number_of_words(text) for text in self.strange_texts])
        return {
            "words": Known(
                self.sentences @ self.pictures.T, true_of(shares, self.owner), self.owner, self.sentences, length
            ),
            "picture": Known(self.views @ self.pictures.T, like, np.arange(len(self)), self.views, np.zeros(len(self))),
            "strange": Known(
                self.strange @ self.pictures.T,
                np.zeros((len(self.strange), len(self)), dtype=np.bool_),
                np.arange(len(self.strange)) % len(self),  # about no picture, so any will do
                self.strange,
                strange,
            ),
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
            self.strange,
            self.strange_texts,
        )

    def halves(self, seed: int = 0) -> "tuple[CaptionSet, CaptionSet]":
        """Two halves without a picture in common."""
        order = np.random.default_rng(seed).permutation(len(self))
        return self.part(np.sort(order[: len(self) // 2])), self.part(np.sort(order[len(self) // 2 :]))


def read_captioned(paths: Sequence[Path], key: str | None = None) -> Iterator[Sample]:
    """Pictures with their captions from WebDataset tars and Parquet files, as a stream.

    `key` is the column or JSON key of the captions; None for the first of the usual ones that is there. Raises
    `DataError` that names the file.
    """
    for path in paths:
        yield from (_from_parquet if path.suffix.lower() == ".parquet" else _from_tar)(path, key)


def _from_parquet(path: Path, key: str | None) -> Iterator[Sample]:
    columns = parquet_columns(path)
    words = next((name for name in ([key] if key else CAPTION_KEYS) if name in columns), None)
    if "image" not in columns or words is None:
        raise DataError(
            f"{path}: expected a column image and one of captions ({key or ', '.join(CAPTION_KEYS)}); "
            f"it has {', '.join(columns)}; name the captions' with --caption"
        )
    for row, values in enumerate(parquet_rows(path, ["image", words])):
        image = values["image"]
        content = image.get("bytes") if isinstance(image, dict) else image
        if isinstance(content, bytes):
            yield Sample(f"{path.name}#{row}", content, as_captions(values[words]))


def _from_tar(path: Path, key: str | None) -> Iterator[Sample]:
    for group in tar_groups(tar_members(path, wanted=(*PICTURES, ".txt", ".json"))):
        parts = {member.ending: member.content or b"" for member in group}
        picture = next((parts[ending] for ending in PICTURES if ending in parts), None)
        ending = ".json" if ".json" in parts and key != "txt" else ".txt"
        if picture is None or ending not in parts:
            continue
        try:
            captions = captions_in(parts[ending], ending, key)
        except ValueError as error:
            raise DataError(f"{path}: cannot read {group[0].key}{ending}: {error}") from None
        yield Sample(f"{path.name}/{group[0].key}", picture, captions)


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
    strange = _strange(captions, random)
    return CaptionSet(
        np.stack([vector for vector in pictures if vector is not None]),
        np.stack([vector for vector in views if vector is not None]),
        model.embed_texts(captions + typed, truncate=True),
        np.concatenate([owner, typed_owner]),
        np.arange(len(captions) + len(typed)) >= len(captions),
        tuple(captions + typed),
        model.embed_texts(strange),
        tuple(strange),
    ), failures


def _strange(captions: Sequence[str], random: np.random.Generator) -> list[str]:
    """Queries that no picture matches: words that no caption has, and letters that are no words; equally many."""
    words = unsaid(captions, read_vocabulary())
    chosen = [str(word) for word in random.permutation(words)[: MOST_STRANGE // 2]]
    letters = list("abcdefghijklmnopqrstuvwxyz")
    # One to three such "words", of three to eight letters.
    nonsense = [
        " ".join("".join(random.choice(letters, random.integers(3, 9))) for _ in range(random.integers(1, 4)))
        for _ in chosen
    ]
    return chosen + nonsense


def _embed_pictures(
    model: Model, samples: Sequence[Sample], sources: Iterable[Any], advance: Callable[[int], None]
) -> tuple[list[NDArray[np.float32] | None], list[Failure]]:
    vectors: list[NDArray[np.float32] | None] = []
    failures = []
    for index, item in model.iter_embed_images(sources):
        vectors.append(None if isinstance(item, ImageError) else item)
        if isinstance(item, ImageError):
            failures.append(Failure(index, item.renewed(samples[index].key)))
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
