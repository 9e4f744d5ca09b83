"""The number of a step -> this process's share of its batch: a pure function, run in worker processes.

Joins what the other modules know one by one: which samples (`order`), their images (`decoding`, `augment`), their texts
(`texts`). Knows no process and no queue.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tandem.errors import DataError
from tandem.tokenizer import Tokenizer
from tandem.train.data.augment import UNIFORMS, augment, min_decode_size
from tandem.train.data.batch import Batch, Classes, Matches
from tandem.train.data.decoding import Images
from tandem.train.data.order import BatchPlan, Mixture, replacements, sample_indices
from tandem.train.data.samples import BrokenSample, Samples
from tandem.train.data.texts import Names, TextPositions, caption_count, choose_captions, is_paired
from tandem.train.parallel.process import split_ranges
from tandem.train.recipe import Recipe

# The purpose of a random generator: the last number of its seed, after (seed, step).
_SLOTS, _PATCHES, _TEXTS, _CLASSES = 1, 2, 4, 5


@dataclass(frozen=True)
class _DecodedSlots:
    """The samples in this process's slots."""

    pixels: np.ndarray  # uint8 [n s s 3]
    samples: np.ndarray  # int64 [n]: sample numbers
    keys: list[str]
    replaced: list[tuple[str, str]]  # (key, reason)


def class_names(samples: Sequence[Samples]) -> list[tuple[str, ...]]:
    """The distinct classes of all sources that have names, each as its synonyms, by their first use."""
    return list(dict.fromkeys(names for each in samples for names in each.names))


class Assembler:
    """All that a step's batch depends on."""

    def __init__(
        self,
        recipe: Recipe,
        tokenizer: Tokenizer,
        samples: list[Samples],
        decodable: list[np.ndarray | None],
        rank: int,
        processes: int,
    ) -> None:
        """`decodable`: by source, which samples can be decoded, where other processes' images matter here."""
        self.recipe, self.tokenizer, self.samples, self.decodable = recipe, tokenizer, samples, decodable
        sources = recipe.data
        by_weight = sources[0].weight > 0
        self.mixture = Mixture(
            recipe.seed,
            () if by_weight else tuple(source.per_batch for source in sources),
            tuple(source.weight for source in sources) if by_weight else (),
            recipe.batch_size,
        )
        self.images = [Images(each, recipe.cache_images) for each in samples]
        self.names = {i: Names(each.source, tuple(each.names)) for i, each in enumerate(samples) if each.names}
        self.concepts = {i: names.concepts_of_labels() for i, names in self.names.items()}
        self.class_numbers = {names: i for i, names in enumerate(class_names(samples))}
        self.paired = all(is_paired(source) for source in sources)
        self.class_sources = [i for i in self.names if sources[i].classes and recipe.objective.classes > 0]
        own = split_ranges(recipe.batch_size, processes)[rank]
        self.first, self.last = own.start, own.stop

    def batch(self, step: int) -> Batch:
        """This process's share of a step. Raises `DataError` where a source has no usable sample left."""
        plan = self.mixture.plan(step)
        planned = np.empty(len(plan.sources), np.int64)
        for i, samples in enumerate(self.samples):
            rows = plan.sources == i
            planned[rows] = sample_indices(plan.positions[rows], len(samples), self.recipe.seed, i)
        u = self._uniform(step, _SLOTS, UNIFORMS + 1)
        filled = self._fill(plan, planned, self.recipe.image_size_at(step), u)
        if self.recipe.classifies:
            return self._classified(step, plan, filled)
        numbers = self._sample_numbers(plan, planned, filled.samples)
        labels = {i: self._labels(i, plan, numbers) for i in self.names}
        name_texts = {i: names.texts(self.recipe.seed, step, _TEXTS, i) for i, names in self.names.items()}

        captions, counts = self._captions(plan, numbers, u)
        columns = self._shared(plan, labels, name_texts)
        layout = TextPositions.of(counts, len(columns))
        texts = self._own_texts(captions, list(columns), layout)
        return Batch(
            step=step,
            pixels=filled.pixels,
            ids=self._ids(texts),
            texts=texts,
            keys=filled.keys,
            matches=None if self.paired else self._matches(plan, counts, labels, name_texts, columns, layout),
            first_image=self.first,
            first_text=int(layout.captions[self.first]),
            total_images=len(plan.sources),
            total_texts=layout.total,
            kept=self._kept(step),
            classes=self._classes(step, plan, labels, name_texts),
            replaced=tuple(filled.replaced),
        )

    def _classified(self, step: int, plan: BatchPlan, filled: _DecodedSlots) -> Batch:
        """A batch of images with the numbers of their classes, and no texts."""
        own = plan.sources[self.first : self.last].tolist()
        found = [self.samples[i].names[self.samples[i].label(int(n))] for i, n in zip(own, filled.samples, strict=True)]
        labels = np.array([self.class_numbers[names] for names in found], np.int64)
        no_ids = np.zeros((0, 1), np.int32)
        return Batch(
            step=step,
            pixels=filled.pixels,
            ids=no_ids,
            texts=[],
            keys=filled.keys,
            matches=None,
            first_image=self.first,
            first_text=0,
            total_images=len(plan.sources),
            total_texts=0,
            kept=self._kept(step),
            classes=Classes(np.arange(len(labels)), labels, no_ids, [], len(plan.sources)),
            replaced=tuple(filled.replaced),
        )

    # --- images ----------------------------------------------------------------------------------------------------

    def _uniform(self, step: int, purpose: int, width: int) -> np.ndarray:
        """float64 [n width] for this process's slots: their rows of the array that all slots together would draw."""
        bits = np.random.PCG64(np.random.SeedSequence((self.recipe.seed, step, purpose)))
        bits.advance(self.first * width)
        return np.random.Generator(bits).random((self.last - self.first, width))

    def _fill(self, plan: BatchPlan, planned: np.ndarray, size: int, u: np.ndarray) -> _DecodedSlots:
        pixels = np.empty((self.last - self.first, size, size, 3), np.uint8)
        numbers, keys, replaced = planned[self.first : self.last].copy(), [], []
        self._prefetch(plan, planned)
        for row, slot in enumerate(range(self.first, self.last)):
            i = int(plan.sources[slot])
            source, samples = self.recipe.data[i], self.samples[i]
            own_u, tried = u[row].tolist(), 0
            least = min_decode_size(source, size, own_u)
            position = int(plan.positions[slot])
            for number in replacements(int(planned[slot]), position, len(samples), self.recipe.seed, i):
                try:
                    image = self.images[i].image(number, least)
                except BrokenSample as reason:
                    replaced.append((samples.key(number), str(reason)))
                    tried += 1
                    continue
                pixels[row] = augment(image, source, size, own_u)
                numbers[row] = number
                keys.append(samples.key(number))
                break
            else:
                key, why = replaced[-1]
                raise DataError(f"{source.path}: tried {tried:,} samples and all are broken, the last is {key}: {why}")
        return _DecodedSlots(pixels, numbers, keys, replaced)

    def _prefetch(self, plan: BatchPlan, planned: np.ndarray) -> None:
        """Begin to fetch the images of the own slots that are on other machines, in the order of their use."""
        own = zip(plan.sources[self.first : self.last].tolist(), planned[self.first : self.last].tolist(), strict=True)
        ranges = [self.images[i].remote_range(number) for i, number in own]
        if wanted := [each for each in ranges if each is not None]:
            self.samples[0].reader.prefetch(wanted)

    def _sample_numbers(self, plan: BatchPlan, planned: np.ndarray, own: np.ndarray) -> np.ndarray:
        """The sample of each slot, int64 [N]: the own as filled, those of others by what is known to be decodable."""
        numbers = planned.copy()
        for i, decodable in enumerate(self.decodable):
            if decodable is None:
                continue
            rows = np.flatnonzero(plan.sources == i)
            for slot in rows[~decodable[planned[rows]]]:
                position = int(plan.positions[slot])
                tried = replacements(int(planned[slot]), position, len(decodable), self.recipe.seed, i)
                numbers[slot] = next((number for number in tried if decodable[number]), numbers[slot])
        numbers[self.first : self.last] = own
        return numbers

    def _kept(self, step: int) -> np.ndarray | None:
        vision = self.recipe.model.vision
        if self.recipe.patch_dropout == 0 or not vision.takes_patch_dropout:
            return None
        patches = (self.recipe.image_size_at(step) // vision.least_image_size) ** 2
        keep = max(1, round(patches * (1 - self.recipe.patch_dropout)))
        return np.sort(np.argsort(self._uniform(step, _PATCHES, patches), axis=1)[:, :keep], axis=1)

    # --- texts -----------------------------------------------------------------------------------------------------

    def _labels(self, i: int, plan: BatchPlan, numbers: np.ndarray) -> dict[int, int]:
        """Slot -> label, for the slots of a source of names."""
        return {int(slot): self.samples[i].label(int(numbers[slot])) for slot in np.flatnonzero(plan.sources == i)}

    def _captions(self, plan: BatchPlan, numbers: np.ndarray, u: np.ndarray) -> tuple[list[list[str]], np.ndarray]:
        """The captions of each own slot, and how many each slot of the batch has, int64 [N]."""
        own: list[list[str]] = []
        counts = np.zeros(len(plan.sources), np.int64)
        for i, source in enumerate(self.recipe.data):
            if source.kind == "captions":
                rows = np.flatnonzero(plan.sources == i)
                if is_paired(source):
                    counts[rows] = 1
                else:
                    counts[rows] = [caption_count(source, len(self.samples[i].texts(int(numbers[s])))) for s in rows]
        for row, slot in enumerate(range(self.first, self.last)):
            i = int(plan.sources[slot])
            if self.recipe.data[i].kind == "names":
                own.append([])
            else:
                captions = self.samples[i].texts(int(numbers[slot]))
                own.append(choose_captions(self.recipe.data[i], captions, float(u[row, UNIFORMS])))
        return own, counts

    def _shared(
        self, plan: BatchPlan, labels: dict[int, dict[int, int]], name_texts: dict[int, list[str]]
    ) -> dict[str, int]:
        """The texts of names in this batch, numbered by first use; equal texts are one."""
        columns: dict[str, int] = {}
        for slot, i in enumerate(plan.sources.tolist()):
            if i in self.names:
                for concept in self.concepts[i][labels[i][slot]]:
                    columns.setdefault(name_texts[i][concept], len(columns))
        return columns

    def _own_texts(self, captions: list[list[str]], shared: list[str], layout: TextPositions) -> list[str]:
        start, stop = int(layout.captions[self.first]), int(layout.captions[self.last])
        out = [""] * (stop - start)
        for slot, texts in zip(range(self.first, self.last), captions, strict=True):
            at = int(layout.captions[slot]) - start
            out[at : at + len(texts)] = texts
        for q in np.flatnonzero((layout.shared >= start) & (layout.shared < stop)):
            out[int(layout.shared[q]) - start] = shared[q]
        return out

    def _matches(
        self,
        plan: BatchPlan,
        counts: np.ndarray,
        labels: dict[int, dict[int, int]],
        name_texts: dict[int, list[str]],
        columns: dict[str, int],
        layout: TextPositions,
    ) -> Matches:
        pairs: set[tuple[int, int]] = set()  # two concepts of a label may have one text
        for slot, i in enumerate(plan.sources.tolist()):
            if i in self.names:
                used = (name_texts[i][concept] for concept in self.concepts[i][labels[i][slot]])
                pairs |= {(slot, int(layout.shared[columns[text]])) for text in used}
            else:
                start = int(layout.captions[slot])
                pairs |= {(slot, start + k) for k in range(int(counts[slot]))}
        images, texts = np.array(sorted(pairs), np.int64).reshape(-1, 2).T
        own = (images >= self.first) & (images < self.last)
        return Matches(images[own] - self.first, texts[own], np.bincount(texts, minlength=layout.total))

    def _classes(
        self, step: int, plan: BatchPlan, labels: dict[int, dict[int, int]], name_texts: dict[int, list[str]]
    ) -> Classes | None:
        if not self.class_sources:
            return None
        rows: list[int] = []
        numbers: list[int] = []
        texts: list[str] = []
        groups: list[int] = []
        for i in self.class_sources:
            chosen = self._chosen_classes(step, i, sorted(set(labels[i].values())))
            position = {label: len(texts) + k for k, label in enumerate(chosen)}
            own = [slot for slot in labels[i] if self.first <= slot < self.last]
            rows += own
            numbers += [position[labels[i][slot]] for slot in own]
            texts += [name_texts[i][label] for label in chosen]
            groups += [i] * len(chosen)
        return Classes(
            np.array(rows, np.int64) - self.first,
            np.array(numbers, np.int64),
            self._ids(texts),
            texts,
            int(np.isin(plan.sources, self.class_sources).sum()),
            np.array(groups, np.int64),
        )

    def _chosen_classes(self, step: int, i: int, present: list[int]) -> list[int]:
        """The classes of a source that compete at a step: all, or those of its images and others drawn at random."""
        count, most = len(self.names[i].labels), self.recipe.data[i].classes_per_step
        if not most or count <= most:
            return list(range(count))
        order = np.random.default_rng((self.recipe.seed, step, _CLASSES, i)).permutation(count)
        others = order[~np.isin(order, present)].tolist()
        return [*present, *others[: max(0, most - len(present))]]

    def _ids(self, texts: list[str]) -> np.ndarray:
        return self.tokenizer(texts, self.recipe.model.text.context_length, truncate=True)
