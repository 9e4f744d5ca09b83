"""Sentences cut to the tokens that matter, and grouped by length.

Under the causal mask nothing after the end token reaches a sentence's vector, so encoding the tokens up to the end
gives the same vector for a part of the work. Knows token ids; it knows no engine.

n sentences, t tokens
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from tandem.errors import EngineError

TOKENS_AT_ONCE = 1024  # of a group, padding included: large enough to fill the cores, small enough for the caches


def end_positions(token_ids: NDArray[np.int32], end_id: int) -> NDArray[np.int32]:
    """Where each sentence's first end token is: [n t] -> int32 [n]. Raises `EngineError` for one that has none."""
    is_end = token_ids == end_id
    without = np.flatnonzero(~is_end.any(axis=1))
    if without.size:
        raise EngineError(
            f"token_ids: expected the end token {end_id} in every row, but row {without[0]} has none; "
            "make the ids with the model's tokenizer"
        )
    ends: NDArray[np.int32] = is_end.argmax(axis=1).astype(np.int32)
    return ends


def groups(ends: NDArray[np.int32], tokens_at_once: int = TOKENS_AT_ONCE) -> Iterator[tuple[NDArray[np.intp], int]]:
    """Cut a batch into groups of similar length, shortest first: (rows, tokens to keep) for each.

    A group holds as many sentences as fit in `tokens_at_once`, and at least one.
    """
    order = np.argsort(ends, kind="stable")
    start = 0
    while start < len(order):
        # `stop` is the largest for which every sentence of the group, padded to its longest, fits
        stop = start + 1
        while stop < len(order) and (stop + 1 - start) * (int(ends[order[stop]]) + 1) <= tokens_at_once:
            stop += 1
        rows = order[start:stop]
        yield rows, int(ends[rows[-1]]) + 1
        start = stop
