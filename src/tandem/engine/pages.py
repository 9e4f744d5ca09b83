"""Giving back the memory of a mapped weights file while an engine copies the weights into its own layout.

An engine reads every weight once, packs it, and never looks at the original again. Originals that lie in a mapped file
stay resident all the same and double the memory of a process, although the system could read them again at any time.
So while a tower is compiled and first run, their pages are given back every few milliseconds (measured with ViT-B/32
in float32: a peak of 635 MB instead of 1,125 MB, for no measurable time).

Knows arrays and mappings. It knows no engine. Only arrays that nobody can write to are touched: giving back a page of
a private mapping would undo what was written there.
"""

import mmap
import threading
from collections.abc import Iterable
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

INTERVAL_S = 0.005


def mappings(arrays: Iterable[NDArray[Any]]) -> list[mmap.mmap]:
    """The mapped files that hold these arrays, without those in which any of the arrays may be written to."""
    found: dict[int, mmap.mmap] = {}
    written: set[int] = set()
    for array in arrays:
        base: object = array
        while isinstance(base, np.ndarray | memoryview):
            base = base.base if isinstance(base, np.ndarray) else base.obj
        if isinstance(base, mmap.mmap):
            found[id(base)] = base
            if array.flags.writeable:
                written.add(id(base))
    return [mapping for key, mapping in found.items() if key not in written]


class GivingBack:
    """`with GivingBack(mappings):` keeps the mappings' pages out of memory while something reads through them."""

    def __init__(self, mapped: list[mmap.mmap]) -> None:
        self._mapped = mapped if hasattr(mmap, "MADV_DONTNEED") else []  # not on Windows
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._give_back, name="tandem-pages", daemon=True)

    def __enter__(self) -> None:
        if self._mapped:
            self._thread.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._mapped:
            self._done.set()
            self._thread.join()

    def _give_back(self) -> None:
        while True:
            finished = self._done.wait(INTERVAL_S)
            for mapping in self._mapped:
                mapping.madvise(mmap.MADV_DONTNEED)
            if finished:
                return
