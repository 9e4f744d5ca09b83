"""Files of `torch.save` and `torch.jit.save`, read without torch and without executing anything.

A checkpoint is a pickle beside raw bytes, and a pickle is a program. The reader here runs it on a machine that has
no instructions but these: rebuild a tensor from a storage, an ordered mapping, a module's attributes. Every name that
the pickle asks for is compared with that list before the first instruction runs; anything else is refused by name.
Storages are views on the mapped file. Knows no tensor names and no architecture.
"""

import io
import math
import mmap
import pickle
import pickletools
import struct
import sys
import zipfile
import zlib
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from tandem.errors import WeightsError
from tandem.weights.safetensors_file import map_file

_STORAGES: dict[str, np.dtype[Any]] = {
    "DoubleStorage": np.dtype("f8"),
    "FloatStorage": np.dtype("f4"),
    "HalfStorage": np.dtype("f2"),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "LongStorage": np.dtype("i8"),
    "IntStorage": np.dtype("i4"),
    "ShortStorage": np.dtype("i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
    "UntypedStorage": np.dtype("u1"),
}
# Values that checkpoints mention beside tensors; they become their own name.
_DTYPE_NAMES = "float64 float32 float16 bfloat16 half float double int64 int32 int16 int8 uint8 bool"
_LAYOUT_NAMES = "strided contiguous_format preserve_format channels_last"
_INERT = frozenset(f"torch.{name}" for names in (_DTYPE_NAMES, _LAYOUT_NAMES) for name in names.split())
_JIT_LISTS = frozenset(f"torch.jit._pickle.build_{kind}list" for kind in ("int", "double", "bool", "tensor"))
_MAX_PICKLE_BYTES = 256 * 2**20  # a description of tensors; the largest published one has 0.3 MB
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # the first value of a file written before torch 1.6


@dataclass(frozen=True)
class Archive:
    """What a torch file holds: tensors by dotted name, and what is known of how it was written."""

    tensors: dict[str, np.ndarray]
    torchscript: bool
    beside: tuple[str, ...]  # the keys beside the state dict: "epoch", "optimizer", ...


def read_archive(path: Path) -> Archive:
    """Read a `.pt`, `.bin` or `.ckpt` file. Raises `WeightsError` that names the file and what is wrong with it."""
    mapped = map_file(path)
    if mapped[:4] == b"PK\x03\x04" or zipfile.is_zipfile(path):
        return _read_zip(path, mapped)
    if mapped[:1] == b"\x80":
        return _read_legacy(path, mapped)
    raise WeightsError(f"{path}: expected a file of torch.save or torch.jit.save; its first bytes are {mapped[:8]!r}")


# --- zip archives ------------------------------------------------------------------------------------------------


def _read_zip(path: Path, mapped: mmap.mmap) -> Archive:
    try:
        with zipfile.ZipFile(path) as archive:
            return _read_open_zip(path, mapped, archive)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, struct.error) as error:
        raise WeightsError(f"{path}: truncated or damaged archive ({error}); copy or download it again") from None


def _read_open_zip(path: Path, mapped: mmap.mmap, archive: zipfile.ZipFile) -> Archive:
    entries = {info.filename: info for info in archive.infolist()}
    found = [name for name in entries if name == "data.pkl" or name.endswith("/data.pkl")]
    if len(found) != 1:
        raise WeightsError(f"{path}: expected an archive of torch.save with one data.pkl, found {len(found)}")
    folder = found[0].removesuffix("data.pkl")
    torchscript = f"{folder}constants.pkl" in entries
    swapped = _byte_order(archive, entries, folder) != sys.byteorder
    if entries[found[0]].file_size > _MAX_PICKLE_BYTES:
        raise WeightsError(f"{path}: data.pkl has {entries[found[0]].file_size} bytes: no checkpoint needs that many")

    def load(key: str, dtype: np.dtype[Any], count: int) -> np.ndarray:
        # TorchScript keeps what a method mentions under constants/; a few writers share it with the attributes.
        info = entries.get(f"{folder}data/{key}") or entries.get(f"{folder}constants/{key}")
        if info is None:
            raise WeightsError(f"{path}: truncated or damaged: no {folder}data/{key} in the archive")
        if info.file_size < count * dtype.itemsize:
            raise WeightsError(
                f"{path}: {info.filename}: expected {count * dtype.itemsize} bytes, it has {info.file_size}"
            )
        array = _entry_array(path, mapped, archive, info, dtype, count)
        return array.byteswap() if swapped and dtype.itemsize > 1 else array

    root = _run(path, archive.read(found[0]), load, modules=torchscript)
    if isinstance(root, _Module):
        return Archive(_module_tensors(root), torchscript=True, beside=())
    tensors, beside = _state_dict(path, root)
    return Archive(tensors, torchscript=False, beside=beside)


def _byte_order(archive: zipfile.ZipFile, entries: dict[str, zipfile.ZipInfo], folder: str) -> str:
    info = entries.get(f"{folder}byteorder")
    return archive.read(info)[:6].decode("ascii", "replace") if info else "little"


def _entry_array(
    path: Path, mapped: mmap.mmap, archive: zipfile.ZipFile, info: zipfile.ZipInfo, dtype: np.dtype[Any], count: int
) -> np.ndarray:
    if info.compress_type != zipfile.ZIP_STORED:  # torch stores; an archive that was packed again may not
        return np.frombuffer(bytearray(archive.read(info)), dtype, count)
    local = mapped[info.header_offset : info.header_offset + 30]
    if len(local) < 30 or local[:4] != b"PK\x03\x04":
        raise WeightsError(f"{path}: damaged archive: no entry where {info.filename} should be")
    name_bytes, extra_bytes = struct.unpack("<HH", local[26:30])
    start = info.header_offset + 30 + name_bytes + extra_bytes
    if start + count * dtype.itemsize > len(mapped):
        raise WeightsError(f"{path}: truncated: {info.filename} ends past the end of the file")
    view = np.frombuffer(mapped, dtype, count, start)
    return view if view.flags.aligned else view.copy()


# --- what a pickle may name --------------------------------------------------------------------------------------


class _Module:
    """A TorchScript object: its attributes and nothing of its code."""

    def __init__(self) -> None:
        self.attributes: dict[str, Any] = {}

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, dict):
            raise pickle.UnpicklingError("a module's state that is no mapping")
        self.attributes = state


class _Allowed:
    """A function the pickle may call. No plain function: a pickle could write attributes into one."""

    __slots__ = ("_call",)
    _call: Callable[..., Any]

    def __init__(self, call: Callable[..., Any]) -> None:
        object.__setattr__(self, "_call", call)

    def __call__(self, *arguments: Any) -> Any:
        return self._call(*arguments)

    def __setattr__(self, name: str, value: Any) -> None:
        raise pickle.UnpicklingError("an assignment to a function")


@dataclass(frozen=True)
class _Storage:
    array: np.ndarray


def _rebuild_tensor(storage: Any, offset: int, size: Any, stride: Any, *_: Any) -> np.ndarray:
    """Shape and strides laid over a storage, checked against its bounds: numpy would not check them."""
    if not isinstance(storage, _Storage):
        raise pickle.UnpicklingError("a tensor without a storage")
    shape, strides = [int(n) for n in size], [int(n) for n in stride]
    if len(shape) != len(strides) or min([0, int(offset), *shape, *strides]) < 0:
        raise pickle.UnpicklingError(f"a tensor of shape {shape} and strides {strides}")
    count, held = math.prod(shape), storage.array.size
    last = int(offset) + sum((n - 1) * step for n, step in zip(shape, strides, strict=True)) if count else -1
    if last >= held or count > max(held, 1):
        raise pickle.UnpicklingError(f"a tensor of shape {shape}, strides {strides} in a storage of {held} elements")
    itemsize = storage.array.itemsize
    return np.lib.stride_tricks.as_strided(
        storage.array[int(offset) :] if count else storage.array[:0], shape, [step * itemsize for step in strides]
    )


def _first(value: Any, *_: Any) -> Any:
    return value


def _callables() -> dict[str, Any]:
    # Built for each file, so that nothing a pickle does to them outlives it.
    allowed: dict[str, Any] = {
        "torch._utils._rebuild_tensor": _Allowed(_rebuild_tensor),
        "torch._utils._rebuild_tensor_v2": _Allowed(_rebuild_tensor),
        "torch._utils._rebuild_parameter": _Allowed(_first),
        "torch._utils._rebuild_parameter_with_state": _Allowed(_first),
        "torch.Size": _Allowed(lambda sizes=(): tuple(sizes)),
        "torch.device": _Allowed(lambda *where: ":".join(map(str, where))),
        "torch.serialization._get_layout": _Allowed(str),
        "torch.jit._pickle.restore_type_tag": _Allowed(_first),
        "collections.OrderedDict": OrderedDict,
        "collections.defaultdict": _Allowed(lambda *_: defaultdict(dict)),
        "builtins.dict": _Allowed(lambda: {}),
        "__builtin__.dict": _Allowed(lambda: {}),
        "builtins.set": _Allowed(lambda items=(): set(items)),
        "__builtin__.set": _Allowed(lambda items=(): set(items)),
    }
    allowed.update({name: name for name in _INERT})
    allowed.update({name: _Allowed(list) for name in _JIT_LISTS})
    for name, dtype in _STORAGES.items():
        allowed[f"torch.{name}"] = allowed[f"torch.storage.{name}"] = dtype
    return allowed


class _Machine(pickle.Unpickler):
    def __init__(
        self, path: Path, program: bytes, load: Callable[[str, np.dtype[Any], int], np.ndarray], *, modules: bool
    ) -> None:
        super().__init__(io.BytesIO(program))
        self.path, self.load_storage, self.modules = path, load, modules
        self.allowed = _callables()
        self.module = type("Module", (_Module,), {})
        self.storages: dict[tuple[str, str], _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}"
        if full in self.allowed:
            return self.allowed[full]
        if self.modules and (module == "__torch__" or module.startswith("__torch__.")):
            return self.module
        raise _refusal(self.path, full)

    def persistent_load(self, pid: Any) -> _Storage:
        if not isinstance(pid, tuple) or len(pid) not in (5, 6) or pid[0] != "storage":
            raise pickle.UnpicklingError(f"a reference that is no storage: {str(pid)[:60]}")
        dtype, key, count = pid[1], str(pid[2]), int(pid[4])
        if len(pid) == 6 and pid[5] is not None:
            raise pickle.UnpicklingError("a view of a storage, as torch before 0.4 wrote them")
        if not isinstance(dtype, np.dtype) or count < 0:
            raise pickle.UnpicklingError(f"a storage of {str(dtype)[:40]} with {count} elements")
        # Several tensors may share a storage: it is looked up once.
        if (key, dtype.name) not in self.storages:
            self.storages[key, dtype.name] = _Storage(self.load_storage(key, dtype, count))
        return self.storages[key, dtype.name]


def _refusal(path: Path, name: str) -> WeightsError:
    return WeightsError(
        f"{path}: refused: the file asks for {name!r}, which is no part of a tensor, and nothing of it was run; "
        "if you trust its author, load it with torch and save its state_dict() alone"
    )


def _run(path: Path, program: bytes, load: Callable[[str, np.dtype[Any], int], np.ndarray], *, modules: bool) -> Any:
    try:
        _inspect(path, program, modules=modules)
        return _Machine(path, program, load, modules=modules).load()
    except WeightsError:
        raise
    except Exception as error:
        # A damaged pickle fails in any way a stack machine can: KeyError, IndexError, MemoryError, ...
        raise WeightsError(f"{path}: damaged or unknown contents ({type(error).__name__}: {error})") from None


def _inspect(path: Path, program: bytes, *, modules: bool) -> None:
    """Refuse before anything runs: foreign names, and memo slots that would allocate gigabytes."""
    allowed = _callables()
    for opcode, argument, _ in pickletools.genops(program):
        if opcode.name in ("GLOBAL", "INST"):
            module, _, name = str(argument).partition(" ")
            inside = modules and (module == "__torch__" or module.startswith("__torch__."))
            if f"{module}.{name}" not in allowed and not inside:
                raise _refusal(path, f"{module}.{name}")
        elif opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and int(argument or 0) > len(program):
            raise pickle.UnpicklingError(f"memo slot {argument}")
        elif opcode.name in ("EXT1", "EXT2", "EXT4"):
            raise _refusal(path, f"extension {argument}")


# --- from objects to named tensors ---------------------------------------------------------------------------------


def _module_tensors(module: _Module, prefix: str = "", depth: int = 0) -> dict[str, np.ndarray]:
    if depth > 64:
        raise WeightsError(f"{prefix[:80]}...: modules nested in themselves")
    tensors: dict[str, np.ndarray] = {}
    for name, value in module.attributes.items():
        if isinstance(value, np.ndarray):
            tensors[f"{prefix}{name}"] = _dense(value)
        elif isinstance(value, _Module):
            tensors.update(_module_tensors(value, f"{prefix}{name}.", depth + 1))
    return tensors


def _state_dict(path: Path, root: Any) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """The mapping of tensors inside what was saved, however it is wrapped, and the keys beside it."""
    beside: list[str] = []
    value = root
    for _ in range(4):
        if not isinstance(value, dict):
            break
        tensors = {str(name): _dense(array) for name, array in value.items() if isinstance(array, np.ndarray)}
        inner = next((key for key in _WRAPPERS if isinstance(value.get(key), dict)), None)
        # A checkpoint may keep a tensor or two (a random state) beside its state dict; a state dict holds no mappings.
        if tensors and inner is None:
            return tensors, tuple(beside)
        if inner is None:
            break
        beside += [str(key) for key in value if key != inner]
        value = value[inner]
    found = ", ".join(map(str, list(value)[:8])) if isinstance(value, dict) else type(value).__name__
    raise WeightsError(
        f"{path}: expected tensors by name, or a mapping with one of {', '.join(_WRAPPERS)}; found {found or 'nothing'}"
    )


_WRAPPERS = ("state_dict", "model_state_dict", "model", "module")


def _dense(array: np.ndarray) -> np.ndarray:
    return array if array.flags.c_contiguous else np.ascontiguousarray(array).reshape(array.shape)


# --- files written before torch 1.6 --------------------------------------------------------------------------------


def _read_legacy(path: Path, mapped: mmap.mmap) -> Archive:
    """Five pickles in a row (magic, version, system, object, storage keys), then every storage's bytes.

    Tensors are described before their bytes are reached, so the object's pickle runs last.
    """
    try:
        programs, position = [], 0
        for _ in range(5):
            end = _pickle_end(mapped, position)
            programs.append(mapped[position:end])
            position = end
            if len(programs) == 1 and _plain(path, programs[0]) != _LEGACY_MAGIC:
                raise WeightsError(
                    f"{path}: a plain pickle, not a file of torch.save; load it where it came from and save its "
                    "tensors with torch.save or as .safetensors"
                )
        swapped = (_plain(path, programs[2])["little_endian"]) != (sys.byteorder == "little")
        keys = [str(key) for key in _plain(path, programs[4])]
    except WeightsError:
        raise
    except Exception as error:
        raise WeightsError(f"{path}: truncated or damaged ({error}); copy or download it again") from None
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
            raise WeightsError(f"{path}: truncated or damaged: storage {key!r} of {count} elements is not there")
        return storages[key]

    tensors, beside = _state_dict(path, _run(path, programs[3], load, modules=False))
    return Archive(tensors, torchscript=False, beside=beside)


def _legacy_dtypes(path: Path, program: bytes) -> dict[str, np.dtype[Any]]:
    # The object runs once over empty memory, to learn what each storage holds.
    dtypes: dict[str, np.dtype[Any]] = {}

    def load(key: str, dtype: np.dtype[Any], count: int) -> np.ndarray:
        dtypes[key] = dtype
        return np.broadcast_to(np.zeros((), dtype), (count,))

    _run(path, program, load, modules=False)
    return dtypes


def _pickle_end(mapped: mmap.mmap, start: int) -> int:
    mapped.seek(start)
    for _ in pickletools.genops(mapped):  # type: ignore[arg-type]
        pass
    return mapped.tell()


def _plain(path: Path, program: bytes) -> Any:
    def load(key: str, dtype: np.dtype[Any], count: int) -> np.ndarray:
        raise pickle.UnpicklingError("a tensor where none belongs")

    return _run(path, program, load, modules=False)
