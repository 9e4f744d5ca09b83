"""The batches of a run, by step: opens what a recipe names and has their batches made, here or by workers."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tandem.errors import ConfigError
from tandem.files import user_path
from tandem.home import cache_folder
from tandem.tokenizer import Tokenizer
from tandem.train.data.assemble import Assembler, class_names
from tandem.train.data.batch import Batch
from tandem.train.data.block_cache import BlockCache
from tandem.train.data.decoding import decodable
from tandem.train.data.remote import is_remote
from tandem.train.data.samples import Samples
from tandem.train.data.shard_reader import ShardReader
from tandem.train.data.texts import Names, is_paired
from tandem.train.data.workers import batches_from_workers
from tandem.train.recipe import Recipe


class Loader:
    """This process's share of every step's batch. Raises `DataError` where the training sets cannot be read."""

    def __init__(self, recipe: Recipe, tokenizer: Tokenizer, *, rank: int = 0, processes: int = 1) -> None:
        if recipe.batch_size < processes:
            raise ConfigError(f"batch_size: {recipe.batch_size} images cannot be shared by {processes} processes")
        self.recipe = recipe
        self.reader = shard_reader(recipe)
        self.samples = open_sources(recipe, rank, processes, self.reader)
        known: list[np.ndarray | None] = [None] * len(self.samples)
        # Other processes' images matter here where they share texts, or have several.
        if processes > 1 and not recipe.classifies:
            known = [None if is_paired(each.source) else decodable(each) for each in self.samples]
        self._assembler = Assembler(recipe, tokenizer, self.samples, known, rank, processes)

    def batch(self, step: int) -> Batch:
        """The batch of one step, made here."""
        return self._assembler.batch(step)

    def stream(self, start: int, stop: int) -> Iterator[Batch]:
        """The batches of the steps, in order; made ahead of their use in `recipe.workers` processes (0: here).

        Closing it ends the workers; they also end with the thread that started them. Raises `DataError` where a source
        has no usable sample, or a worker dies.
        """
        if self.recipe.workers == 0 or stop <= start:
            yield from map(self.batch, range(start, stop))
        else:
            yield from batches_from_workers(self._assembler, range(start, stop), self.recipe.workers)

    def all_texts(self) -> list[str]:
        """Every distinct text that any batch can hold, in a fixed order: for vocabularies and teachers."""
        return _texts(self.samples)

    def sample_counts(self) -> list[int]:
        """The number of samples of each training set, on which the draws of a step depend."""
        return [len(samples) for samples in self.samples]

    def classes(self) -> list[str]:
        """The first name of each class of the training sets that have names."""
        return list(dict.fromkeys(names[0] for samples in self.samples for names in samples.names))

    def class_prompts(self) -> list[list[str]]:
        """For each of `class_names` its synonyms in the templates of the first source that has it."""
        templates: dict[tuple[str, ...], tuple[str, ...]] = {}
        for samples in self.samples:
            for names in samples.names:
                templates.setdefault(names, samples.source.templates)
        return [[t.format(name) for name in names for t in templates[names]] for names in self.class_names()]

    def class_names(self) -> list[tuple[str, ...]]:
        """The classes of a head, in the order of its logits, each as its synonyms."""
        return class_names(self.samples)

    def warnings(self) -> list[str]:
        """What makes training on this data pointless, or is not in it, for people."""
        return [*self._unknown_names(), *self._one_text()]

    def _unknown_names(self) -> Iterator[str]:
        """Of `broader`: a slip there would leave its images to compete with what is true of them."""
        for samples in self.samples:
            there = {"*", *(name for names in samples.names for name in names)}
            held = dict.fromkeys(name for names in samples.source.broader.values() for name in names)
            if unknown := [name for name in held if name not in there]:
                more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
                yield f"warning: {samples.label_of_source}: broader: no image is named {unknown[0]!r:.80}{more}"

    def _one_text(self) -> list[str]:
        known: set[tuple[str, ...]] = set()
        for samples in self.samples:
            for texts in samples.names or samples.all_texts():
                known.add(tuple(texts))
                if len(known) > 1:
                    return []
        [texts] = known
        where = ", ".join(samples.label_of_source for samples in self.samples)
        what = "class" if any(samples.names for samples in self.samples) else "text"
        return [f"warning: {where}: one {what} only, {texts[0]!r}: nothing to tell apart"]

    def skipped(self) -> list[tuple[str, str]]:
        """(key, reason) of what the files hold that can never be drawn: no texts, or behind a tar's damage."""
        return [each for samples in self.samples for each in samples.skipped()]


def open_sources(recipe: Recipe, rank: int = 0, processes: int = 1, reader: ShardReader | None = None) -> list[Samples]:
    """The samples of each source, indexed where they were not. Raises `DataError`."""
    root = data_root(recipe)
    cache = user_path(recipe.cache_folder or Path(recipe.folder) / "indexes")
    reader = reader or shard_reader(recipe)
    return [Samples(source, root, cache, reader, rank=rank, processes=processes) for source in recipe.data]


def data_root(recipe: Recipe) -> Path | str:
    """What the paths of a recipe are below: a folder, or a URL."""
    return recipe.data_root if is_remote(recipe.data_root) else user_path(recipe.data_root)


def shard_reader(recipe: Recipe) -> ShardReader:
    """What reads the files of a recipe that are at URLs: one for all of a run, since it shares out `cache_gb`."""
    chosen = recipe.remote
    folder = user_path(chosen.cache_folder) if chosen.cache_folder else cache_folder() / "shards"
    return ShardReader(BlockCache(folder, round(chosen.cache_gb * 1e9)), chosen.patience_s)


def texts_of(recipe: Recipe) -> list[str]:
    """As `Loader.all_texts`, for use before there is a tokenizer."""
    return _texts(open_sources(recipe))


def _texts(sources: list[Samples]) -> list[str]:
    found: dict[str, None] = {}
    for samples in sources:
        if samples.source.kind == "names":
            found.update(dict.fromkeys(Names(samples.source, tuple(samples.names)).all_texts()))
        else:
            for texts in samples.all_texts():
                found.update(dict.fromkeys(texts))
    return list(found)
