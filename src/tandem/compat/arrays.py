"""What scripts get for tensors: torch's where they have imported torch, NumPy arrays with torch's methods elsewhere.

A script that has not imported torch pays nothing for it (2 s, measured). Whatever torch function, or method that is not
here, meets an `Array` goes on with torch's tensor of it. Knows no models.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tandem.compat import tensors
from tandem.compat.refusals import GRADIENTS, NotCoveredMethodError, refuse
from tandem.scores import scoring

# The methods of these names would stand for the types inside of the class.
Whole: TypeAlias = int
Number: TypeAlias = float


class Extremes(NamedTuple):
    """What `max`, `min`, `topk` and `sort` along a dimension give, under torch's names."""

    values: Any
    indices: Any


class _Size(int):
    """The number of elements, as NumPy has it, which called gives the shape, as torch has it."""

    shape: tuple[int, ...]

    def __call__(self, dim: int | None = None) -> Any:
        return self.shape if dim is None else self.shape[dim]


class Array(np.ndarray):
    """A NumPy array with torch's methods: `softmax(dim=1)`, `norm(dim=-1, keepdim=True)`, `topk(5)`, `cpu()`.

    Where the two libraries disagree about a method that both have, torch's meaning counts for calls in torch's words
    (`dim`, `keepdim`, by position), NumPy's for calls in its own (`axis`, `keepdims`).
    """

    requires_grad = False
    is_cuda = False
    grad_fn = None

    # --- to and from ---------------------------------------------------------------------------------------------

    def numpy(self) -> NDArray[Any]:
        return np.asarray(self)

    def torch(self) -> Any:
        """torch's tensor of the same numbers. Imports torch; raises `NotCoveredError` where it is not installed."""
        return tensors.from_numpy(self.numpy())

    @classmethod
    def __torch_function__(
        cls, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Called by torch where one of its functions meets an array: it goes on with torch's tensors."""
        return function(*_to_torch(args), **_to_torch(dict(kwargs or {})))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if not tensors.has_torch():
            raise NotCoveredMethodError(f"{name}: no method of tandem.compat's arrays: {tensors.WITHOUT_TORCH}")
        return getattr(self.torch(), name)

    def to(self, *args: Any, **kwargs: Any) -> Any:
        if not kwargs and len(args) == 1 and str(args[0]) == "cpu":
            return self
        return self.torch().to(*args, **kwargs)

    def cpu(self) -> "Array":
        return self

    def detach(self) -> "Array":
        return self

    def clone(self) -> "Array":
        return self.copy()

    def contiguous(self) -> "Array":
        return self if self.flags.c_contiguous else self.copy()

    def float(self) -> Any:
        return self.astype(np.float32)

    def long(self) -> Any:
        return self.astype(np.int64)

    def int(self) -> Any:
        return self.astype(np.int32)

    def requires_grad_(self, requires_grad: bool = True) -> "Array":
        if requires_grad:
            refuse("requires_grad_()", GRADIENTS)
        return self

    def backward(self, *_: Any, **__: Any) -> None:
        refuse("backward()", GRADIENTS)

    def __getitem__(self, key: Any) -> Any:
        return _wrapped(super().__getitem__(key))

    # --- shapes --------------------------------------------------------------------------------------------------

    @property
    def size(self) -> _Size:
        size = _Size(super().size)
        size.shape = self.shape
        return size

    def numel(self) -> Whole:
        return Whole(super().size)

    def dim(self) -> Whole:
        return self.ndim

    def t(self) -> "Array":
        return self.T

    def unsqueeze(self, dim: Whole) -> Any:
        return np.expand_dims(self, dim)

    def squeeze(self, dim: Any = None, *, axis: Any = None) -> Any:  # type: ignore[override]
        if isinstance(dim, Whole) and axis is None and self.shape[dim] != 1:
            return self  # as torch has it
        return _wrapped(super().squeeze(axis=dim if axis is None else axis))

    def permute(self, *dims: Any) -> Any:
        return super().transpose(*dims)

    def transpose(self, *axes: Any) -> Any:
        if len(axes) == 2 and all(isinstance(axis, Whole | np.integer) for axis in axes):
            return self.swapaxes(*axes)
        return super().transpose(*axes)

    def view(self, *args: Any, **kwargs: Any) -> Any:
        shape = args[0] if len(args) == 1 and isinstance(args[0], tuple | list) else args
        if shape and all(isinstance(side, Whole | np.integer) for side in shape):
            return self.reshape(shape)
        return super().view(*args, **kwargs)

    def repeat(self, *repeats: Any, axis: Any = ...) -> Any:
        if axis is not ...:
            return _wrapped(np.repeat(self.numpy(), repeats[0], axis=axis))
        sizes = repeats[0] if len(repeats) == 1 and isinstance(repeats[0], tuple | list) else repeats
        return _wrapped(np.tile(self.numpy(), sizes))

    # --- arithmetic ----------------------------------------------------------------------------------------------

    def exp(self) -> Any:
        return _wrapped(np.exp(self))

    def log(self) -> Any:
        return _wrapped(np.log(self))

    def abs(self) -> Any:
        return _wrapped(np.abs(self))

    def sigmoid(self) -> Any:
        return _wrapped(scoring.sigmoid(self.numpy()))

    def softmax(self, dim: Whole) -> Any:
        return _wrapped(np.moveaxis(scoring.softmax(np.moveaxis(self.numpy(), dim, -1)), -1, dim))

    def norm(self, p: Any = 2, dim: Any = None, keepdim: bool = False) -> Any:
        if p not in (2, "fro"):
            refuse(f"norm(p={p!r})", "the Euclidean norm, p=2, is")
        return _wrapped(np.sqrt(np.square(self.numpy()).sum(axis=dim, keepdims=keepdim)))

    def matmul(self, other: Any) -> Any:
        return self @ other

    mm = matmul

    def topk(self, k: Whole, dim: Whole = -1, largest: bool = True) -> Extremes:
        plain = self.numpy()
        order = np.argsort(-plain if largest else plain, axis=dim, kind="stable")
        indices = np.take(order, np.arange(k), axis=dim)
        return Extremes(_wrapped(np.take_along_axis(plain, indices, axis=dim)), _wrapped(indices))

    def argsort(self, dim: Whole = -1, descending: bool = False, *, axis: Any = ..., **numpy: Any) -> Any:  # type: ignore[override]
        if axis is not ...:
            return super().argsort(axis=axis, **numpy)
        return self.topk(self.shape[dim], dim, largest=descending).indices

    def sort(self, dim: Whole = -1, descending: bool = False, *, axis: Any = ..., **numpy: Any) -> Any:  # type: ignore[override]
        if axis is not ...:
            return super().sort(axis=axis, **numpy)  # in place, as numpy.sort asks for it
        return self.topk(self.shape[dim], dim, largest=descending)

    def cumsum(self, dim: Any = None, **numpy: Any) -> Any:  # type: ignore[override]
        return super().cumsum(**{"axis": dim, **numpy})

    def sum(self, dim: Any = None, keepdim: bool = False, **numpy: Any) -> Any:  # type: ignore[override]
        return self._reduced("sum", dim, keepdim, numpy)

    def mean(self, dim: Any = None, keepdim: bool = False, **numpy: Any) -> Any:  # type: ignore[override]
        return self._reduced("mean", dim, keepdim, numpy)

    def prod(self, dim: Any = None, keepdim: bool = False, **numpy: Any) -> Any:  # type: ignore[override]
        return self._reduced("prod", dim, keepdim, numpy)

    def all(self, dim: Any = None, keepdim: bool = False, **numpy: Any) -> Any:  # type: ignore[override]
        return self._reduced("all", dim, keepdim, numpy)

    def any(self, dim: Any = None, keepdim: bool = False, **numpy: Any) -> Any:  # type: ignore[override]
        return self._reduced("any", dim, keepdim, numpy)

    def argmax(self, dim: Any = None, keepdim: bool = False, **numpy: Any) -> Any:  # type: ignore[override]
        return self._reduced("argmax", dim, keepdim, numpy)

    def argmin(self, dim: Any = None, keepdim: bool = False, **numpy: Any) -> Any:  # type: ignore[override]
        return self._reduced("argmin", dim, keepdim, numpy)

    def max(self, dim: Any = None, keepdim: bool = False, **numpy: Any) -> Any:  # type: ignore[override]
        return self._extreme("max", dim, keepdim, numpy)

    def min(self, dim: Any = None, keepdim: bool = False, **numpy: Any) -> Any:  # type: ignore[override]
        return self._extreme("min", dim, keepdim, numpy)

    def std(self, dim: Any = None, keepdim: bool = False, **numpy: Any) -> Any:  # type: ignore[override]
        return self._reduced("std", dim, keepdim, numpy or {"ddof": 1})  # torch divides by n - 1

    def var(self, dim: Any = None, keepdim: bool = False, **numpy: Any) -> Any:  # type: ignore[override]
        return self._reduced("var", dim, keepdim, numpy or {"ddof": 1})

    def nonzero(self) -> Any:
        refuse("nonzero()", "torch and NumPy give different things: use np.nonzero(array.numpy())")

    def _reduced(self, name: str, dim: Any, keepdim: bool, numpy: dict[str, Any]) -> Any:
        words = {"axis": dim, **({"keepdims": True} if keepdim else {}), **numpy}
        return _wrapped(getattr(np.ndarray, name)(self, **words))

    def _extreme(self, name: str, dim: Any, keepdim: bool, numpy: dict[str, Any]) -> Any:
        if numpy or dim is None:
            return self._reduced(name, dim, keepdim, numpy)
        plain = self.numpy()
        indices = np.expand_dims(getattr(plain, f"arg{name}")(axis=dim), dim)
        found = (np.take_along_axis(plain, indices, axis=dim), indices)
        return Extremes(*(_wrapped(each if keepdim else each.squeeze(dim)) for each in found))


def _wrapped(value: Any) -> Any:
    """An `Array` of what NumPy gives: of single numbers, too, which have methods in torch."""
    return np.asarray(value).view(Array) if isinstance(value, np.ndarray | np.generic) else value


def _to_torch(value: Any) -> Any:
    if isinstance(value, Array):
        return value.torch()
    if type(value) in (tuple, list):
        return type(value)(map(_to_torch, value))
    return {key: _to_torch(each) for key, each in value.items()} if type(value) is dict else value


class _Described(Array):
    """An array with further attributes, computed when they are first asked for; a string in brackets is one, too."""

    def __getattr__(self, name: str) -> Any:
        attributes = self.__dict__.get("_attributes", {})
        if name in attributes:
            found = self.__dict__[name] = attributes[name]()
            return found
        return super().__getattr__(name)

    def __getitem__(self, key: Any) -> Any:
        return getattr(self, key) if isinstance(key, str) else super().__getitem__(key)


def tensor(array: NDArray[Any], *, like: object = None) -> Any:
    """An array as scripts take it: torch's tensor, or an `Array`.

    like: what came from the script. The answer to NumPy's arrays is an `Array` in any case; that to a tensor is on its
    device.
    """
    if type(like) is np.ndarray or not tensors.uses_torch():
        return np.asarray(array).view(Array)
    found = tensors.from_numpy(array)
    return found.to(like.device) if tensors.is_torch(like) else found  # type: ignore[attr-defined]


def with_attributes(value: Any, attributes: Mapping[str, Callable[[], Any]]) -> Any:
    """The tensor or `Array` with further attributes, computed when they are first asked for."""
    if not isinstance(value, np.ndarray):
        return tensors.described(value, attributes)
    found = np.asarray(value).view(_Described)
    found.__dict__["_attributes"] = dict(attributes)
    return found
