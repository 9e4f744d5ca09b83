"""Devices and precisions of torch, and the weights of a tower in the precision of its products.

Knows torch alone: no tower, no batches.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tandem.errors import EngineError

TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

# Matrices that are parameters of a tower itself; the others are the weights of linear layers and convolutions
_MATRICES = ("in_proj_weight", "in_proj_bias", "proj", "text_projection")


def torch_device(name: str | None) -> torch.device:
    """The device of this name. Raises `EngineError` for one that torch does not find, and says why."""
    kind = (name or "cpu").split(":")[0]
    found = ["cpu"]
    if torch.cuda.is_available():
        found += ["cuda"] + [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        found += ["mps"]
    if (name or "cpu") not in found:
        raise EngineError(f"device: torch finds {', '.join(found)} on this machine, not {name!r}{_why_not(kind)}")
    return torch.device(name or kind)


def _why_not(kind: str) -> str:
    """What to do about a device that is not there, where that is known."""
    if kind != "cuda" or torch.cuda.is_available():
        return ""
    if torch.version.cuda is None and torch.version.hip is None:
        return f"; this torch ({torch.__version__}) is built without CUDA, install one that has it (pytorch.org)"
    return f"; torch {torch.__version__} has CUDA, but no GPU or no driver for it answers (see nvidia-smi)"


def torch_precision(device: torch.device, precision: str) -> str:
    """The precision to compute in. Raises `EngineError` for one that the device does not have."""
    if precision == "auto":
        return "float32"
    available = list(TYPES)
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        available.remove("bfloat16")
    if precision not in available:
        raise EngineError(f"precision: {device} computes in {', '.join(available)}, not in {precision!r}")
    return precision


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The context in which products run in the precision.

    It keeps no copies of weights: `lower` has made those that products need, and a copy made while a CUDA graph is
    captured would be lost after it.
    """
    dtype = TYPES[precision]
    # `enabled` is off for float32, whose dtype autocast would refuse on some devices
    reduced = dtype is not torch.float32
    return torch.autocast(device.type, dtype if reduced else torch.bfloat16, enabled=reduced, cache_enabled=False)


def lower(module: nn.Module, precision: str) -> None:
    """Round the weights of products to the precision, in place, once: autocast would do it in every pass.

    What is left in float32: gains, embeddings and the statistics of batch norms. The results are the same bits.
    """
    dtype = TYPES[precision]
    if dtype is torch.float32:
        return
    for part in module.modules():
        names = ("weight", "bias") if isinstance(part, nn.Linear | nn.Conv2d) else _MATRICES
        for name in names:
            parameter = part._parameters.get(name)
            if parameter is not None:
                parameter.data = parameter.data.to(dtype)


def to_device(array: NDArray[np.generic], device: torch.device) -> Tensor:
    """The array as a tensor on the device."""
    if not array.flags.writeable:
        array = array.copy()  # torch warns of read-only memory
    return torch.from_numpy(array).to(device)
