"""Vectors -> places on a plane, so that what is near in the space is near on the map.

t-SNE (van der Maaten and Hinton 2008) of landmarks; everything else is put where its nearest landmarks are, so that
the work grows only linearly with the number of vectors. Knows vectors and numbers; nothing of images or stores.

Three choices keep it in numpy, without a compiled library: each point attracts its 15 nearest with equal force, which
gives the maps that perplexity 30 gives (Boehm et al. 2022, section 5.1); the repulsion of all pairs is a convolution
on a grid, done by FFT (Linderman et al. 2019, FIt-SNE); PCA gives the start (Kobak and Berens 2019).

Shapes: n vectors, d dimensions, l landmarks, k neighbours, g nodes along a side of the grid.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tandem.arrays import Vectors

Coordinates = NDArray[np.float32]  # [n 2]

LANDMARKS = 10_000  # as many points as a map has room for, and half a minute on two cores
NEIGHBOURS = 15  # that a landmark attracts
PLACED_BY = 10  # landmarks that say where another vector goes
PLACING_BATCH = 8192
EARLY, LATE = 250, 500  # steps: first with attraction times 12, so that clusters find together; then in earnest
EARLY_EXAGGERATION, LATE_EXAGGERATION = 12.0, 1.0
PAIRS_UP_TO = 100  # points that repel one another pair by pair
NODES_LEAST, NODES_MOST = 48, 400  # of the grid, along a side
NODE_DISTANCE = 0.7  # the kernel is about 1 wide; maps are equally good from 0.3 to 1.0


@dataclass(frozen=True)
class MapLayout:
    """A map of landmarks, on which any other vector of their space has a place."""

    landmarks: Vectors  # [l d]
    coordinates: Coordinates  # [l 2]
    _index: Any  # FAISS's, over the landmarks

    def place(self, vectors: Vectors) -> Coordinates:
        """[n d] -> [n 2]: for each, the middle of the place on the map where most of its nearest landmarks are.

        A vector between two clusters belongs to one of them; the mean of all its landmarks would put it on the empty
        ground between (trustworthiness on photos: 0.96 this way, 0.88 by a mean, 0.98 laid out with the landmarks).
        A landmark keeps its own place.
        """
        k = min(PLACED_BY, len(self.landmarks))
        # So wide that a spot takes in a handful of landmarks.
        width = 3 / len(self.landmarks) ** 0.5
        placed = np.empty((len(vectors), 2), dtype=np.float32)
        for begin in range(0, len(vectors), PLACING_BATCH):
            part = slice(begin, begin + PLACING_BATCH)
            scores, found = self._index.search(np.ascontiguousarray(vectors[part]), k)  # [n k]
            near = self.coordinates[np.maximum(found, 0)]  # [n k 2]
            apart = ((near[:, :, None] - near[:, None]) ** 2).sum(axis=-1)  # [n k k]
            together = np.exp(-apart / width**2) * (found >= 0)[:, None, :]
            densest = together.sum(axis=2).argmax(axis=1)
            share = together[np.arange(len(near)), densest] * np.exp((scores - scores[:, :1]) / 0.05)  # [n k]
            middle = (near * share[..., None]).sum(axis=1) / share.sum(axis=1, keepdims=True)
            placed[part] = np.where(scores[:, :1] > 1 - 1e-5, near[:, 0], middle)
        return placed


def lay_out(landmarks: Vectors, *, seed: int = 0, advance: Callable[[int], None] = lambda _: None) -> MapLayout:
    """A map of float32 [l d] vectors of unit length. The same vectors and seed give the same map.

    `advance` is called at each of the `EARLY + LATE` steps. The map is centred, and its longer side is about 2.
    """
    vectors = np.ascontiguousarray(landmarks, dtype=np.float32)
    index = _nearest_index(vectors, seed)
    coordinates = _start(vectors, seed)
    if len(vectors) > 3:
        coordinates = _settle(coordinates, _neighbours(vectors, index), advance)
    return MapLayout(vectors, _framed(coordinates), index)


def _nearest_index(vectors: Vectors, seed: int) -> Any:
    import faiss

    count, dimensions = vectors.shape
    index: Any
    if count < 4096:
        index = faiss.IndexFlatIP(dimensions)
    else:  # some 20 times faster, for the many that are placed by their neighbours
        cells = int(2 * count**0.5)
        index = faiss.IndexIVFFlat(faiss.IndexFlatIP(dimensions), dimensions, cells, faiss.METRIC_INNER_PRODUCT)
        index.cp.seed, index.cp.niter, index.cp.spherical = 1 + seed, 10, True
        index.cp.min_points_per_centroid = 1
        index.train(vectors)
        index.nprobe = max(8, cells // 16)
    index.add(vectors)
    return index


def _neighbours(vectors: Vectors, index: Any) -> NDArray[np.int64]:
    """The k nearest others of each, [l k]; of few, no more than a third, or everything would attract everything."""
    k = min(NEIGHBOURS, max(1, len(vectors) // 3))
    _, found = index.search(vectors, k + 1)
    others = np.argsort(found == np.arange(len(vectors))[:, None], axis=1, kind="stable")  # itself goes last
    kept = np.take_along_axis(found, others, axis=1)[:, :k]
    return np.where(kept < 0, np.arange(len(vectors))[:, None], kept)  # not found: no attraction at all


def _start(vectors: Vectors, seed: int) -> NDArray[np.float64]:
    """The first two principal components, small."""
    centred = vectors - vectors.mean(axis=0)
    _, axes = np.linalg.eigh((centred.T @ centred).astype(np.float64))
    axes = axes[:, ::-1][:, :2]
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), range(axes.shape[1])])  # eigenvectors have no sign
    coordinates = np.zeros((len(vectors), 2))
    coordinates[:, : axes.shape[1]] = centred @ axes
    coordinates /= max(float(coordinates[:, 0].std()), 1e-12)
    # Equal vectors would never part.
    return (coordinates + np.random.default_rng(seed).normal(0, 0.01, coordinates.shape)) * 1e-4


def _settle(
    coordinates: NDArray[np.float64], neighbours: NDArray[np.int64], advance: Callable[[int], None]
) -> NDArray[np.float64]:
    """Gradient descent with momentum and a gain for each coordinate (Jacobs 1988), as in other implementations."""
    count = len(coordinates)
    speed, gain = np.zeros_like(coordinates), np.ones_like(coordinates)
    for step in range(EARLY + LATE):
        early = step < EARLY
        exaggeration = EARLY_EXAGGERATION if early else LATE_EXAGGERATION
        gradient = exaggeration * _attraction(coordinates, neighbours) - _repulsion(coordinates)
        gain = np.where(np.sign(gradient) == np.sign(speed), gain * 0.8, gain + 0.2).clip(0.01)
        # The rate of Belkina et al. 2019: n over the exaggeration.
        speed = (0.5 if early else 0.8) * speed - count / exaggeration * gain * gradient
        coordinates = coordinates + speed
        coordinates -= coordinates.mean(axis=0)
        advance(1)
    return coordinates


def _attraction(coordinates: NDArray[np.float64], neighbours: NDArray[np.int64]) -> NDArray[np.float64]:
    count, k = neighbours.shape
    apart = coordinates[:, None, :] - coordinates[neighbours]  # [l k 2]
    pull = apart / (1 + (apart**2).sum(axis=2, keepdims=True)) / (2 * count * k)
    total = pull.sum(axis=1)
    for axis in (0, 1):  # both ends of a pair are pulled
        total[:, axis] -= np.bincount(neighbours.ravel(), pull[:, :, axis].ravel(), minlength=count)
    return np.asarray(total)


def _repulsion(coordinates: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum over j of (y_i - y_j) / (1 + d^2)^2, over Z = sum over pairs of 1 / (1 + d^2), for all i at once."""
    if len(coordinates) > PAIRS_UP_TO:
        return _repulsion_by_grid(coordinates)
    # Few points end up so far apart that a grid would be too coarse; their pairs are few, too.
    apart = coordinates[:, None] - coordinates[None]  # [l l 2]
    kernel = 1 / (1 + (apart**2).sum(axis=-1))
    return np.asarray((apart * (kernel**2)[..., None]).sum(axis=1) / max(float(kernel.sum()) - len(coordinates), 1e-12))


def _repulsion_by_grid(coordinates: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same, nearly, in time that grows linearly.

    Charges go to the 3 x 3 grid nodes around each point, the grid is convolved with the kernels, and the potentials
    come back to the points: quadratic interpolation both ways.
    """
    low = coordinates.min(axis=0)
    span = float((coordinates.max(axis=0) - low).max())
    nodes = int(np.clip(16 * np.ceil((span / NODE_DISTANCE + 4) / 16), NODES_LEAST, NODES_MOST))  # 16: for the FFT
    distance = NODE_DISTANCE if nodes > NODES_LEAST else span / (nodes - 4) + 1e-12
    distance = max(distance, span / (nodes - 4))
    at = (coordinates - low) / distance + 1  # in nodes, from 1 to nodes - 3
    nearest = np.rint(at).astype(np.int64)
    off = at - nearest  # -0.5..0.5
    weights = np.stack([off * (off - 1) / 2, 1 - off**2, off * (off + 1) / 2])  # [3 l 2]
    spread = (weights[:, None, :, 0] * weights[None, :, :, 1]).reshape(9, -1)  # [9 l]
    steps = np.arange(-1, 2)[:, None]
    cells = (nearest[:, 0] + steps)[:, None] * nodes + (nearest[:, 1] + steps)[None]  # [3 3 l]
    cells = cells.reshape(9, -1)

    charges = (np.ones(len(coordinates)), coordinates[:, 0], coordinates[:, 1])
    grid = [np.bincount(cells.ravel(), (spread * charge).ravel(), minlength=nodes * nodes) for charge in charges]
    size = (2 * nodes, 2 * nodes)
    waves = np.fft.rfft2(np.reshape(grid, (3, nodes, nodes)), size)
    force, nearness, halves = _kernels(nodes, distance)
    potentials = np.fft.irfft2(waves * force, size)[:, :nodes, :nodes]
    mass, first, second = ((potential.ravel()[cells] * spread).sum(axis=0) for potential in potentials)  # 3 x [l]
    # Z needs no way back from the waves (Parseval); each point is at distance 0 from itself.
    total = float((halves * nearness * np.abs(waves[0]) ** 2).sum()) / (4 * nodes * nodes) - len(coordinates)
    return np.stack([charges[1] * mass - first, charges[2] * mass - second], axis=1) / max(total, 1e-12)


@lru_cache(maxsize=4)
def _kernels(nodes: int, distance: float) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Waves of 1 / (1 + d^2)^2 and of 1 / (1 + d^2) on a grid twice as wide, and how often a half spectrum's count."""
    steps = np.minimum(np.arange(2 * nodes), 2 * nodes - np.arange(2 * nodes)) * distance
    kernel = 1 / (1 + steps[:, None] ** 2 + steps[None, :] ** 2)
    halves = np.full(nodes + 1, 2.0)
    halves[[0, -1]] = 1
    return np.fft.rfft2(kernel**2), np.fft.rfft2(kernel).real, halves


def _framed(coordinates: NDArray[np.float64]) -> Coordinates:
    """Centred, the longer side of the middle 98% about 2, the largest spread from left to right."""
    low, high = np.percentile(coordinates, [1, 99], axis=0)
    framed = (coordinates - (low + high) / 2) / max(float((high - low).max()) / 2, 1e-12)
    if (high - low)[1] > (high - low)[0]:
        framed = framed[:, ::-1]
    return np.ascontiguousarray(framed, dtype=np.float32)
