"""Rows that a search may find, as bits: what an index is told, so that it names no other rows. Knows arrays only.

To make them takes 5 to 15 ms for ten million rows, longer than the search: those of the latest filters are kept.
"""

import threading
from collections import OrderedDict
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from tandem.search.stores.embedded.vector_file import Mask, Positions

Bits: TypeAlias = NDArray[np.uint8]  # [ceil(n / 8)], the first row in the lowest bit

KEPT = 8  # one for every eight rows: 10 MB in all for ten million


class RowBits:
    """Bits by the array of rows that they stand for. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[int, tuple[Positions | Mask, int, Bits]] = OrderedDict()

    def of(self, rows: Positions | Mask, count: int) -> Bits:
        """Bits of the rows of a file of `count` rows, from their positions or a mask, which nobody changes."""
        with self._lock:  # the array is kept, so that no other gets its id
            kept = self._kept.get(id(rows))
            if kept is not None and kept[1] == count:
                self._kept.move_to_end(id(rows))
                return kept[2]
        if rows.dtype == np.bool_:
            mask = rows
        else:
            mask = np.zeros(count, np.bool_)
            mask[rows] = True
        bits = np.packbits(mask, bitorder="little")
        with self._lock:
            self._kept[id(rows)] = (rows, count, bits)
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return bits
