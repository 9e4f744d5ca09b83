"""The sentences of a step: which captions are taken, what a name's sentence is, and where each stands in the batch.

Numbers and words; no picture, no file.
"""

from dataclasses import dataclass

import numpy as np

from tandem.train.recipe import Source


def is_paired(source: Source) -> bool:
    """Whether every picture of a source has exactly one sentence, and that one is its own."""
    return source.kind == "captions" and source.captions != "all" and source.captions_per_picture == 1


def chosen_captions(source: Source, texts: tuple[str, ...], u: float) -> list[str]:
    """The captions of a picture that are taken, by the source's rule; `u` uniform 0..1."""
    count = min(source.captions_per_picture, len(texts))
    if source.captions == "all":
        return list(texts)
    if source.captions == "first":
        return list(texts[:count])
    if source.captions == "longest":
        return sorted(texts, key=len, reverse=True)[:count]
    if source.captions == "shortest":
        return sorted(texts, key=len)[:count]
    if count == 1:
        return [texts[int(u * len(texts))]]
    order = np.random.default_rng(int(u * 2**53)).permutation(len(texts))[:count]
    return [texts[i] for i in order]


def caption_count(source: Source, texts: int) -> int:
    """How many `chosen_captions` gives of so many texts."""
    return texts if source.captions == "all" else min(source.captions_per_picture, texts)


@dataclass(frozen=True)
class Names:
    """The names of a source as meanings: each label's own, then the broader words, which hold for several labels."""

    source: Source
    labels: tuple[tuple[str, ...], ...]

    @property
    def meanings(self) -> list[tuple[str, ...]]:
        """Synonyms of each meaning: the labels first."""
        return [*self.labels, *((word,) for word in self.source.broader)]

    def meant(self) -> list[list[int]]:
        """For each label, the meanings that hold for it: itself and the broader words."""
        broader = list(self.source.broader.values())
        return [
            [label, *(len(self.labels) + i for i, held in enumerate(broader) if any(name in held for name in names))]
            for label, names in enumerate(self.labels)
        ]

    def sentences(self, *key: int) -> list[str]:
        """One sentence for every meaning, drawn for `key`: the same on every process."""
        meanings = self.meanings
        drawn = np.random.default_rng(key).random((len(meanings), 2)).tolist()
        templates = self.source.templates
        return [
            templates[int(a * len(templates))].format(words[int(b * len(words))])
            for words, (a, b) in zip(meanings, drawn, strict=True)
        ]

    def all_sentences(self) -> list[str]:
        """All that can be drawn."""
        return [
            template.format(word) for words in self.meanings for template in self.source.templates for word in words
        ]


@dataclass(frozen=True)
class Layout:
    """Where sentences stand in the whole batch: the captions of slot 0, shared ones that lie there, slot 1, ...

    Shared sentences (of names) are spread evenly over the slots, so that each process has its part of them.
    """

    captions: np.ndarray  # int64 [N + 1]: the captions of slot j begin at captions[j] ...
    shared: np.ndarray  # int64 [K]: ... and shared sentence q is here
    total: int  # M

    @staticmethod
    def of(caption_counts: np.ndarray, shared: int) -> "Layout":
        """int64 [N] captions of each slot, and how many sentences are shared."""
        slots = len(caption_counts)
        home = np.arange(shared) * slots // max(shared, 1)  # ascending
        counts = caption_counts + np.bincount(home, minlength=slots)
        begins = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        rank_at_home = np.arange(shared) - np.searchsorted(home, home, side="left")
        places = begins[home] + caption_counts[home] + rank_at_home
        return Layout(begins, places.astype(np.int64), int(begins[-1]))
