"""What is in a collection: a sample of it laid out as a map and parted into clusters, the clusters named, all placed.

Joins a store and a model with `clusters`, `naming`, `map2d` and `survey`. Knows no files and no terminal: who
watches passes `progress`, who writes down passes `each`.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from tandem.errors import StoreError
from tandem.model import Model
from tandem.search.exploring import clusters, map2d, naming
from tandem.search.exploring.survey import Survey, survey, take_sample
from tandem.search.stores.protocol import Records, Store

# The name of a stage and its number of steps (None: unknown) -> the function that advances it.
Progress: TypeAlias = Callable[[str, int | None], AbstractContextManager[Callable[[int], None]]]


@contextmanager
def unseen(_what: str, _total: int | None) -> Iterator[Callable[[int], None]]:
    """No progress."""
    yield lambda _: None


def explore(
    store: Store,
    model: Model,
    *,
    words: Sequence[str] | None = None,
    count: int | None = None,
    where: str | None = None,
    seed: int = 0,
    columns: Sequence[str] = (),
    each: Callable[[Records, map2d.Coordinates, NDArray[np.int32]], None] = lambda *_: None,
    progress: Progress = unseen,
) -> Survey:
    """Where each image is on a map, and in which of `count` named clusters (by the number of images if None).

    `words` are the vocabulary of names (ours if None); a cluster that none of them clearly sets apart has no name.
    `each` gets each batch of records, with `columns`, their places and their clusters. The same images, model and
    seed give the same answer. `StoreError` where no image is.
    """
    total = store.count(where)
    if not total:
        raise StoreError(f"{store.url}: no images to explore" + (f" pass the filter {where}" if where else ""))
    chosen_from = naming.candidates(words)
    with progress("reading", total) as advance:
        sample = take_sample(store, where=where, seed=seed, advance=advance)
    with progress("finding clusters", None):
        centres = clusters.find_centres(sample, count or clusters.choose_count(total), seed=seed)
        members, _ = clusters.assign(sample, centres)
        meanings = model.class_vectors(chosen_from.words, naming.TEMPLATES)
        names = naming.name(sample, members, len(centres), chosen_from, meanings)
    with progress("laying out", map2d.EARLY + map2d.LATE) as advance:
        layout = map2d.lay_out(sample, seed=seed, advance=advance)
    with progress("placing", total) as advance:
        return survey(store, layout, centres, names, where=where, columns=columns, each=each, advance=advance)
