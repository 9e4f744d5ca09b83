"""Images with captions, embedded: queries whose right answers are known. Joins samples and a model.

`agreement` decides which answers are right; `trials` searches with them.

Shapes: n images, m texts, s out-of-domain queries, d dimensions.
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
from tandem.prompts import fill, read_vocabulary
from tandem.samples import (
    CAPTION_KEYS,
    TAR_IMAGE_SUFFIXES,
    Sample,
    as_captions,
    captions_in,
    image_bytes,
    parquet_columns,
    parquet_rows,
    shard_kind,
)
from tandem.scores.relevance import log_length, number_of_words
from tandem.search.calibration.agreement import alike, coverage, labels, phrases, true_of, unsaid
from tandem.search.calibration.trials import LabelledQueries
from tandem.tar_files import tar_groups, tar_members

MAX_IMAGES, MAX_CAPTIONS, MAX_OUT_OF_DOMAIN = 1000, 5, 1000  # more make no better fit: it has a handful of numbers
MIN_IMAGES = 50


@dataclass(frozen=True, eq=False)
class CaptionSet:
    """Vectors of images [n d], of a view of each [n d], and of texts [m d] with the image each is about [m].

    `is_phrase` [m] says which texts are phrases out of captions rather than captions. `out_of_domain` [s d] are queries
    that no image matches. `label_vectors` [l d] are prompts with words that captions often have, `label_owner` [l] an
    image of each.
    """

    image_vectors: NDArray[np.float32]
    view_vectors: NDArray[np.float32]
    text_vectors: NDArray[np.float32]
    owner: NDArray[np.intp]
    is_phrase: NDArray[np.bool_]
    texts: tuple[str, ...]
    out_of_domain: NDArray[np.float32]
    out_of_domain_texts: tuple[str, ...]
    label_vectors: NDArray[np.float32]
    label_owner: NDArray[np.intp]
    labels: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.image_vectors)

    def known(self) -> dict[str, LabelledQueries]:
        """Queries with their right answers: texts, views ("image"), out-of-domain queries, and labels ("label")."""
        covered, labels_covered = self._coverage()
        like = alike(covered[~self.is_phrase], self.owner[~self.is_phrase])
        length = log_length([number_of_words(text) for text in self.texts])
        out_of_domain = log_length([number_of_words(text) for text in self.out_of_domain_texts])
        return {
            "text": LabelledQueries(
                self.text_vectors @ self.image_vectors.T,
                true_of(covered, self.owner),
                self.owner,
                self.text_vectors,
                length,
            ),
            "image": LabelledQueries(
                self.view_vectors @ self.image_vectors.T,
                like,
                np.arange(len(self)),
                self.view_vectors,
                np.zeros(len(self)),
            ),
            "out_of_domain": LabelledQueries(
                self.out_of_domain @ self.image_vectors.T,
                np.zeros((len(self.out_of_domain), len(self)), dtype=np.bool_),
                np.arange(len(self.out_of_domain)) % len(self),  # about no image, so any will do
                self.out_of_domain,
                out_of_domain,
            ),
            "label": LabelledQueries(
                self.label_vectors @ self.image_vectors.T,
                true_of(labels_covered, self.label_owner),
                self.label_owner,
                self.label_vectors,
                log_length([number_of_words(label) for label in self.labels]),
            ),
        }

    def _coverage(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The share of each text [m n], and of each label [l n], that the captions of each image cover."""
        owner = np.concatenate([self.owner, self.label_owner])
        written = np.concatenate([~self.is_phrase, np.zeros(len(self.labels), dtype=np.bool_)])
        covered = coverage((*self.texts, *self.labels), owner, len(self), written)
        return covered[: len(self.texts)], covered[len(self.texts) :]

    def part(self, keep: NDArray[np.intp]) -> "CaptionSet":
        """Some of the images, with their texts."""
        new_index = np.full(len(self), -1)
        new_index[keep] = np.arange(len(keep))
        rows = np.flatnonzero(new_index[self.owner] >= 0)
        labels = np.flatnonzero(new_index[self.label_owner] >= 0)
        return CaptionSet(
            self.image_vectors[keep],
            self.view_vectors[keep],
            self.text_vectors[rows],
            new_index[self.owner[rows]],
            self.is_phrase[rows],
            tuple(self.texts[row] for row in rows),
            self.out_of_domain,
            self.out_of_domain_texts,
            self.label_vectors[labels],
            new_index[self.label_owner[labels]],
            tuple(self.labels[label] for label in labels),
        )

    def halves(self, seed: int = 0) -> "tuple[CaptionSet, CaptionSet]":
        """Two halves without an image in common."""
        order = np.random.default_rng(seed).permutation(len(self))
        return self.part(np.sort(order[: len(self) // 2])), self.part(np.sort(order[len(self) // 2 :]))


def read_captioned(paths: Sequence[Path], key: str | None = None) -> Iterator[Sample]:
    """Images with their captions from WebDataset tars and Parquet files, as a stream.

    `key` is the column or JSON key of the captions; None for the first of the usual ones that is there. Raises
    `DataError` that names the file.
    """
    for path in paths:
        yield from (_from_parquet if shard_kind(path) == "parquet" else _from_tar)(path, key)


def _from_parquet(path: Path, key: str | None) -> Iterator[Sample]:
    columns = parquet_columns(path)
    column = next((name for name in ([key] if key else CAPTION_KEYS) if name in columns), None)
    if "image" not in columns or column is None:
        raise DataError(
            f"{path}: expected a column image and one of captions ({key or ', '.join(CAPTION_KEYS)}); "
            f"it has {', '.join(columns)}; name the captions' with --caption"
        )
    for row, values in enumerate(parquet_rows(path, ["image", column])):
        content = image_bytes(values["image"])
        if content is not None:
            yield Sample(f"{path.name}#{row}", content, as_captions(values[column]))


def _from_tar(path: Path, key: str | None) -> Iterator[Sample]:
    for group in tar_groups(tar_members(path, wanted=(*TAR_IMAGE_SUFFIXES, ".txt", ".json"))):
        parts = {member.suffix: member.content or b"" for member in group}
        image = next((parts[suffix] for suffix in TAR_IMAGE_SUFFIXES if suffix in parts), None)
        suffix = ".json" if ".json" in parts and key != "txt" else ".txt"
        if image is None or suffix not in parts:
            continue
        try:
            captions = captions_in(parts[suffix], suffix, key)
        except ValueError as error:
            raise DataError(f"{path}: cannot read {group[0].key}{suffix}: {error}") from None
        yield Sample(f"{path.name}/{group[0].key}", image, captions)


def choose(samples: Iterable[Sample], *, seed: int = 0) -> list[Sample]:
    """At most `MAX_IMAGES` of the samples that have captions, drawn evenly from a stream of any length."""
    random = np.random.default_rng(seed)
    chosen: list[Sample] = []
    seen = 0
    for sample in samples:
        if not sample.texts:
            continue
        seen += 1
        if len(chosen) < MAX_IMAGES:
            chosen.append(sample)
        elif (place := int(random.integers(seen))) < MAX_IMAGES:
            chosen[place] = sample
    return chosen


def embed(
    model: Model, samples: Sequence[Sample], *, advance: Callable[[int], None] = lambda _: None
) -> tuple[CaptionSet, list[Failure]]:
    """Vectors of the samples' images and captions, and the images that cannot be read.

    A view is the image cropped to 40-90% of its area, half of the time mirrored, brighter or darker: what a query by
    image of the same thing may look like. `advance` is called twice for each sample.
    """
    random = np.random.default_rng(0)
    images, failures = _embed_images(model, samples, [sample.image for sample in samples], advance)
    good = [index for index, vector in enumerate(images) if vector is not None]
    if len(good) < MIN_IMAGES:
        raise DataError(f"expected at least {MIN_IMAGES} images with captions, got {len(good)}")
    shown = (_view(load_image(samples[index].image, limits=model.limits), random) for index in good)
    views, _ = _embed_images(model, [samples[index] for index in good], shown, advance)
    texts = [(row, text) for row, index in enumerate(good) for text in samples[index].texts[:MAX_CAPTIONS]]
    captions, owner = [text for _, text in texts], np.array([row for row, _ in texts], dtype=np.intp)
    typed, typed_owner = phrases(captions, owner, len(good), random)
    out_of_domain = _out_of_domain(captions, random)
    named, named_owner = labels(captions, owner, len(good))
    return CaptionSet(
        np.stack([vector for vector in images if vector is not None]),
        np.stack([vector for vector in views if vector is not None]),
        model.embed_texts(captions + typed, truncate=True),
        np.concatenate([owner, typed_owner]),
        np.arange(len(captions) + len(typed)) >= len(captions),
        tuple(captions + typed),
        model.embed_texts(out_of_domain),
        tuple(out_of_domain),
        model.embed_texts([prompt for label in named for prompt in fill(label)], truncate=True),
        named_owner,
        tuple(named),
    ), failures


def _out_of_domain(captions: Sequence[str], random: np.random.Generator) -> list[str]:
    """Queries that no image matches: words that no caption has, and random strings; equally many."""
    words = unsaid(captions, read_vocabulary())
    chosen = [str(word) for word in random.permutation(words)[: MAX_OUT_OF_DOMAIN // 2]]
    characters = list("abcdefghijklmnopqrstuvwxyz")
    # One to three such "words", of three to eight letters.
    nonsense = [
        " ".join("".join(random.choice(characters, random.integers(3, 9))) for _ in range(random.integers(1, 4)))
        for _ in chosen
    ]
    return chosen + nonsense


def _embed_images(
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


def _view(image: Image.Image, random: np.random.Generator) -> Image.Image:
    width, height = image.size
    side = np.sqrt(random.uniform(0.4, 0.9))
    across, down = max(1, int(width * side)), max(1, int(height * side))
    left, top = int(random.integers(width - across + 1)), int(random.integers(height - down + 1))
    view = image.convert("RGB").crop((left, top, left + across, top + down))
    if random.random() < 0.5:
        view = view.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return ImageEnhance.Brightness(view).enhance(random.uniform(0.7, 1.3))
