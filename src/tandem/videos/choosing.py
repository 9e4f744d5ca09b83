"""Which frames of a film to keep: the first of each scene, one every few seconds, and nothing twice.

Arithmetic on small copies of frames, uint8 [h w 3] of `SMALL`; knows no films. What is decided within `STRETCH_S`
seconds depends on the frames of that stretch alone, so that a reader that begins at any of them decides the same.
"""

import numpy as np
from numpy.typing import NDArray

from tandem.videos.naming import EVERY_S

STRETCH_S = 300.0  # a multiple of these is where reading can begin again; one frame of each is always kept
COMPARED_S = 60.0  # frames are compared with those kept in the same part of this length, and the last one before
SMALL = (32, 18)  # width and height of the copies that are compared
LEAST_GAP_S = 1.0  # between two kept frames: flashes and fast pans are no scenes
# Mean difference of two frames in a row, 0..255, that makes a cut. Chosen on drawn films: see docs/log.md.
CUT = 18.0
# Frames as alike as this are one picture: the mean difference, and the largest of any cell, so that a person who enters
# a still room is seen.
ALIKE_MEAN, ALIKE_MOST = 4.0, 32.0


def begin_of(since_s: float) -> float:
    """Where reading begins again that came to this time, in seconds."""
    return since_s // STRETCH_S * STRETCH_S


class FrameChooser:
    """Says of each frame, in the order of their times, whether it is kept."""

    def __init__(self, every_s: float = EVERY_S) -> None:
        self.every_s = every_s
        self._begin(-1)

    def _begin(self, stretch: int) -> None:
        self._stretch = stretch
        self._part = 0  # the minute that the kept frames are of
        self._last: NDArray[np.int16] | None = None  # the frame before
        self._kept: list[NDArray[np.int16]] = []  # of this minute, and the last before
        self._considered_s = 0.0  # when a frame was last considered
        self._is_cut = False  # a scene began, and no frame was considered since

    def is_kept(self, time_s: float, small: NDArray[np.uint8]) -> bool:
        """Whether to keep the frame at this time."""
        stretch = int(time_s // STRETCH_S)
        if stretch != self._stretch:
            self._begin(stretch)
        if (part := int(time_s // COMPARED_S)) != self._part:
            self._part, self._kept = part, self._kept[-1:]
        frame = small.astype(np.int16)
        last, self._last = self._last, frame
        if last is None:
            return self._keep(time_s, frame)
        self._is_cut |= _mean_difference(frame, last) >= CUT
        since = time_s - self._considered_s
        if since < min(LEAST_GAP_S, self.every_s) or not (self._is_cut or since >= self.every_s):
            return False
        if any(_is_alike(frame, kept) for kept in self._kept):
            self._considered_s, self._is_cut = time_s, False
            return False
        return self._keep(time_s, frame)

    def _keep(self, time_s: float, frame: NDArray[np.int16]) -> bool:
        self._kept.append(frame)
        self._considered_s, self._is_cut = time_s, False
        return True


def _mean_difference(one: NDArray[np.int16], other: NDArray[np.int16]) -> float:
    return float(np.abs(one - other).mean())


def _is_alike(one: NDArray[np.int16], other: NDArray[np.int16]) -> bool:
    difference = np.abs(one - other)
    return bool(difference.mean() < ALIKE_MEAN and difference.max() < ALIKE_MOST)
