"""The safetensors format: arrays out of a mapped file, and back into one.

Reading is our own, since numpy views on a private mapping cost neither a copy nor twice the memory, which a library
that returns fresh arrays does; the format is an 8-byte length, a JSON header and raw bytes. Writing is the library's.
Knows names, dtypes, shapes and bytes. It does not know what the tensors are for.
"""

import json
import math
import mmap
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from tandem import fields
from tandem.errors import WeightsError, in_words
from tandem.weights.arrays import BFLOAT16, map_file
from tandem.weights.json_files import check_regular, without_duplicates

_DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
if BFLOAT16 is not None:
    _DTYPES["BF16"] = BFLOAT16
# The format allows 100 MB, which Python's objects make gigabytes of; the largest of a published model has 0.3 MB
_MAX_HEADER_BYTES = 8 * 2**20
_MAX_RANK = 16
_LARGEST = 2**48  # of a dimension, and of an offset


def read_safetensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """All tensors, as views on the mapped file, and the header's metadata.

    Raises `WeightsError` that names the file, the tensor, what the header promises and what is there.
    """
    check_regular(path)
    mapped = map_file(path)
    header, start = _header(path, mapped)
    metadata = header.pop("__metadata__", None) or {}
    if not isinstance(metadata, dict):
        raise WeightsError(f"{path}: damaged safetensors header: __metadata__ is not a mapping")
    ranges: list[tuple[int, int, str]] = []
    tensors = {name: _tensor(path, mapped, start, name, entry, ranges) for name, entry in header.items()}
    ranges.sort()
    for (_, end, name), (begin, _, other) in pairwise(ranges):
        if begin < end:
            raise WeightsError(f"{path}: damaged safetensors header: {name:.80} and {other:.80} overlap")
    return tensors, {str(key): str(value) for key, value in metadata.items()}


def _header(path: Path, mapped: mmap.mmap) -> tuple[dict[str, Any], int]:
    size = len(mapped)
    length = int.from_bytes(mapped[:8], "little") if size >= 8 else -1
    if _MAX_HEADER_BYTES < length <= size - 8:
        raise WeightsError(
            f"{path}: a safetensors header of {length:,} bytes: expected at most {_MAX_HEADER_BYTES:,}; the file is "
            "damaged, or holds something else than a model"
        )
    if not 2 <= length <= size - 8:
        raise WeightsError(
            f"{path}: not a safetensors file, or a truncated one ({size} bytes); copy or download it again"
        )
    try:
        header = json.loads(mapped[8 : 8 + length], object_pairs_hook=without_duplicates)
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path}: damaged safetensors header: {in_words(error)}") from None
    if not isinstance(header, dict):
        raise WeightsError(f"{path}: damaged safetensors header: expected a mapping of tensors")
    return header, 8 + length


def _tensor(
    path: Path, mapped: mmap.mmap, start: int, name: str, entry: Any, ranges: list[tuple[int, int, str]]
) -> np.ndarray:
    try:
        dtype_name, shape = str(entry["dtype"]), list(entry["shape"])
        begin, end = entry["data_offsets"]
    except (KeyError, TypeError, ValueError):
        raise WeightsError(f"{path}: damaged safetensors header: {name:.80}: {fields.shown(entry)}") from None
    if not all(type(n) is int and 0 <= n < _LARGEST for n in (*shape, begin, end)) or len(shape) > _MAX_RANK:
        raise _impossible(path, name, shape, (begin, end))
    dtype = _DTYPES.get(dtype_name)
    if dtype is None:
        raise WeightsError(f"{path}: {name:.80} has dtype {dtype_name:.40}; expected one of {', '.join(_DTYPES)}")
    if end - begin != math.prod(shape) * dtype.itemsize:
        raise WeightsError(
            f"{path}: {name:.80}: expected {math.prod(shape) * dtype.itemsize} bytes for {dtype_name} {shape}, "
            f"the header gives {begin}..{end}"
        )
    if start + end > len(mapped):
        raise WeightsError(
            f"{path}: truncated: {name:.80} ends at byte {start + end}, the file has {len(mapped)}; "
            "copy or download it again"
        )
    if end > begin:
        ranges.append((begin, end, name))
        view = np.frombuffer(mapped, dtype, math.prod(shape), start + begin).reshape(shape)
    else:
        view = _empty(path, name, shape, dtype)
    if not view.flags.aligned:
        return view.copy()
    view.flags.writeable = False  # lets an engine release its pages (engine/memory.py)
    return view


def _impossible(path: Path, name: str, shape: list[Any], offsets: tuple[Any, Any]) -> WeightsError:
    return WeightsError(
        f"{path}: damaged safetensors header: {name:.80}: impossible numbers: "
        f"the shape {fields.shown(shape)} and bytes {fields.shown(offsets[0])} to {fields.shown(offsets[1])}"
    )


def _empty(path: Path, name: str, shape: list[int], dtype: np.dtype[Any]) -> np.ndarray:
    try:
        return np.zeros(shape, dtype)
    except ValueError:  # its other dimensions have more elements than there are addresses
        raise _impossible(path, name, shape, (0, 0)) from None


def write_safetensors(path: Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """Write all tensors, bit for bit, with string metadata in the header."""
    from safetensors.numpy import save_file

    path.touch()
    mode = path.stat().st_mode  # what the umask allows; the library would leave a file that only its owner can read
    # order="C" alone would turn a scalar into one dimension (ascontiguousarray); reshape restores it.
    save_file(
        {name: np.ascontiguousarray(array).reshape(array.shape) for name, array in tensors.items()},
        path,
        metadata=dict(metadata),
    )
    path.chmod(mode)


def safetensors_bytes(tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> bytes:
    """A small file as bytes, the same for equal tensors and metadata: the library's metadata is in a random order."""
    from safetensors.numpy import save

    content = save({name: np.ascontiguousarray(array) for name, array in tensors.items()}, dict(metadata))
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8:start]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # so that the tensors are aligned
    return len(header).to_bytes(8, "little") + header + content[start:]
