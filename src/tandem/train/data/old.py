"""Training sets -> batches: pictures beside sentences, with what belongs to what.

A batch is a pure function of the recipe and the step, so a resumed run sees what it would have seen. Knows no file
format and no model; sentences stay words here.
"""

import io
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from tandem.errors import DataError
from tandem.samples import Sample, read_samples
from tandem.train.recipe import Recipe, Source


@dataclass(frozen=True)
class Batch:
    """What one step learns from."""

    pixels: np.ndarray  # uint8 [n s s 3]
    sentences: list[str]  # m of them
    targets: np.ndarray  # float32 [n m], 1 where the sentence was written for the picture or its class


@dataclass
class TrainingSet:
    """One source in memory. Decoded pictures are kept when asked for; broken ones are counted and named."""

    source: Source
    samples: list[Sample]
    keep_decoded: bool = False
    broken: dict[str, str] = field(default_factory=dict)
    _decoded: dict[int, Image.Image] = field(default_factory=dict)

    def sentences(self, index: int) -> list[str]:
        """All sentences that can be drawn for a sample."""
        texts = self.samples[index].texts
        if self.source.kind == "captions":
            return list(texts)
        words = (*texts, *self.broader_words(texts))
        return [template.format(word) for template in self.source.templates for word in words]

    def broader_words(self, names: tuple[str, ...]) -> list[str]:
        """The broader words that hold for a name: cat for tabby."""
        return [word for word, held in self.source.broader.items() if any(name in held for name in names)]

    def picture(self, index: int) -> Image.Image | None:
        """The decoded RGB picture, or None when it is broken."""
        if index in self._decoded:
            return self._decoded[index]
        sample = self.samples[index]
        try:
            image = Image.open(io.BytesIO(sample.image)).convert("RGB")
        except Exception as error:  # Pillow's plugins raise nearly anything on hostile bytes
            self.broken[sample.key] = str(error)
            return None
        if self.keep_decoded:
            self._decoded[index] = image
        return image


def read_source(source: Source, root: Path) -> list[Sample]:
    """Every sample of a source. Raises `DataError` that names the file when there is none or it is of no known kind."""
    written = str(source.path)
    pattern = Path(written)
    paths = sorted(pattern.parent.glob(pattern.name)) if pattern.is_absolute() else sorted(root.glob(written))
    if not paths:
        raise DataError(f"{source.path}: no such file below {root.resolve()}; set data_root=FOLDER")
    samples = [sample for path in paths for sample in read_samples(path, source.text)]
    if source.kind == "names":
        samples = [_split_names(sample) for sample in samples]
    empty = [sample.key for sample in samples if not sample.texts]
    if empty:
        raise DataError(f"{source.path}: {len(empty)} samples have no {source.text}, the first is {empty[0]}")
    return samples


def _split_names(sample: Sample) -> Sample:
    names = [name.strip() for text in sample.texts for name in text.split(",")]
    return Sample(sample.key, sample.image, tuple(name for name in names if name))


class Batches:
    """The batches of a run, by step."""

    def __init__(self, recipe: Recipe) -> None:
        root = Path(recipe.data_root).expanduser()
        self.recipe = recipe
        self.sets = [TrainingSet(source, read_source(source, root), recipe.cache_pictures) for source in recipe.data]
        self._orders: dict[tuple[int, int], np.ndarray] = {}

    def all_sentences(self) -> list[str]:
        """Every distinct sentence that any batch can hold, in a fixed order."""
        found: dict[str, None] = {}
        for training_set in self.sets:
            for index in range(len(training_set.samples)):
                found.update(dict.fromkeys(training_set.sentences(index)))
        return list(found)

    def batch(self, step: int) -> Batch:
        """The batch of a step."""
        draw = np.random.default_rng((self.recipe.seed, step))
        size = self.recipe.image_size_at(step)
        pixels: list[np.ndarray] = []
        sentences: dict[str, int] = {}
        pairs: list[tuple[int, int]] = []
        for number, training_set in enumerate(self.sets):
            source = training_set.source
            chosen: dict[tuple[str, ...], str] = {}  # one sentence a name (or word) and batch: its pictures share it
            for index in self._indices(number, step):
                image = training_set.picture(index)
                if image is None:
                    continue
                pixels.append(random_crop(image, size, source.crop, draw))
                if source.kind == "names":
                    names = training_set.samples[index].texts
                    meant = [names, *((word,) for word in training_set.broader_words(names))]
                    for words in meant:
                        if words not in chosen:
                            template = source.templates[draw.integers(len(source.templates))]
                            chosen[words] = template.format(words[draw.integers(len(words))])
                    drawn = [chosen[words] for words in meant]
                else:
                    texts = training_set.samples[index].texts
                    count = min(source.captions_per_picture, len(texts))
                    drawn = [texts[i] for i in draw.choice(len(texts), count, replace=False)]
                for sentence in drawn:
                    pairs.append((len(pixels) - 1, sentences.setdefault(sentence, len(sentences))))
        targets = np.zeros((len(pixels), len(sentences)), np.float32)
        for row, column in pairs:
            targets[row, column] = 1
        return Batch(np.stack(pixels), list(sentences), targets)

    def stream(self, start: int, stop: int) -> Iterator[Batch]:
        """The batches of the steps, prepared in threads ahead of their use."""
        ahead = self.recipe.workers + 1
        with ThreadPoolExecutor(self.recipe.workers, thread_name_prefix="batches") as pool:
            waiting: list[Future[Batch]] = []
            try:
                for step in range(start, stop):
                    waiting.append(pool.submit(self.batch, step))
                    if len(waiting) > ahead:
                        yield waiting.pop(0).result()
                while waiting:
                    yield waiting.pop(0).result()
            finally:
                for future in waiting:
                    future.cancel()

    def _indices(self, number: int, step: int) -> list[int]:
        """The samples of a source in a step: epochs in a random order each, cut into steps."""
        training_set = self.sets[number]
        count, total = training_set.source.per_batch, len(training_set.samples)
        positions = range(step * count, (step + 1) * count)
        return [int(self._order(number, at // total)[at % total]) for at in positions]

    def _order(self, number: int, epoch: int) -> np.ndarray:
        key = (number, epoch)
        if key not in self._orders:
            order = np.random.default_rng((self.recipe.seed, number, epoch)).permutation(len(self.sets[number].samples))
            self._orders = {k: v for k, v in self._orders.items() if k[0] != number or k[1] >= epoch - 1}
            self._orders[key] = order
            return order
        return self._orders[key]


def random_crop(image: Image.Image, size: int, area: tuple[float, float], draw: np.random.Generator) -> np.ndarray:
    """A random part of a picture, `area` of it, as uint8 [size size 3], mirrored half of the time."""
    width, height = image.size
    share = draw.uniform(*area)
    aspect = np.exp(draw.uniform(np.log(3 / 4), np.log(4 / 3)))
    w = min(width, round((width * height * share * aspect) ** 0.5))
    h = min(height, round((width * height * share / aspect) ** 0.5))
    left, top = draw.integers(width - w + 1), draw.integers(height - h + 1)
    box = (int(left), int(top), int(left) + max(w, 1), int(top) + max(h, 1))
    pixels = np.asarray(image.resize((size, size), Image.Resampling.BILINEAR, box=box))
    return pixels[:, ::-1] if draw.random() < 0.5 else pixels
