"""Tensors by name out of one file or its shards, whatever the container: safetensors, or a torch archive.

The container is told by the file's first bytes, since people rename files. Knows no architecture.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tandem.errors import WeightsError
from tandem.weights.arrays import map_file
from tandem.weights.json_files import check_regular, read_json

if TYPE_CHECKING:
    from tandem.weights.unpickler import Archive


@dataclass(frozen=True)
class TensorFile:
    """What a weights file holds, before anything is renamed."""

    tensors: dict[str, np.ndarray]
    metadata: dict[str, str] = field(default_factory=dict)  # of a safetensors header
    torchscript: bool = False
    extra_keys: tuple[str, ...] = ()  # keys beside the state dict of a training checkpoint


def read_tensor_file(path: Path) -> TensorFile:
    """Read one weights file, or all shards of an index. Raises `WeightsError` that names the file."""
    try:
        if path.name.endswith(".index.json"):
            return _read_shards(path)
        check_regular(path)
        with path.open("rb") as file:
            start = file.read(64)
        if not start:
            raise WeightsError(f"{path}: the file is empty; copy or download it again")
        if start.startswith(b"version https://git-lfs"):
            raise WeightsError(f"{path}: a Git LFS pointer, not the weights; run `git lfs pull` in its folder")
        # A safetensors file begins with a length, whose first bytes may look like any other container's.
        is_safetensors = start[5:9] == b"\0\0\0{"
        if not is_safetensors and (start[:2] == b"PK" or start[:1] == b"\x80"):
            archive = read_archive(path)
            return TensorFile(archive.tensors, torchscript=archive.torchscript, extra_keys=archive.extra_keys)
        if not is_safetensors and path.suffix != ".safetensors":
            raise WeightsError(
                f"{path}: expected safetensors or a file of torch.save; its first bytes are {start[:8]!r}"
            )
        from tandem.weights.safetensors_file import read_safetensors

        return TensorFile(*read_safetensors(path))
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error.strerror or error}") from None


def read_archive(path: Path) -> "Archive":
    """Read a `.pt`, `.bin` or `.ckpt` file. Raises `WeightsError` that names the file and what is wrong with it."""
    # Imported when such a file is read: most models are safetensors, and these bring zipfile and pickletools along.
    from tandem.weights.torch_legacy import read_legacy
    from tandem.weights.torch_zip import read_zip

    check_regular(path)
    mapped = map_file(path)
    if mapped[:4] == b"PK\x03\x04":
        return read_zip(path, mapped)
    if mapped[:1] == b"\x80":
        return read_legacy(path, mapped)
    raise WeightsError(f"{path}: expected a file of torch.save or torch.jit.save; its first bytes are {mapped[:8]!r}")


def first_present(folder: Path, names: tuple[str, ...]) -> Path | None:
    """The first of these files that the folder has."""
    return next((folder / name for name in names if (folder / name).is_file()), None)


def shard_names(index: dict[str, Any], source: Path) -> list[str]:
    """The files an index lists, in order. Refuses names that lead out of the folder."""
    listed = index.get("weight_map")
    if not isinstance(listed, dict) or not listed:
        raise WeightsError(f"{source}: expected a weight_map of tensors to files")
    names = sorted({str(name) for name in listed.values()})
    for name in names:
        if name in ("", ".", "..") or name != Path(name).name or "\\" in name:
            raise WeightsError(f"{source}: weight_map names {name!r}; expected a file in the same folder")
    return names


def _read_shards(index: Path) -> TensorFile:
    content = read_json(index)
    tensors: dict[str, np.ndarray] = {}
    for name in shard_names(content, index):
        shard = index.parent / name
        if not shard.is_file():
            raise WeightsError(f"{index}: shard {name} is missing; copy or download it too")
        tensors.update(read_tensor_file(shard).tensors)
    absent = [name for name in content["weight_map"] if name not in tensors]
    if absent:
        raise WeightsError(f"{index}: {len(absent)} tensors are in no shard, such as {absent[0]}")
    return TensorFile(tensors)
