"""The texts of a step: which captions are taken, which text a name gets, and where each text stands in the batch.

Numbers and strings; no image, no file.
"""

from dataclasses import dataclass

import numpy as np

from tandem.train.recipe import Source


def is_paired(source: Source) -> bool:
    """Whether every image of a source has exactly one text, its own."""
    return source.kind == "captions" and source.captions != "all" and source.captions_per_image == 1


def choose_captions(source: Source, captions: tuple[str, ...], u: float) -> list[str]:
    """The captions of an image that the source's rule takes; `u` is uniform in 0..1."""
    count = caption_count(source, len(captions))
    if source.captions == "all":
        return list(captions)
    if source.captions == "first":
        return list(captions[:count])
    if source.captions == "longest":
        return sorted(captions, key=len, reverse=True)[:count]
    if source.captions == "shortest":
        return sorted(captions, key=len)[:count]
    if count == 1:
        return [captions[int(u * len(captions))]]
    order = np.random.default_rng(int(u * 2**53)).permutation(len(captions))[:count]
    return [captions[i] for i in order]


def caption_count(source: Source, available: int) -> int:
    """How many captions `choose_captions` takes of those available."""
    return available if source.captions == "all" else min(source.captions_per_image, available)


@dataclass(frozen=True)
class Names:
    """The names of a source as concepts: those of each label, then the broader words, which hold for several labels."""

    source: Source
    labels: tuple[tuple[str, ...], ...]

    @property
    def synonyms(self) -> list[tuple[str, ...]]:
        """The synonyms of each concept, the labels first."""
        return [*self.labels, *((word,) for word in self.source.broader)]

    def concepts_of_labels(self) -> list[list[int]]:
        """For each label, the concepts that hold for it: itself and the broader words."""
        broader = list(self.source.broader.values())
        return [
            [label, *(len(self.labels) + i for i, held in enumerate(broader) if _holds(held, names))]
            for label, names in enumerate(self.labels)
        ]

    def texts(self, *key: int) -> list[str]:
        """One text for every concept, drawn for `key`: the same on every process."""
        synonyms = self.synonyms
        u = np.random.default_rng(key).random((len(synonyms), 2)).tolist()
        templates = self.source.templates
        return [
            templates[int(a * len(templates))].format(names[int(b * len(names))])
            for names, (a, b) in zip(synonyms, u, strict=True)
        ]

    def all_texts(self) -> list[str]:
        """Every text that can be drawn."""
        return [
            template.format(name) for names in self.synonyms for template in self.source.templates for name in names
        ]


def _holds(held: tuple[str, ...], names: tuple[str, ...]) -> bool:
    return held == ("*",) or any(name in held for name in names)


@dataclass(frozen=True)
class TextPositions:
    """Where texts stand in the whole batch: the captions of slot 0, shared texts placed there, slot 1, ...

    Shared texts (those of names) are spread evenly over the slots, so that each process has its part of them.
    """

    captions: np.ndarray  # int64 [N + 1]: where the captions of slot j begin
    shared: np.ndarray  # int64 [K]: where shared text q stands
    total: int  # M

    @staticmethod
    def of(caption_counts: np.ndarray, shared: int) -> "TextPositions":
        """caption_counts int64 [N]: of each slot; shared: the number of shared texts."""
        slots = len(caption_counts)
        slot_of = np.arange(shared) * slots // max(shared, 1)  # ascending
        counts = caption_counts + np.bincount(slot_of, minlength=slots)
        starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        rank_in_slot = np.arange(shared) - np.searchsorted(slot_of, slot_of, side="left")
        positions = starts[slot_of] + caption_counts[slot_of] + rank_in_slot
        return TextPositions(starts, positions.astype(np.int64), int(starts[-1]))
