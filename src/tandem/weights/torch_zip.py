"""The zip container of torch.save (since 1.6) and torch.jit.save: `data.pkl` beside raw storages under `data/`.

Stored entries become views on the mapped file. What `data.pkl` may say is known to `unpickler`.
"""

import mmap
import struct
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from tandem.errors import WeightsError, in_words
from tandem.weights.pickle_inspection import MAX_BYTES
from tandem.weights.unpickler import Archive, Module, module_tensors, run, state_dict

_MAX_DIRECTORY_BYTES = 8 * 2**20  # of the archive's list of entries: some 120 for each tensor
_END, _END_64 = b"PK\5\6", b"PK\6\6"


def read_zip(path: Path, mapped: mmap.mmap) -> Archive:
    """Tensors of a zip archive. Raises `WeightsError` that names the file."""
    _check_directory(path, mapped)
    try:
        with zipfile.ZipFile(path) as archive:
            return _read_open_zip(path, mapped, archive)
    except WeightsError:
        raise
    except Exception as error:
        # zipfile meets damage with whatever its parsing runs into: BadZipFile, UnicodeDecodeError, RuntimeError, ...
        raise WeightsError(
            f"{path}: truncated or damaged archive ({in_words(error)}); copy or download it again"
        ) from None


def _read_open_zip(path: Path, mapped: mmap.mmap, archive: zipfile.ZipFile) -> Archive:
    entries = {info.filename: info for info in archive.infolist()}
    found = [name for name in entries if name == "data.pkl" or name.endswith("/data.pkl")]
    if len(found) != 1:
        raise WeightsError(f"{path}: expected an archive of torch.save with one data.pkl, found {len(found)}")
    folder = found[0].removesuffix("data.pkl")
    torchscript = f"{folder}constants.pkl" in entries
    swapped = _byte_order(path, archive, entries, folder) != sys.byteorder
    _check_stored(path, entries[found[0]])
    if entries[found[0]].file_size > MAX_BYTES:
        raise WeightsError(f"{path}: data.pkl has {entries[found[0]].file_size:,} bytes: too many for a checkpoint")

    def load(key: str, dtype: np.dtype[Any], count: int) -> np.ndarray:
        # TorchScript keeps what a method mentions under constants/; a few writers share it with the attributes.
        info = entries.get(f"{folder}data/{key}") or entries.get(f"{folder}constants/{key}")
        if info is None:
            raise WeightsError(f"{path}: truncated or damaged: no {folder}data/{key} in the archive")
        if info.file_size < count * dtype.itemsize:
            raise WeightsError(
                f"{path}: {info.filename}: expected {count * dtype.itemsize} bytes, got {info.file_size}"
            )
        _check_stored(path, info)
        array = _entry_array(path, mapped, info, dtype, count)
        return array.byteswap() if swapped and dtype.itemsize > 1 else array

    root = run(path, archive.read(found[0]), load, modules=torchscript)
    if isinstance(root, Module):
        return Archive(module_tensors(path, root), torchscript=True, extra_keys=())
    tensors, extra_keys = state_dict(path, root)
    return Archive(tensors, torchscript=False, extra_keys=extra_keys)


def _check_directory(path: Path, mapped: mmap.mmap) -> None:
    """Refuse an archive of so many entries that listing them would take minutes."""
    tail = mapped[max(0, len(mapped) - 2**16 - 22) :]
    at = tail.rfind(_END)
    size = int.from_bytes(tail[at + 12 : at + 16], "little") if at >= 0 else 0
    if size == 0xFFFFFFFF and (at := tail.rfind(_END_64)) >= 0:
        size = int.from_bytes(tail[at + 40 : at + 48], "little")
    if size > _MAX_DIRECTORY_BYTES:
        raise WeightsError(
            f"{path}: the archive's list of entries has {size:,} bytes: too many for a checkpoint, or damaged"
        )


def _check_stored(path: Path, info: zipfile.ZipInfo) -> None:
    """What a compressed entry unfolds to is known only when it is unpacked; torch compresses code alone."""
    if info.compress_type != zipfile.ZIP_STORED:
        raise WeightsError(
            f"{path}: {info.filename[:200]} is compressed, which torch.save never does: unpack the archive, and pack "
            "it again without compression (zip -0)"
        )


def _byte_order(path: Path, archive: zipfile.ZipFile, entries: dict[str, zipfile.ZipInfo], folder: str) -> str:
    info = entries.get(f"{folder}byteorder")
    if info is None:
        return "little"
    _check_stored(path, info)
    with archive.open(info) as file:
        return file.read(6).decode("ascii", "replace")


def _entry_array(path: Path, mapped: mmap.mmap, info: zipfile.ZipInfo, dtype: np.dtype[Any], count: int) -> np.ndarray:
    local = mapped[info.header_offset : info.header_offset + 30]
    if len(local) < 30 or local[:4] != b"PK\x03\x04":
        raise WeightsError(f"{path}: damaged archive: {info.filename} is missing")
    name_bytes, extra_bytes = struct.unpack("<HH", local[26:30])
    start = info.header_offset + 30 + name_bytes + extra_bytes
    if start + count * dtype.itemsize > len(mapped):
        raise WeightsError(f"{path}: truncated: {info.filename} ends past the end of the file")
    view = np.frombuffer(mapped, dtype, count, start)
    return view if view.flags.aligned else view.copy()
