"""Batch norms, branches and scales folded into the layer beside them, in numpy at double precision.

A batch norm in evaluation is a scale and a shift per channel, so a convolution and the norm after it are one
convolution, and so is a sum of such branches (Ding et al. 2021). Knows arrays; no graph.

Shapes: o channels out, i channels in (of a group), k kernel side.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tandem.towers.parts.description import NORM_EPSILON
from tandem.towers.parts.int8 import Int8, int8_of
from tandem.towers.parts.tensors import Tensors

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Convolution:
    """A kernel [o i k k] and a bias [o], float64; the kernel as int8 where its tensor is kept so."""

    kernel: Array
    bias: Array
    int8: Int8 | None = None

    def __add__(self, other: "Convolution") -> "Convolution":
        """Branches beside each other, smaller kernels in the middle of larger ones."""
        large, small = sorted((self.kernel, other.kernel), key=lambda kernel: -kernel.shape[2])
        margin = (large.shape[2] - small.shape[2]) // 2
        kernel = large + np.pad(small, ((0, 0), (0, 0), (margin, margin), (margin, margin)))
        return Convolution(kernel, self.bias + other.bias)

    def scaled(self, by: Array) -> "Convolution":
        """Its output times `by` [o]."""
        int8 = None if self.int8 is None else self.int8.scaled(by)
        return Convolution(self.kernel * by[:, None, None, None], self.bias * by, int8)

    def with_bias(self, bias: Array) -> "Convolution":
        """With another bias [o]."""
        return Convolution(self.kernel, bias, self.int8)


def double(tensors: Tensors, name: str) -> Array:
    """A tensor in float64."""
    return tensors[name].astype(np.float64)


def batch_norm(tensors: Tensors, name: str) -> tuple[Array, Array]:
    """The scale and the shift per channel of a batch norm in evaluation."""
    scale = double(tensors, name + ".weight") / np.sqrt(double(tensors, name + ".running_var") + NORM_EPSILON)
    return scale, double(tensors, name + ".bias") - double(tensors, name + ".running_mean") * scale


def normed_convolution(tensors: Tensors, convolution: str, norm: str) -> Convolution:
    """A convolution without bias and the batch norm after it."""
    scale, shift = batch_norm(tensors, norm)
    kernel = double(tensors, convolution + ".weight")
    int8 = int8_of(tensors, convolution + ".weight")
    return Convolution(kernel, np.zeros(len(kernel)), int8).scaled(scale).with_bias(shift)


def plain_convolution(tensors: Tensors, name: str) -> Convolution:
    """A convolution without bias."""
    kernel = double(tensors, name + ".weight")
    return Convolution(kernel, np.zeros(len(kernel)), int8_of(tensors, name + ".weight"))


def identity(channels: int, groups: int) -> Convolution:
    """What leaves its input as it is."""
    width = channels // groups
    kernel = np.tile(np.eye(width), (groups, 1)).reshape(channels, width, 1, 1)
    return Convolution(kernel, np.zeros(channels))


def identity_norm(tensors: Tensors, name: str, groups: int) -> Convolution:
    """A batch norm by itself."""
    scale, shift = batch_norm(tensors, name)
    return Convolution(identity(len(scale), groups).kernel * scale[:, None, None, None], shift)
