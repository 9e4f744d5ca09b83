"""The pickles inside files of `torch.save` and `torch.jit.save`, read without torch and without executing anything.

A checkpoint is a pickle beside raw bytes, and a pickle is a program. The unpickler here can only rebuild a tensor from
a storage, an ordered mapping, and a module's attributes. Every name that the pickle asks for is compared with that
list before the first instruction runs; anything else is refused by name. Where the bytes are is known to the
containers, `torch_zip` and `torch_legacy`. Knows no tensor names and no architecture.
"""

import io
import math
import pickle
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tandem.errors import WeightsError, in_words
from tandem.weights import pickle_inspection
from tandem.weights.arrays import BFLOAT16

_STORAGES: dict[str, np.dtype[Any]] = {
    "DoubleStorage": np.dtype("f8"),
    "FloatStorage": np.dtype("f4"),
    "HalfStorage": np.dtype("f2"),
    "LongStorage": np.dtype("i8"),
    "IntStorage": np.dtype("i4"),
    "ShortStorage": np.dtype("i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
    "UntypedStorage": np.dtype("u1"),
}
if BFLOAT16 is not None:
    _STORAGES["BFloat16Storage"] = BFLOAT16
# Values that checkpoints mention beside tensors; they become their own name.
_DTYPE_NAMES = "float64 float32 float16 bfloat16 half float double int64 int32 int16 int8 uint8 bool"
_LAYOUT_NAMES = "strided contiguous_format preserve_format channels_last"
_INERT = frozenset(f"torch.{name}" for names in (_DTYPE_NAMES, _LAYOUT_NAMES) for name in names.split())
_MAX_MODULES = 10_000  # the largest published archive has about 1,500
_MAX_NAME = 1_000  # characters of a tensor's dotted name
_MAX_RANK = 16
_SHARED = 2  # times the bytes of all storages that tensors may have together: some models tie two of theirs
_SPARE_BYTES = 2**20
_JIT_LISTS = frozenset(f"torch.jit._pickle.build_{kind}list" for kind in ("int", "double", "bool", "tensor"))


@dataclass(frozen=True)
class Archive:
    """What a torch file holds: tensors by dotted name, and what is known of how it was written."""

    tensors: dict[str, np.ndarray]
    torchscript: bool
    extra_keys: tuple[str, ...]  # the keys beside the state dict: "epoch", "optimizer", ...


Load = Callable[[str, np.dtype[Any], int], np.ndarray]  # storage key, dtype, elements -> its array


# --- what a pickle may name --------------------------------------------------------------------------------------


class Module:
    """A TorchScript object: its attributes and nothing of its code."""

    def __init__(self) -> None:
        self.attributes: dict[str, Any] = {}

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, dict):
            raise pickle.UnpicklingError("a module's state that is not a mapping")
        self.attributes = state


class _Sealed:
    """What a pickle may hold but not change: it can set the state of any object, functions and arrays included."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError(f"an assignment to a {type(self).__name__.strip('_').lower()}")


@dataclass(frozen=True, slots=True)
class _Function(_Sealed):
    call: Callable[..., Any]

    def __call__(self, *arguments: Any) -> Any:
        return self.call(*arguments)

    __setstate__ = _Sealed.__setstate__  # slots=True would add one that works


@dataclass(frozen=True, slots=True)
class _Type(_Sealed):
    dtype: np.dtype[Any]
    __setstate__ = _Sealed.__setstate__


@dataclass(frozen=True, slots=True)
class _Storage(_Sealed):
    array: np.ndarray
    __setstate__ = _Sealed.__setstate__


@dataclass(frozen=True, slots=True)
class _Tensor(_Sealed):
    array: np.ndarray
    storage: _Storage
    __setstate__ = _Sealed.__setstate__


def _rebuild_tensor(storage: Any, offset: int, size: Any, stride: Any, *_: Any) -> _Tensor:
    """Shape and strides laid over a storage, checked against its bounds: numpy would not check them."""
    if not isinstance(storage, _Storage):
        raise pickle.UnpicklingError("a tensor without a storage")
    shape, strides = [int(n) for n in size], [int(n) for n in stride]
    if len(shape) > _MAX_RANK:
        raise pickle.UnpicklingError(f"a tensor of {len(shape):,} dimensions")
    if len(shape) != len(strides) or min([0, int(offset), *shape, *strides]) < 0:
        raise pickle.UnpicklingError(f"a tensor of shape {shape} and strides {strides}")
    count, held = math.prod(shape), storage.array.size
    last = int(offset) + sum((n - 1) * step for n, step in zip(shape, strides, strict=True)) if count else -1
    if last >= held or count > max(held, 1):
        raise pickle.UnpicklingError(f"a tensor of shape {shape}, strides {strides} in a storage of {held} elements")
    itemsize = storage.array.itemsize
    start = storage.array[int(offset) :] if count else storage.array[:0]
    view = np.lib.stride_tricks.as_strided(start, shape, [step * itemsize for step in strides])
    return _Tensor(view, storage)


def _first(value: Any, *_: Any) -> Any:
    return value


def _callables() -> dict[str, Any]:
    # Built for each file, so that nothing a pickle does to them outlives it.
    allowed: dict[str, Any] = {
        "torch._utils._rebuild_tensor": _Function(_rebuild_tensor),
        "torch._utils._rebuild_tensor_v2": _Function(_rebuild_tensor),
        "torch._utils._rebuild_parameter": _Function(_first),
        "torch._utils._rebuild_parameter_with_state": _Function(_first),
        "torch.Size": _Function(lambda sizes=(): tuple(sizes)),
        "torch.device": _Function(lambda *_: "device"),
        "torch.serialization._get_layout": _Function(lambda *_: "layout"),
        "torch.jit._pickle.restore_type_tag": _Function(_first),
        "collections.OrderedDict": OrderedDict,
        "collections.defaultdict": _Function(lambda *_: defaultdict(dict)),
        "builtins.dict": _Function(lambda: {}),
        "__builtin__.dict": _Function(lambda: {}),
        "builtins.set": _Function(lambda items=(): set(items)),
        "__builtin__.set": _Function(lambda items=(): set(items)),
    }
    # What the first files of textual inversion keep tensors in: as of a module, its attributes are all that is read
    allowed["torch.nn.modules.container.ParameterDict"] = type("ParameterDict", (Module,), {})
    allowed.update({name: name for name in _INERT})
    allowed.update({name: _Function(list) for name in _JIT_LISTS})
    for name, dtype in _STORAGES.items():
        allowed[f"torch.{name}"] = allowed[f"torch.storage.{name}"] = _Type(dtype)
    return allowed


class RestrictedUnpickler(pickle.Unpickler):
    """Admits the names of `_callables` and, with `modules`, TorchScript's classes; refuses any other by name."""

    def __init__(self, path: Path, program: bytes, load: Load, *, modules: bool) -> None:
        super().__init__(io.BytesIO(program))
        self.path, self.load_storage, self.modules = path, load, modules
        self.allowed = _callables()
        self.module = type("Module", (Module,), {})
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
            raise pickle.UnpicklingError("a reference that is not a storage")
        kind, key, count = pid[1], pid[2], pid[4]
        if len(pid) == 6 and pid[5] is not None:
            raise pickle.UnpicklingError("a view of a storage, as torch before 0.4 wrote them")
        if not isinstance(kind, _Type) or not isinstance(key, str) or not isinstance(count, int) or count < 0:
            raise pickle.UnpicklingError("a storage without a type, key or size")
        dtype = kind.dtype
        # Several tensors may share a storage: it is looked up once.
        if (key, dtype.name) not in self.storages:
            self.storages[key, dtype.name] = _Storage(self.load_storage(key, dtype, count))
        return self.storages[key, dtype.name]


def _refusal(path: Path, name: str) -> WeightsError:
    return WeightsError(
        f"{path}: refused: the file asks for {name[:200]!r}, which is not part of a tensor; nothing was run. "
        "If you trust its author, load it with torch and save only its state_dict()"
    )


def run(path: Path, program: bytes, load: Load, *, modules: bool) -> Any:
    """What the pickle describes. `modules` admits TorchScript's classes, as mappings of attributes."""
    try:
        _inspect(path, program, modules=modules)
        return RestrictedUnpickler(path, program, load, modules=modules).load()
    except WeightsError:
        raise
    except Exception as error:
        # A damaged pickle fails in any way a stack machine can: KeyError, IndexError, MemoryError, ...
        raise WeightsError(f"{path}: damaged or unknown contents ({in_words(error)})") from None


def _inspect(path: Path, program: bytes, *, modules: bool) -> None:
    """Refuse before anything runs: foreign names, and what would take more than tensors do."""
    allowed = _callables()

    def check_name(name: str) -> None:
        inside = modules and (name.startswith("__torch__."))
        if name not in allowed and not inside:
            raise _refusal(path, name)

    pickle_inspection.check(program, check_name)


# --- from objects to named tensors ---------------------------------------------------------------------------------


def module_tensors(path: Path, root: Module) -> dict[str, np.ndarray]:
    """Tensors of a tree of modules under dotted names."""
    tensors: dict[str, _Tensor] = {}
    waiting = [("", root)]
    visits = 0
    while waiting:
        prefix, module = waiting.pop()
        visits += 1
        if visits > _MAX_MODULES:
            raise WeightsError(f"{path}: more than {_MAX_MODULES} modules, or some nested in themselves")
        for name, value in module.attributes.items():
            if not isinstance(value, _Tensor | Module):
                continue
            if not isinstance(name, str) or len(prefix) + len(name) > _MAX_NAME:
                raise WeightsError(
                    f"{path}: a tensor's name of more than {_MAX_NAME:,} characters, or modules nested in themselves"
                )
            if isinstance(value, _Tensor):
                tensors[f"{prefix}{name}"] = value
            else:
                waiting.append((f"{prefix}{name}.", value))
    return _arrays(path, tensors.items())


def state_dict(path: Path, root: Any) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """The mapping of tensors inside what was saved, however it is wrapped, and the keys beside it."""
    extra_keys: list[str] = []
    value = root
    for _ in range(4):
        if not isinstance(value, dict):
            break
        tensors = _named(value)
        inner = next((key for key in _WRAPPERS if isinstance(_mapping(value.get(key)), dict)), None)
        # A checkpoint may keep a tensor or two (a random state) beside its state dict; a state dict holds no mappings.
        if tensors and inner is None:
            return _arrays(path, tensors), tuple(extra_keys)
        if inner is None:
            break
        extra_keys += [key for key in value if isinstance(key, str) and key != inner]
        value = _mapping(value[inner])
    found = (
        ", ".join(key[:60] for key in list(value)[:8] if isinstance(key, str))
        if isinstance(value, dict)
        else type(value).__name__
    )
    raise WeightsError(
        f"{path}: expected tensors by name, or a mapping with one of {', '.join(_WRAPPERS)}; found {found or 'nothing'}"
    )


def _mapping(value: Any) -> Any:
    """The parameters of a module; anything else as it is."""
    return value.attributes.get("_parameters") if isinstance(value, Module) else value


def _named(value: dict[Any, Any]) -> list[tuple[str, _Tensor]]:
    return [(name, one) for name, one in value.items() if isinstance(name, str) and isinstance(one, _Tensor)]


# `string_to_param`: embeddings that the web UIs learnt
_WRAPPERS = ("state_dict", "model_state_dict", "model", "module", "string_to_param")


def _arrays(path: Path, tensors: Iterable[tuple[str, _Tensor]]) -> dict[str, np.ndarray]:
    """Tensors as arrays, if they do not have far more elements than their storages: a file could promise any number."""
    found = dict(tensors)
    storages = {id(each.storage): each.storage.array.nbytes for each in found.values()}
    held, total = sum(storages.values()), sum(each.array.nbytes for each in found.values())
    if total > _SHARED * held + _SPARE_BYTES:
        raise WeightsError(
            f"{path}: refused: tensors of {total:,} bytes that overlap in {held:,}; save them with a copy of each"
        )
    return {name: _dense(each.array) for name, each in found.items()}


def _dense(array: np.ndarray) -> np.ndarray:
    return array if array.flags.c_contiguous else np.ascontiguousarray(array).reshape(array.shape)
