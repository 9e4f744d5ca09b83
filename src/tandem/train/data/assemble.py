"""A step's number -> this process's share of its batch: a pure function, run in worker processes.

Joins what the other modules know one by one: which samples (`order`, `draws`), their pictures (`decoding`,
`augment`), their sentences (`sentences`). No process and no queue is known here.
"""

from dataclasses import dataclass, replace

import numpy as np

from tandem.config import VisionTransformer
from tandem.errors import ConfigError, DataError
from tandem.tokenizer import Tokenizer
from tandem.train.data.augment import NUMBERS, augmented, enough
from tandem.train.data.batch import Batch, Classes
from tandem.train.data.decoding import Pictures
from tandem.train.data.order import Mix, Slots, candidates, drawn, share_of
from tandem.train.data.samples import Broken, Samples
from tandem.train.data.sentences import Layout, Names, caption_count, chosen_captions, is_paired
from tandem.train.recipe import Recipe

# What a random generator is for: the last number of its seed, after (seed, step).
_SLOTS, _PATCHES, _SENTENCES = 1, 2, 4


@dataclass(frozen=True)
class Parcel:
    """A batch on its way from a worker: targets as pairs, since most of them are 0."""

    batch: Batch
    pairs: np.ndarray | None  # int64 [e 2]: picture of N, sentence of M

    def open(self) -> Batch:
        """The batch with its targets."""
        if self.pairs is None:
            return self.batch
        targets = np.zeros((self.batch.pictures, self.batch.total_sentences), np.float32)
        targets[self.pairs[:, 0], self.pairs[:, 1]] = 1
        return replace(self.batch, targets=targets)


@dataclass(frozen=True)
class _Shown:
    """What fills this process's slots."""

    pixels: np.ndarray  # uint8 [n s s 3]
    numbers: np.ndarray  # int64 [n]: samples
    keys: list[str]
    broken: list[tuple[str, str]]


class Assembler:
    """All that a step's batch depends on."""

    def __init__(
        self,
        recipe: Recipe,
        tokenizer: Tokenizer,
        samples: list[Samples],
        sound: list[np.ndarray | None],
        rank: int,
        processes: int,
    ) -> None:
        """`sound`: by source, which samples can be decoded, where others' pictures matter here."""
        self.recipe, self.tokenizer, self.samples, self.sound = recipe, tokenizer, samples, sound
        sources = recipe.data
        by_weight = sources[0].weight > 0
        self.mix = Mix(
            recipe.seed,
            () if by_weight else tuple(source.per_batch for source in sources),
            tuple(source.weight for source in sources) if by_weight else (),
            recipe.batch_size,
        )
        self.pictures = [Pictures(each, recipe.cache_pictures) for each in samples]
        self.names = {i: Names(each.source, tuple(each.names)) for i, each in enumerate(samples) if each.names}
        self.meant = {i: names.meant() for i, names in self.names.items()}
        self.paired = all(is_paired(source) for source in sources)
        with_classes = [i for i in self.names if sources[i].classes] if recipe.objective.classes > 0 else []
        self.class_source = with_classes[0] if with_classes else None
        self.first, self.last = share_of(recipe.batch_size, rank, processes)

    def parcel(self, step: int) -> Parcel:
        """This process's share of a step. Raises `DataError` where a source has nothing left to show."""
        slots = self.mix.slots(step)
        first = np.empty(len(slots.sources), np.int64)
        for i, samples in enumerate(self.samples):
            rows = slots.sources == i
            first[rows] = drawn(slots.positions[rows], len(samples), self.recipe.seed, i)
        u = self._uniform(step, _SLOTS, NUMBERS + 1)
        shown = self._shown(slots, first, self.recipe.image_size_at(step), u)
        numbers = self._numbers(slots, first, shown.numbers)
        labels = {i: self._labels(i, slots, numbers) for i in self.names}
        drawn_names = {i: names.sentences(self.recipe.seed, step, _SENTENCES, i) for i, names in self.names.items()}

        own, counts = self._captions(slots, numbers, u)
        columns = self._shared(slots, labels, drawn_names)
        layout = Layout.of(counts, len(columns))
        sentences = self._own_sentences(own, list(columns), layout)
        batch = Batch(
            step=step,
            pixels=shown.pixels,
            ids=self._ids(sentences),
            sentences=sentences,
            keys=shown.keys,
            targets=None,
            first_picture=self.first,
            first_sentence=int(layout.captions[self.first]),
            pictures=len(slots.sources),
            total_sentences=layout.total,
            kept=self._kept(step),
            classes=self._classes(slots, labels, drawn_names),
            broken=tuple(shown.broken),
        )
        return Parcel(batch, None if self.paired else self._pairs(slots, counts, labels, drawn_names, columns, layout))

    # --- pictures --------------------------------------------------------------------------------------------------

    def _uniform(self, step: int, purpose: int, width: int) -> np.ndarray:
        """float64 [n width] for this process's slots: the rows that all slots' numbers have there."""
        bits = np.random.PCG64(np.random.SeedSequence((self.recipe.seed, step, purpose)))
        bits.advance(self.first * width)
        return np.random.Generator(bits).random((self.last - self.first, width))

    def _shown(self, slots: Slots, first: np.ndarray, size: int, u: np.ndarray) -> _Shown:
        pixels = np.empty((self.last - self.first, size, size, 3), np.uint8)
        numbers, keys, broken = first[self.first : self.last].copy(), [], []
        for row, slot in enumerate(range(self.first, self.last)):
            i = int(slots.sources[slot])
            source, samples = self.recipe.data[i], self.samples[i]
            numbers_drawn, tried = u[row].tolist(), 0
            least = enough(source, size, numbers_drawn)
            for number in candidates(int(first[slot]), int(slots.positions[slot]), len(samples), self.recipe.seed, i):
                try:
                    image = self.pictures[i].picture(number, least)
                except Broken as reason:
                    broken.append((samples.key(number), str(reason)))
                    tried += 1
                    continue
                pixels[row] = augmented(image, source, size, numbers_drawn)
                numbers[row] = number
                keys.append(samples.key(number))
                break
            else:
                key, why = broken[-1]
                raise DataError(f"{source.path}: {tried:,} samples tried and all are broken, the last is {key}: {why}")
        return _Shown(pixels, numbers, keys, broken)

    def _numbers(self, slots: Slots, first: np.ndarray, own: np.ndarray) -> np.ndarray:
        """The sample of each slot, int64 [N]: the own as shown, the others' by what is known to be sound."""
        numbers = first.copy()
        for i, sound in enumerate(self.sound):
            if sound is None:
                continue
            rows = np.flatnonzero(slots.sources == i)
            for slot in rows[~sound[first[rows]]]:
                tried = candidates(int(first[slot]), int(slots.positions[slot]), len(sound), self.recipe.seed, i)
                numbers[slot] = next((number for number in tried if sound[number]), numbers[slot])
        numbers[self.first : self.last] = own
        return numbers

    def _kept(self, step: int) -> np.ndarray | None:
        vision = self.recipe.model.vision
        if self.recipe.patch_dropout == 0 or not isinstance(vision, VisionTransformer):
            return None
        patches = (self.recipe.image_size_at(step) // vision.patch_size) ** 2
        keep = max(1, round(patches * (1 - self.recipe.patch_dropout)))
        return np.sort(np.argsort(self._uniform(step, _PATCHES, patches), axis=1)[:, :keep], axis=1)

    # --- sentences -------------------------------------------------------------------------------------------------

    def _labels(self, i: int, slots: Slots, numbers: np.ndarray) -> dict[int, int]:
        """Slot -> label, of the slots of a source of names."""
        return {int(slot): self.samples[i].label(int(numbers[slot])) for slot in np.flatnonzero(slots.sources == i)}

    def _captions(self, slots: Slots, numbers: np.ndarray, u: np.ndarray) -> tuple[list[list[str]], np.ndarray]:
        """The captions of each own slot, and how many each slot of the batch has, int64 [N]."""
        own: list[list[str]] = []
        counts = np.zeros(len(slots.sources), np.int64)
        for i, source in enumerate(self.recipe.data):
            if source.kind == "captions":
                rows = np.flatnonzero(slots.sources == i)
                if is_paired(source):
                    counts[rows] = 1
                else:
                    counts[rows] = [caption_count(source, len(self.samples[i].words(int(numbers[s])))) for s in rows]
        for row, slot in enumerate(range(self.first, self.last)):
            i = int(slots.sources[slot])
            if self.recipe.data[i].kind == "names":
                own.append([])
            else:
                words = self.samples[i].words(int(numbers[slot]))
                own.append(chosen_captions(self.recipe.data[i], words, float(u[row, NUMBERS])))
        return own, counts

    def _shared(
        self, slots: Slots, labels: dict[int, dict[int, int]], drawn_names: dict[int, list[str]]
    ) -> dict[str, int]:
        """The sentences of names in this batch, by first use, numbered: what is equal is one."""
        columns: dict[str, int] = {}
        for slot, i in enumerate(slots.sources.tolist()):
            if i in self.names:
                for meaning in self.meant[i][labels[i][slot]]:
                    columns.setdefault(drawn_names[i][meaning], len(columns))
        return columns

    def _own_sentences(self, captions: list[list[str]], shared: list[str], layout: Layout) -> list[str]:
        begin, end = int(layout.captions[self.first]), int(layout.captions[self.last])
        out = [""] * (end - begin)
        for slot, texts in zip(range(self.first, self.last), captions, strict=True):
            at = int(layout.captions[slot]) - begin
            out[at : at + len(texts)] = texts
        for q in np.flatnonzero((layout.shared >= begin) & (layout.shared < end)):
            out[int(layout.shared[q]) - begin] = shared[q]
        return out

    def _pairs(
        self,
        slots: Slots,
        counts: np.ndarray,
        labels: dict[int, dict[int, int]],
        drawn_names: dict[int, list[str]],
        columns: dict[str, int],
        layout: Layout,
    ) -> np.ndarray:
        pairs: list[tuple[int, int]] = []
        for slot, i in enumerate(slots.sources.tolist()):
            if i in self.names:
                used = (drawn_names[i][meaning] for meaning in self.meant[i][labels[i][slot]])
                pairs += [(slot, int(layout.shared[columns[sentence]])) for sentence in used]
            else:
                begin = int(layout.captions[slot])
                pairs += [(slot, begin + k) for k in range(int(counts[slot]))]
        return np.array(pairs, np.int64).reshape(-1, 2)

    def _classes(
        self, slots: Slots, labels: dict[int, dict[int, int]], drawn_names: dict[int, list[str]]
    ) -> Classes | None:
        i = self.class_source
        if i is None:
            return None
        rows = [slot for slot in labels[i] if self.first <= slot < self.last]
        sentences = drawn_names[i][: len(self.names[i].labels)]
        return Classes(
            np.array(rows, np.int64) - self.first,
            np.array([labels[i][slot] for slot in rows], np.int64),
            self._ids(sentences),
            sentences,
            int((slots.sources == i).sum()),
        )

    def _ids(self, sentences: list[str]) -> np.ndarray:
        return self.tokenizer(sentences, self.recipe.model.text.context_length, truncate=True)


def check(recipe: Recipe) -> None:
    """Raise `ConfigError` where what a recipe says of its data cannot be meant."""
    vision = recipe.model.vision
    if recipe.patch_dropout and not isinstance(vision, VisionTransformer):
        raise ConfigError("patch_dropout: expected 0 for a ResNet, which has no patches")
    if not 0 <= recipe.patch_dropout < 1:
        raise ConfigError(f"patch_dropout: expected a share from 0 to below 1, got {recipe.patch_dropout}")
    for i, source in enumerate(recipe.data):
        least, most = source.crop
        if not 0 < least <= most <= 1:
            raise ConfigError(f"data[{i}].crop: expected two shares, 0 < least <= most <= 1, got {list(source.crop)}")
        if source.captions_per_picture < 1:
            raise ConfigError(f"data[{i}].captions_per_picture: expected at least 1, got {source.captions_per_picture}")
        if source.kind == "names" and not source.templates:
            raise ConfigError(f"data[{i}].templates: expected at least one, such as 'a photo of a {{}}.'")
        for template in source.templates:
            try:
                filled = template.format("x") != template
            except (LookupError, ValueError):
                filled = False
            if not filled:
                raise ConfigError(f"data[{i}].templates: expected one {{}} for the name, got {template!r}")
