"""torch's side of what scripts are given: tensors from arrays and back, where the script has imported torch.

The one module of this room that may import torch, and only where it is imported already or asked for by name. Knows no
models.
"""

import importlib.util
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tandem.compat.refusals import GRADIENTS, refuse

if TYPE_CHECKING:
    import torch

WITHOUT_TORCH = "install torch (pip install torch) for torch's own tensors"


def uses_torch() -> bool:
    """Whether tensors are torch's: the script, or something that it uses, has imported torch."""
    return "torch" in sys.modules


def has_torch() -> bool:
    """Whether torch is installed."""
    return uses_torch() or importlib.util.find_spec("torch") is not None


def from_numpy(array: NDArray[Any]) -> "torch.Tensor":
    """torch's tensor of an array, whose memory it shares where it may. Raises `NotCoveredError` without torch."""
    if not has_torch():
        refuse("a torch tensor", WITHOUT_TORCH)
    import torch

    whole = np.ascontiguousarray(array).reshape(array.shape)  # which makes [1] of []
    return torch.from_numpy(whole if whole.flags.writeable else whole.copy())


def is_torch(value: object) -> bool:
    """Whether it is a tensor of torch's."""
    return uses_torch() and isinstance(value, sys.modules["torch"].Tensor)


def numbers(value: Any, what: str) -> NDArray[Any]:
    """A tensor, an array or nested lists as a plain array. Raises `NotCoveredError` where gradients are wanted."""
    if not is_torch(value):
        try:
            return np.asarray(value)
        except ValueError:
            refuse(f"{what} in lists of different lengths", "expected rows of one length: padding=True makes them")
    import torch

    if value.requires_grad:
        refuse(f"{what} with requires_grad", GRADIENTS)
    value = value.cpu()  # NumPy has no bfloat16
    return np.asarray((value.float() if value.dtype == torch.bfloat16 else value).numpy())


def device_name(device: object) -> str:
    """What a script calls a device, as engines know it: "cpu", "cuda", "cuda:1"; torch's numbers are of CUDA's."""
    return f"cuda:{device}" if isinstance(device, int) else str(device)


def device_of(name: str) -> Any:
    """A device as scripts ask a model for it: torch's where it is imported, else the name."""
    return sys.modules["torch"].device(name) if uses_torch() else name


def float32() -> Any:
    """The type of numbers as scripts ask a model for it: torch's where it is imported, else NumPy's."""
    return sys.modules["torch"].float32 if uses_torch() else np.dtype(np.float32)


def dtype_name(dtype: object) -> str:
    """The name of a type of numbers, torch's or NumPy's: "float32"."""
    return str(dtype).removeprefix("torch.")


_described: "type[torch.Tensor] | None" = None


def described(tensor: "torch.Tensor", attributes: Mapping[str, Callable[[], Any]]) -> "torch.Tensor":
    """The tensor with further attributes, computed when they are first asked for; what is made of it is plain again."""
    global _described  # noqa: PLW0603  made once torch is there
    if _described is None:
        import torch

        class Features(torch.Tensor):
            __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

            def __getattr__(self, name: str) -> Any:
                attributes = self.__dict__.get("_attributes", {})
                if name not in attributes:
                    raise AttributeError(f"these features have no attribute {name!r}")
                found = self.__dict__[name] = attributes[name]()
                return found

            def __getitem__(self, key: Any) -> Any:
                return getattr(self, key) if isinstance(key, str) else super().__getitem__(key)

        _described = Features
    found = tensor.as_subclass(_described)
    found.__dict__["_attributes"] = dict(attributes)
    return found
