"""Which texts of a batch begin with the same tokens, as prompts of one template do, so that these are computed once.

Knows token ids. It knows no graph.

Shapes: n texts, t tokens.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

LEAST_TEXTS = 128  # that begin alike: fewer would not fill a batch
LEAST_SAVED = 8192  # tokens, in one call: less than compiling another graph costs


Ids = NDArray[np.int32]


class SharedPrefix(NamedTuple):
    """Texts that have their first tokens in common."""

    rows: NDArray[np.intp]
    tokens: int


def shared_prefixes(token_ids: Ids, ends: Ids) -> tuple[list[SharedPrefix], NDArray[np.intp]]:
    """Groups of texts that begin alike, and all other rows: of ids [n t], the last of each at `ends` [n].

    Each text is in the group of the longest beginning that `LEAST_TEXTS` of them share, its last token left out.
    Nothing is shared where that would save fewer than `LEAST_SAVED` tokens.
    """
    n, t = token_ids.shape
    length = np.zeros(n, dtype=np.int64)
    group = np.zeros(n, dtype=np.int64)  # of the beginning of `length` tokens
    same = np.zeros(n, dtype=np.int64)  # of the beginning that is looked at
    alive = np.arange(n)
    for tokens in range(1, t):
        alive = alive[ends[alive] >= tokens]  # something is left to follow
        if len(alive) < LEAST_TEXTS:
            break
        pairs = same[alive] * (np.int64(token_ids.max()) + 1) + token_ids[alive, tokens - 1]
        _, place, count = np.unique(pairs, return_inverse=True, return_counts=True)
        shared = count[place] >= LEAST_TEXTS
        alive = alive[shared]
        same[alive] = place[shared]
        length[alive], group[alive] = tokens, place[shared]
    found = [each for each in _groups(length, group) if 4 * len(each.rows) >= LEAST_TEXTS]  # few are left of the others
    if sum(prefix.tokens * (len(prefix.rows) - 1) for prefix in found) < LEAST_SAVED:
        return [], np.arange(n)
    alone = np.ones(n, dtype=bool)
    for each in found:
        alone[each.rows] = False
    return found, np.flatnonzero(alone)


def _groups(length: NDArray[np.int64], group: NDArray[np.int64]) -> Iterator[SharedPrefix]:
    keys = length * (group.max(initial=0) + 1) + group
    order = np.argsort(keys, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(keys[order])) + 1):
        if len(rows) and length[rows[0]]:
            yield SharedPrefix(rows, int(length[rows[0]]))
