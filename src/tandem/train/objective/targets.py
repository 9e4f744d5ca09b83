"""Which texts describe which images, and how far, without ever holding the matrix [N M] of targets.

A loss asks for sums and for weighted dot products; targets answer from the entries that are not 0, or block by block.

Shapes: n images of this process, N images and M texts of all processes, e entries of this process, d the dimension of
the vectors, w that of a teacher's.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from tandem.train.objective.blocks import by_row_blocks, recomputed
from tandem.train.parallel.process import Gather


class Targets(Protocol):
    """T [N M], 0 or more, of which this process has the rows of its own images."""

    @property
    def total_images(self) -> int:
        """N."""
        ...

    def sums(self, gather: Gather) -> tuple[Tensor, Tensor]:
        """The sum of each own row [n], and of each column over all processes [M]."""
        ...

    def dots(self, images: Tensor, texts: Tensor, by_row: Tensor, by_column: Tensor) -> Tensor:
        """images [n d], texts [M d], factors [n] and [M] -> sum_j T_ij (by_row_i + by_column_j) x_i . y_j  [n]."""
        ...


@dataclass(frozen=True)
class SparseTargets:
    """Targets by their entries above 0: few, where an image has its captions or the texts of its names."""

    rows: Tensor  # int64 [e], ascending: own image
    columns: Tensor  # int64 [e]: text of all
    values: Tensor  # [e]
    images: int  # n
    total_images: int  # N
    column_sums: Tensor  # [M], over the images of all processes

    @staticmethod
    def paired(images: int, first_text: int, total: int, like: Tensor) -> "SparseTargets":
        """The k-th text describes the k-th image and no other."""
        rows = torch.arange(images, device=like.device)
        return SparseTargets(rows, rows + first_text, like.new_ones(images), images, total, like.new_ones(total))

    def row_sums(self) -> Tensor:
        """[n]."""
        return self.values.new_zeros(self.images).index_add_(0, self.rows, self.values)

    def sums(self, gather: Gather) -> tuple[Tensor, Tensor]:
        """See `Targets`."""
        return self.row_sums(), self.column_sums

    def dots(self, images: Tensor, texts: Tensor, by_row: Tensor, by_column: Tensor) -> Tensor:
        """See `Targets`."""
        weights = self.values.to(images.dtype) * (by_row[self.rows] + by_column[self.columns])
        return (images * self.weighted_rows(texts, weights)).sum(1)

    def weighted_rows(self, vectors: Tensor, weights: Tensor) -> Tensor:
        """vectors [M d], weights [e] of the entries -> for each own image the weighted sum of its texts [n d]."""
        if not len(self.rows):
            return vectors.new_zeros(self.images, vectors.shape[1])
        starts = torch.searchsorted(self.rows, torch.arange(self.images, device=self.rows.device))
        return F.embedding_bag(self.columns, vectors, starts, mode="sum", per_sample_weights=weights)


@dataclass(frozen=True)
class SoftTargets:
    """Targets of which `share` goes to the texts that a teacher finds close to the image's own (Hinton et al. 2015).

    Row i is (1 - share) of the hard row, scaled to 1, plus `share` of the softmax over j of c_i . t_j / temperature,
    where t_j are the teacher's unit vectors and c_i is the mean of those of the image's own texts.
    """

    hard: SparseTargets
    teacher: Tensor  # [M w]: unit vectors of the texts of all processes
    share: float
    temperature: float

    @property
    def total_images(self) -> int:
        """N."""
        return self.hard.total_images

    def sums(self, gather: Gather) -> tuple[Tensor, Tensor]:
        """See `Targets`."""
        weights = self._hard_weights()
        columns = weights.new_zeros(len(self.teacher)).index_add_(0, self.hard.columns, weights)
        centroids = self._centroids()
        for rows in by_row_blocks(len(centroids), len(self.teacher), centroids.device):
            columns += self.share * self._soft(centroids[rows]).sum(0)
        return weights.new_ones(self.hard.images), gather(columns[None])[0].sum(0)

    def dots(self, images: Tensor, texts: Tensor, by_row: Tensor, by_column: Tensor) -> Tensor:
        """See `Targets`."""
        weights = self._hard_weights().to(images.dtype) * (by_row[self.hard.rows] + by_column[self.hard.columns])
        hard = (images * self.hard.weighted_rows(texts, weights)).sum(1)
        centroids = self._centroids()
        soft = [
            recomputed(self._soft_dots, images[rows], texts, by_row[rows], by_column, centroids[rows])
            for rows in by_row_blocks(len(images), len(texts), images.device)
        ]
        return hard + torch.cat(soft) if soft else hard

    def _soft_dots(self, images: Tensor, texts: Tensor, by_row: Tensor, by_column: Tensor, centroids: Tensor) -> Tensor:
        weights = self.share * self._soft(centroids).to(images.dtype) * (by_row[:, None] + by_column)  # [b M]
        return (images * (weights @ texts)).sum(1)

    def _soft(self, centroids: Tensor) -> Tensor:
        """[b w] -> [b M], rows of sum 1."""
        return (centroids @ self.teacher.T / self.temperature).softmax(1)

    def _hard_weights(self) -> Tensor:
        """The entries of the hard targets, rows scaled to 1 - share, [e]."""
        values = self.hard.values.to(self.teacher.dtype)
        return (1 - self.share) * values / self.hard.row_sums().to(values.dtype)[self.hard.rows]

    def _centroids(self) -> Tensor:
        """[n w]."""
        values = self.hard.values.to(self.teacher.dtype)
        means = values / self.hard.row_sums().to(values.dtype)[self.hard.rows]
        return self.hard.weighted_rows(self.teacher, means)
