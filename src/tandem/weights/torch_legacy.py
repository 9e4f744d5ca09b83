"""The container of torch.save before 1.6: five pickles in a row (magic, version, system, object, storage keys), then
every storage's bytes.

Tensors are described before their bytes are reached, so the object's pickle runs last. What a pickle may say is
known to `unpickler`.
"""

import io
import mmap
import pickletools
import sys
from pathlib import Path
from typing import Any

import numpy as np

from tandem.errors import WeightsError, in_words
from tandem.weights.pickle_inspection import MAX_BYTES, MAX_OPCODES
from tandem.weights.unpickler import Archive, run, state_dict

_MAGIC = 0x1950A86A20F9469CFC6C


def read_legacy(path: Path, mapped: mmap.mmap) -> Archive:
    """Tensors of an old file. Raises `WeightsError` that names the file."""
    try:
        programs, position = [], 0
        for _ in range(5):
            end = _pickle_end(mapped, position)
            programs.append(mapped[position:end])
            position = end
            if len(programs) == 1 and _plain(path, programs[0]) != _MAGIC:
                raise WeightsError(
                    f"{path}: a plain pickle, not a file of torch.save; load it where it was made and save its "
                    "tensors with torch.save or as .safetensors"
                )
        swapped = (_plain(path, programs[2])["little_endian"]) != (sys.byteorder == "little")
        keys = [str(key) for key in _plain(path, programs[4])]
    except WeightsError:
        raise
    except Exception as error:
        raise WeightsError(f"{path}: truncated or damaged ({in_words(error)}); copy or download it again") from None
    dtypes = _legacy_dtypes(path, programs[3])
    storages: dict[str, np.ndarray] = {}
    for key in keys:
        if key not in dtypes:
            raise WeightsError(f"{path}: damaged: a storage {key!r} that no tensor uses")
        dtype = dtypes[key]
        count = int.from_bytes(mapped[position : position + 8], "big" if swapped else "little")
        position += 8
        if position + count * dtype.itemsize > len(mapped):
            raise WeightsError(f"{path}: truncated: a storage ends past the end of the file")
        array = np.frombuffer(mapped, dtype, count, position).copy()  # rarely aligned
        storages[key] = array.byteswap() if swapped and dtype.itemsize > 1 else array
        position += count * dtype.itemsize

    def load(key: str, dtype: np.dtype[Any], count: int) -> np.ndarray:
        if key not in storages or storages[key].size < count:
            raise WeightsError(f"{path}: truncated or damaged: storage {key!r} of {count} elements is missing")
        return storages[key]

    tensors, extra_keys = state_dict(path, run(path, programs[3], load, modules=False))
    return Archive(tensors, torchscript=False, extra_keys=extra_keys)


def _legacy_dtypes(path: Path, program: bytes) -> dict[str, np.dtype[Any]]:
    # The object runs once over empty memory, to learn what each storage holds.
    dtypes: dict[str, np.dtype[Any]] = {}

    def load(key: str, dtype: np.dtype[Any], count: int) -> np.ndarray:
        dtypes[key] = dtype
        return np.broadcast_to(np.zeros((), dtype), (count,))

    run(path, program, load, modules=False)
    return dtypes


def _pickle_end(mapped: mmap.mmap, start: int) -> int:
    program = io.BytesIO(mapped[start : start + MAX_BYTES])
    for count, _ in enumerate(pickletools.genops(program)):
        if count >= MAX_OPCODES:
            raise ValueError(f"a description of more than {MAX_OPCODES:,} instructions")
    return start + program.tell()


def _plain(path: Path, program: bytes) -> Any:
    def load(key: str, dtype: np.dtype[Any], count: int) -> np.ndarray:
        raise ValueError("an unexpected tensor")

    return run(path, program, load, modules=False)
