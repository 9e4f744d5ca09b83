"""The index over the vectors: where to look for the nearest rows. Derived from them, and can be made again any time.

An inverted file over a spherical k-means, its codes one bit a dimension (RaBitQ, Gao and Long 2024,
https://arxiv.org/abs/2405.12497). Vectors are centred first: CLIP's images share a large common part, and its texts
another one (the modality gap). Without centring the lists are chosen by how they stand to that part: measured on 1 M
clustered vectors with queries from another region, recall@10 was 0.65 with 64 of 1,024 lists; centred it is 1.00 with 8
of 2,048. Then they are rotated at random, since a sign says little of a dimension that is larger than others: where the
spectrum decays as i^-1/2, recall was 0.57 without, and 1.00 with.

Shapes: n rows, d dimensions, q queries.
"""

import warnings
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tandem.arrays import Vectors
from tandem.errors import DamageWarning
from tandem.files import sync
from tandem.search.stores.embedded.row_bits import Bits
from tandem.search.stores.embedded.vector_file import Positions, VectorFile

MIN_PROBES = 32  # lists looked into, at least
# Rows whose codes are compared with a query, at least and of all: more lists where lists are short. Measured at 10 M,
# for queries like the data and like texts: 32 of 4,494 lists have a recall of 0.91 and 0.78, 128 of 0.98 and 0.95.
ROWS_PROBED, SHARE_PROBED = 50_000, 0.05
TRAINING_ROWS, ROWS_PER_LIST = 60_000, 20  # at least, to train with; ten million rows have 6,300 lists
MAX_GROWTH = 4  # times the rows that an index was trained for; then it is trained again


@dataclass
class VectorIndex:
    """An index of the first `rows` rows of a file, trained when there were `trained_rows`."""

    faiss_index: Any
    rows: int
    trained_rows: int
    _lists: Any = field(init=False)
    _mean: Vectors = field(init=False)

    def __post_init__(self) -> None:
        import faiss

        self._lists = faiss.downcast_index(self.faiss_index.index)
        centring: Any = faiss.downcast_VectorTransform(self.faiss_index.chain.at(0))
        # Rows are centred, queries must not be: q (x - mean) orders rows as q x does, (q - mean) (x - mean) does not.
        self._mean = faiss.vector_to_array(centring.mean)

    @property
    def probes(self) -> int:
        """How many lists to search for the nearest of all rows."""
        return max(MIN_PROBES, self.lists_of(max(ROWS_PROBED, int(SHARE_PROBED * self.rows))))

    def lists_of(self, rows: int) -> int:
        """How many lists hold so many rows, on average."""
        return rows * int(self._lists.nlist) // max(1, self.rows)

    def search(self, queries: Vectors, count: int, probes: int, bits: Bits | None = None) -> Positions:
        """Positions [q count] that are probably the nearest of those whose `bits` are set (`row_bits`; None: of all),
        in any order, -1 where there are fewer.
        """
        import faiss

        inner = faiss.IVFSearchParameters()
        inner.nprobe = min(probes, self._lists.nlist)
        make: Any = faiss.IDSelectorBitmap
        selector = None if bits is None else make(bits)  # kept until the search is done: faiss has its address only
        if selector is not None:
            inner.sel = selector
        parameters = faiss.SearchParametersPreTransform()
        parameters.index_params = inner
        with _threads(1 if len(queries) < 16 else None):
            positions: Positions = self.faiss_index.search(queries + self._mean, count, params=parameters)[1]
        return positions

    def fits(self, rows: int) -> bool:
        """Whether adding the missing rows is enough, or it should be trained again."""
        return self.rows <= rows <= MAX_GROWTH * self.trained_rows

    def extended(self, file: VectorFile, rows: int, stopped: Callable[[], bool]) -> "VectorIndex | None":
        """With the rows up to `rows`; this one is of no use any more. None if stopped midway.

        In place: copies of an index of a hundred million rows, 9 GB each, would take more memory than there is.
        """
        with _threads(None):
            for _, vectors in file.blocks(self.rows, rows):
                if stopped():
                    return None
                self.faiss_index.add(vectors)
        return VectorIndex(self.faiss_index, rows, self.trained_rows)

    def write(self, path: Path) -> int:
        """Write it to a file, durable on return. Returns the file's checksum."""
        import faiss

        try:
            faiss.write_index(self.faiss_index, str(path))
        except RuntimeError as error:  # faiss raises no other
            raise OSError(f"{path} cannot be written ({error})") from error
        sync(path)
        return checksum_of(path)


def train(file: VectorFile, rows: int, dimensions: int) -> VectorIndex:
    """An empty index, trained for so many rows."""
    import faiss

    generator = np.random.default_rng(0)
    lists = max(1, int(2 * rows**0.5))
    chosen = np.sort(generator.choice(rows, min(rows, max(TRAINING_ROWS, ROWS_PER_LIST * lists)), replace=False))
    # Read in stretches: touching the map all over would count the whole file as this process's memory.
    sample = np.concatenate([
        vectors[chosen[(chosen >= first) & (chosen < first + len(vectors))] - first]
        for first, vectors in file.blocks(0, rows)
    ])  # fmt: skip
    centring = faiss.CenteringTransform(dimensions)
    rotation = faiss.RandomRotationMatrix(dimensions, dimensions)
    rotation.init(1)
    lists = max(1, min(lists, len(sample) // ROWS_PER_LIST))
    parameters = faiss.ClusteringParameters()
    parameters.niter, parameters.seed, parameters.spherical = 8, 1, True
    parameters.max_points_per_centroid, parameters.min_points_per_centroid = len(sample), 1
    with _threads(None):
        centring.train(sample)
        sample = rotation.apply(sample - faiss.vector_to_array(centring.mean))
        clustering = faiss.Clustering(dimensions, lists, parameters)
        directions = faiss.IndexFlatIP(dimensions)
        clustering.train(sample, directions)
        centroids = faiss.vector_to_array(clustering.centroids).reshape(lists, dimensions)
        # Codes say how a row differs from its centroid: put the centroids where the rows are, not on the unit sphere.
        length = float(directions.search(sample[:20_000], 1)[0].mean())
        quantizer = faiss.IndexFlatIP(dimensions)
        quantizer.add(centroids * np.float32(max(length, 1e-6)))
        inverted = faiss.IndexIVFRaBitQFastScan(quantizer, dimensions, lists, faiss.METRIC_INNER_PRODUCT)
        inverted.train(sample)
    index = faiss.IndexPreTransform(rotation, inverted)
    index.prepend_transform(centring)
    # faiss frees parts that Python no longer references: a copy owns all its parts.
    return VectorIndex(_copied(index), 0, rows)


def load(path: Path, rows: int, trained_rows: int, checksum: int) -> VectorIndex | None:
    """An index from its file. None if the file is missing or damaged.

    A damaged file is removed, where that is allowed: its absence tells the next writer to make a new one.
    """
    import faiss

    try:
        if checksum_of(path) != checksum:
            _warn(f"{path} is damaged")
            with suppress(OSError):
                path.unlink()
            return None
        return VectorIndex(faiss.read_index(str(path)), rows, trained_rows)
    except (OSError, RuntimeError) as error:
        _warn(f"{path} cannot be read ({error})")
        return None


def _warn(what: str) -> None:
    message = f"{what}: searching without it, until the next writer makes a new one"
    warnings.warn(DamageWarning(message), stacklevel=3)


def _copied(index: Any) -> Any:
    import faiss

    return faiss.deserialize_index(faiss.serialize_index(index))  # faiss cannot clone a centring


def checksum_of(path: Path) -> int:
    checksum = 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            checksum = zlib.crc32(block, checksum)
    return checksum


class _threads:
    """How many threads faiss uses in this block: one query is fastest with one."""

    def __init__(self, count: int | None) -> None:
        self.count = count

    def __enter__(self) -> None:
        import faiss

        self.before = faiss.omp_get_max_threads()
        if self.count is not None:
            faiss.omp_set_num_threads(self.count)

    def __exit__(self, *_: object) -> None:
        import faiss

        faiss.omp_set_num_threads(self.before)
