"""Models by the names that scripts give, read once for a model and its processor.

Knows names, options and devices; no interface of another library.
"""

import os
import warnings
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tandem import engine as engines
from tandem import weights
from tandem.compat import tensors
from tandem.compat.refusals import check_options, refuse
from tandem.config import Activation
from tandem.files import user_path
from tandem.model import SHIPPED, Model
from tandem.weights import Checkpoint

Source = str | os.PathLike[str] | None

# Options of `from_pretrained` and its kin: what changes no number here, and what to use for the others.
HARMLESS: dict[str, Any] = {
    "use_safetensors": ...,
    "attn_implementation": ...,
    "low_cpu_mem_usage": ...,
    "use_fast": ...,
    "backend": ...,
    "trust_remote_code": False,
    "force_download": False,
    "local_files_only": False,
    "token": (False,),
    "weights_only": ...,
    "device_map": ("cpu", "auto"),
    "output_loading_info": False,
}
_HUB = "is a setting of the machine: set {} in the environment"
INSTEAD: dict[str, str] = {
    "cache_dir": _HUB.format("HF_HOME"),
    "token": _HUB.format("HF_TOKEN"),
    "use_auth_token": _HUB.format("HF_TOKEN"),
    "local_files_only": _HUB.format("HF_HUB_OFFLINE=1"),
    "trust_remote_code": "nothing in a model's files is executed here; leave it out",
    "device_map": 'models load onto the processor: use model.to("cuda")',
    "quantization_config": "bfloat16 is the reduced precision: dtype=torch.bfloat16",
    "load_in_8bit": "bfloat16 is the reduced precision: dtype=torch.bfloat16",
    "load_in_4bit": "bfloat16 is the reduced precision: dtype=torch.bfloat16",
    "subfolder": "name the folder itself",
    "state_dict": "weights come from the folder, file or name",
    "config": "the configuration comes with the weights",
    "force_download": "delete the folder in the hub's cache (HF_HOME)",
}

_read: "weakref.WeakValueDictionary[Any, Checkpoint]" = weakref.WeakValueDictionary()


def checkpoint(source: Source, activation: Activation | None = None) -> Checkpoint:
    """The model that a name means, read once while something holds it. None: the one that ships."""
    name = str(SHIPPED) if source is None else os.fspath(source)
    key = (name, activation, _signature(name))
    found = _read.get(key)
    if found is None:
        _read[key] = found = weights.read(name, activation=activation)
        for note in found.config.notes.values():
            warnings.warn(note, stacklevel=3)
    return found


def named(source: Source, options: Mapping[str, Any], call: str) -> str | None:
    """The name with its revision; the other options of loading are checked. Raises `NotCoveredError`."""
    revision = options.get("revision")
    rest = {key: value for key, value in options.items() if key != "revision"}
    check_options(call, rest, HARMLESS, INSTEAD)
    if source is None:
        return None
    name = os.fspath(source)
    return name if revision in (None, "main") or os.path.exists(name) else f"{name}@{revision}"


def model(
    source: Source, *, device: object = None, dtype: object = None, activation: Activation | None = None
) -> Model:
    """The model of a name, folder or file. Raises what `tandem.load` raises."""
    return on_device(checkpoint(source, activation), device, dtype)


def on_device(read: Checkpoint, device: object = None, dtype: object = None) -> Model:
    """A model of these weights, on a device ("cpu", "cuda") and in a precision (torch's or NumPy's type)."""
    if read.config.preprocessing.makes_patches:
        refuse(f"{read.source}, which reads images of any aspect ratio (NaFlex)", "tandem.load reads it")
    precision: Any = "auto" if dtype in (None, "auto") else tensors.dtype_name(dtype)
    built = engines.build(
        read.config, read.tensors, device=tensors.device_name("cpu" if device is None else device), precision=precision
    )
    return Model(read, built, orient=False)


def pixels_of(pixel_values: NDArray[Any], of: Model) -> NDArray[np.float32]:
    """Normalised pixels [n 3 h w] -> pixels in 0..255, float32 [n h w 3], as engines take them."""
    mean, std = (np.asarray(values, np.float32) for values in of.config.preprocessing.normalisation)
    pixels = pixel_values.astype(np.float32, copy=False).transpose(0, 2, 3, 1)
    with np.errstate(over="ignore", invalid="ignore"):
        found = np.ascontiguousarray((pixels * std + mean) * np.float32(255))
    if not np.isfinite(found).all():  # an engine would cut them to 0..255, and give vectors of nothing
        refuse("pixels that are NaN or infinite", "expected numbers as the processor gives them, about -3 to 3")
    return found


def normalised(pixels: NDArray[np.uint8], of: Checkpoint) -> NDArray[np.float32]:
    """Pixels uint8 [h w 3] -> normalised, float32 [3 h w]."""
    mean, std = (np.asarray(values, np.float32) for values in of.config.preprocessing.normalisation)
    return np.ascontiguousarray(((pixels * np.float32(1 / 255) - mean) / std).transpose(2, 0, 1))


def _signature(name: str) -> Any:
    """What tells a folder or a file from itself after it was written again; None for what is no path."""
    path: Path = user_path(name, strict=False)
    try:
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        return tuple((file.name, file.stat().st_mtime_ns, file.stat().st_size) for file in files)
    except OSError:
        return None
