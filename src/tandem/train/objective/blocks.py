"""Statistics of a matrix of logits for losses, without the matrix: one block at a time, forward and backward.

Blocks are recomputed where they are needed again, so memory is linear in the batch. The arithmetic is at least float32,
also under autocast: at a scale of 100, logits from bfloat16 vectors would be off by 0.4.

Shapes: n rows and m columns of the matrix, d the dimension of its vectors; S = exp(logit_scale) images @ texts.T.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

# A block of 1,024 x 1,024 float32 fits the second-level caches of two cores; 256 to 4,096 measured within 3% of each
# other. A GPU has no such cache, and launching a kernel costs it as much as a thousand rows.
CPU_BLOCK, GPU_BLOCK = 1024, 4096

# S is bounded by the lengths of its vectors. exp(S - bound + 60) in float32 ranges from 1e-38 to 1e26: a sum of 1e12 of
# them is finite, and one above 1e-25 has lost less than 1e-12 of itself to underflow.
HEADROOM, LEAST_SUM = 60.0, 1e-25


def log_sum_exps(images: Tensor, texts: Tensor, logit_scale: Tensor) -> tuple[Tensor, Tensor]:
    """images [n d], texts [m d] -> log sum exp of the rows [n] and of the columns [m] of S; differentiable once."""
    rows: Tensor
    columns: Tensor
    rows, columns = _LogSumExps.apply(images, texts, logit_scale)  # type: ignore[no-untyped-call]
    return rows, columns


def softplus_sum(images: Tensor, texts: Tensor, logit_scale: Tensor, logit_bias: Tensor) -> Tensor:
    """images [n d], texts [m d] -> the sum [] of log(1 + exp(S + logit_bias)); differentiable once."""
    total: Tensor = _SoftplusSum.apply(  # type: ignore[no-untyped-call]
        images, texts, logit_scale, logit_bias, torch.is_grad_enabled()
    )
    return total


def by_row_blocks(n: int, m: int, device: torch.device) -> Iterator[slice]:
    """Ranges of the n rows of a matrix with m columns: whole rows, as many as a block has room for."""
    size = max(1, _block_size(device) ** 2 // max(m, 1))
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))


def recomputed(function: Callable[..., Tensor], *inputs: Any) -> Tensor:
    """function(*inputs), computed again in the backward pass: only the inputs are kept."""
    result: Tensor = checkpoint(function, *inputs, use_reentrant=False, preserve_rng_state=False)
    return result


def full_precision(device: torch.device) -> torch.autocast:
    """A context without autocast."""
    return torch.autocast(device.type, enabled=False)


def upcast(x: Tensor) -> Tensor:
    """Half precisions as float32; float32 and float64 unchanged."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _block_size(device: torch.device) -> int:
    return CPU_BLOCK if device.type == "cpu" else GPU_BLOCK


def _blocks(queries: Tensor, texts: Tensor) -> Iterator[tuple[slice, slice, Tensor]]:
    """Rows, columns and queries[rows] @ texts[columns].T, in one buffer that the next block overwrites."""
    size = _block_size(queries.device)
    n, m = len(queries), len(texts)
    buffer = queries.new_empty(min(size, n) * min(size, m))
    for i in range(0, n, size):
        for j in range(0, m, size):
            rows, columns = slice(i, min(i + size, n)), slice(j, min(j + size, m))
            block = buffer[: (rows.stop - i) * (columns.stop - j)].view(rows.stop - i, columns.stop - j)
            torch.mm(queries[rows], texts[columns].T, out=block)
            yield rows, columns, block


class _Products:
    """dS, block by block, -> the gradients of images, texts and logit_scale."""

    def __init__(self, queries: Tensor, texts: Tensor, for_images: bool, for_texts: bool) -> None:
        self.queries, self.texts = queries, texts
        self.images_gradient = torch.zeros_like(queries) if for_images else None
        self.texts_gradient = torch.zeros_like(texts) if for_texts else None

    def add(self, rows: slice, columns: slice, block: Tensor) -> None:
        """block: dS of rows and columns."""
        if self.images_gradient is not None:
            self.images_gradient[rows].addmm_(block, self.texts[columns])
        if self.texts_gradient is not None:
            self.texts_gradient[columns].addmm_(block.T, self.queries[rows])

    def scale_gradient(self) -> Tensor:
        """S is linear in exp(logit_scale), whose gradient is the sum of dS * S, by rows or by columns."""
        if self.images_gradient is not None:
            sums: Tensor = torch.linalg.vecdot(self.queries, self.images_gradient)
        else:
            assert self.texts_gradient is not None
            sums = torch.linalg.vecdot(self.texts, self.texts_gradient)
        return sums.sum()


class _LogSumExps(torch.autograd.Function):
    """Forward one matrix product, backward three; each pass takes one exponential for rows and columns together."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, texts: Tensor, logit_scale: Tensor) -> tuple[Tensor, Tensor]:
        with full_precision(images.device):
            queries = images * logit_scale.exp()
            offset = _bound(queries, texts) - HEADROOM
            rows, columns = queries.new_zeros(len(queries)), queries.new_zeros(len(texts))
            for i, j, block in _blocks(queries, texts):
                block.sub_(offset).exp_()
                rows[i] += block.sum(1)
                columns[j] += block.sum(0)
            ctx.one_offset = bool((torch.cat([rows, columns]) > LEAST_SUM).all())  # false if any is NaN
            if ctx.one_offset:
                rows.log_().add_(offset)
                columns.log_().add_(offset)
            else:  # a row far below the largest logit of another, or no row at all
                rows.fill_(-torch.inf)
                columns.fill_(-torch.inf)
                for i, j, block in _blocks(queries, texts):
                    rows[i] = torch.logaddexp(rows[i], block.logsumexp(1))
                    columns[j] = torch.logaddexp(columns[j], block.logsumexp(0))
        ctx.save_for_backward(images, texts, logit_scale, rows, columns, offset)
        return rows, columns

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_rows: Tensor, d_columns: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        images, texts, logit_scale, rows, columns, offset = ctx.saved_tensors
        for_images, for_texts, for_scale = ctx.needs_input_grad
        with full_precision(images.device):
            scale = logit_scale.exp()
            queries = images * scale
            products = _Products(queries, texts, for_images or not for_texts, for_texts)
            if ctx.one_offset:
                by_row, by_column = d_rows * (offset - rows).exp(), d_columns * (offset - columns).exp()
            for i, j, block in _blocks(queries, texts):
                if ctx.one_offset:
                    block.sub_(offset).exp_().mul_(by_row[i, None] + by_column[j])
                else:
                    by_rows = (block - rows[i, None]).exp_().mul_(d_rows[i, None])
                    block.sub_(columns[j]).exp_().mul_(d_columns[j]).add_(by_rows)
                products.add(i, j, block)
            d_scale = products.scale_gradient() if for_scale else None
            d_images = products.images_gradient.mul_(scale) if products.images_gradient is not None else None
        return d_images, products.texts_gradient, d_scale


class _SoftplusSum(torch.autograd.Function):
    """The gradient of a block is known with the block, so it is taken at once: three products in all."""

    @staticmethod
    def forward(
        ctx: Any, images: Tensor, texts: Tensor, logit_scale: Tensor, logit_bias: Tensor, learning: bool
    ) -> Tensor:
        for_images, for_texts = ctx.needs_input_grad[:2]
        with full_precision(images.device):
            scale = logit_scale.exp()
            queries = images * scale
            sums, slopes = queries.new_zeros(len(queries)), queries.new_zeros(len(queries))
            products = _Products(queries, texts, learning and (for_images or not for_texts), learning and for_texts)
            for i, j, block in _blocks(queries, texts):
                block.add_(logit_bias)
                sums[i] += F.softplus(block).sum(1)
                if learning:
                    block.sigmoid_()
                    slopes[i] += block.sum(1)
                    products.add(i, j, block)
            if learning:
                d_scale = products.scale_gradient()
                if products.images_gradient is not None:
                    products.images_gradient.mul_(scale)
                ctx.gradients = (products.images_gradient, products.texts_gradient, d_scale, slopes.sum())
        return sums.sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_total: Tensor) -> tuple[Tensor | None, ...]:
        found = zip(ctx.gradients, ctx.needs_input_grad, strict=False)
        return *(d_total * gradient if needed and gradient is not None else None for gradient, needed in found), None


def _bound(queries: Tensor, texts: Tensor) -> Tensor:
    """An upper bound of all logits (Cauchy-Schwarz)."""
    if not len(queries) or not len(texts):
        return queries.new_zeros(())
    longest = [torch.linalg.vector_norm(vectors, dim=1).max() for vectors in (queries, texts)]
    return torch.mul(*longest)
