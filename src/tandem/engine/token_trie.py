"""Texts as a trie of their tokens, for causal towers: a token is computed once for all texts that begin alike up to it.

Under a causal mask nothing that follows a token reaches it, so texts with the same beginning, were it the start token
alone, have the same states there. Only the nodes of the trie go through a tower's linear layers: no beginning twice,
no padding, no text twice. Knows token ids; it knows no graph.

Shapes: n texts, t tokens; of a batch: b different texts, m nodes, s tokens of its longest text.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

BATCH_NODES = 1024  # enough to fill the cores, and small enough for the caches
BATCH_PLACES = 4096  # b s of a batch: attention is computed for all of them
LENGTH_CLASSES = (16, 32, 48)  # tokens: a long text in a batch of short ones would make places of theirs

Ids = NDArray[np.int32]


class TokenTrie(NamedTuple):
    """A batch of texts as a trie. Nodes stand in the order of the texts, each after the one that it follows."""

    rows: NDArray[np.intp]  # of the callers' texts, grouped as `texts` says
    texts: NDArray[np.intp]  # [rows]: which of the b different texts each is
    token_ids: Ids  # [m]
    positions: Ids  # [m]: of each node in its texts
    paths: Ids  # [b s]: the node of each token; behind a text's end any node
    places: Ids  # [m]: where in `paths`, as one row, each node stands first
    ends: Ids  # [b]: the node of each text's last token

    @property
    def inputs(self) -> tuple[Ids, ...]:
        """What graphs take, in their order."""
        return self.token_ids, self.positions, self.paths, self.places, self.ends


def token_tries(
    token_ids: Ids, ends: Ids, batch_nodes: int = BATCH_NODES, batch_places: int = BATCH_PLACES
) -> Iterator[TokenTrie]:
    """Cut texts [n t], the last token of each at `ends` [n], into batches of at most so many nodes and places.

    A batch holds at least one text. Texts are sorted, so that those that begin alike are in one batch.
    """
    classes = np.searchsorted(LENGTH_CLASSES, ends, "right")
    for each in np.unique(classes):
        rows = np.flatnonzero(classes == each)
        yield from _sorted_tries(token_ids, ends, rows, batch_nodes, batch_places)


def _sorted_tries(
    token_ids: Ids, ends: Ids, rows: NDArray[np.intp], batch_nodes: int, batch_places: int
) -> Iterator[TokenTrie]:
    """The batches of some of the texts, all of similar length."""
    longest = int(ends[rows].max()) + 1
    ids = np.where(np.arange(longest) <= ends[rows, None], token_ids[rows, :longest], -1)
    order = np.lexsort(ids.T[::-1])
    rows, ids = rows[order], ids[order]
    alike: NDArray[np.bool_] = np.ones(ids.shape, dtype=bool)  # up to each token as the text before
    alike[0] = False
    np.logical_and.accumulate(ids[1:] == ids[:-1], axis=1, out=alike[1:])
    is_new: NDArray[np.bool_] = np.asarray(~alike.all(axis=1))  # not the very same text
    fresh = (~alike & (ids >= 0)).sum(axis=1)  # nodes that each text adds
    tokens = ends[rows].astype(np.int64) + 1
    start = 0
    while start < len(rows):
        stop, nodes, places, widest = start + 1, int(tokens[start]), 1, int(tokens[start])
        while stop < len(rows):
            nodes += int(fresh[stop])
            places += int(is_new[stop])
            widest = max(widest, int(tokens[stop]))
            if nodes > batch_nodes or places * widest > batch_places:
                break
            stop += 1
        part = slice(start, stop)
        yield _trie(rows[part], ids[part, : int(tokens[part].max())], alike[part].copy())
        start = stop


def _trie(rows: NDArray[np.intp], ids: Ids, alike: NDArray[np.bool_]) -> TokenTrie:
    """The trie of sorted texts: their ids, -1 behind the ends, and which tokens the text before begins with as well."""
    alike = alike[:, : ids.shape[1]]
    alike[0] = False
    first = ~alike.all(axis=1)
    texts = np.cumsum(first) - 1
    ids, alike = ids[first], alike[first]
    fresh = ~alike & (ids >= 0)
    number = np.cumsum(fresh.reshape(-1)).reshape(fresh.shape) - 1
    # Whoever begins as the text before has its nodes: the last ones that were numbered in these columns
    paths = np.maximum.accumulate(np.where(fresh, number, 0), axis=0).astype(np.int32)
    places = np.flatnonzero(fresh).astype(np.int32)
    last = (ids >= 0).sum(axis=1) - 1
    return TokenTrie(
        rows,
        texts,
        np.ascontiguousarray(ids[fresh], np.int32),
        (places % ids.shape[1]).astype(np.int32),
        paths,
        places,
        paths[np.arange(len(ids)), last],
    )
