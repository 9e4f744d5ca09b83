"""A run's checkpoints on disk: folders that appear whole or not at all, each of them a model that `tandem.load` reads.

    checkpoints/step-00001200/
      config.json  model.safetensors  tokenizer.json  README.md     the model, as any other
      trainer.safetensors                                           weights, moments and moving average, every bit
      trainer.json                                                  step, scores, recipe, layout, versions

The step is also the position in the data: a batch is a function of (recipe, step), and so are the random numbers of a
step. Sharded tensors (FSDP2) are gathered when they are saved and cut again when they are restored, so a checkpoint is
the same file for any number of processes. Knows files, and tensors by name; nothing of what they mean.
"""

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from tandem import files
from tandem.errors import DataError
from tandem.fields import renamed
from tandem.train.step.ema import ModelEma

FORMAT = 2  # 1: steps had other batches
# Names before the first release -> names since.
_OLD_KEYS = {"guard": "loss_monitor", "samples": "sample_counts", "bad_in_a_row": "bad_steps"}
_OLD_TENSORS = {
    "heads.": "objective.",
    "optimiser.heads.": "optimiser.objective.",
    "objective.logit_bias": "towers.clip.logit_bias",  # the objective's own, before models had one
    "optimiser.objective.logit_bias": "optimiser.towers.clip.logit_bias",
}
# Inserted into names by wrappers.
_WRAPPERS = ("_checkpoint_wrapped_module.", "_orig_mod.")


@dataclass(frozen=True)
class Record:
    """The part of a checkpoint that is not tensors."""

    step: int  # the next one to take
    best_score: float | None  # of `validation.best`; None before any
    recipe: dict[str, Any]
    layout: dict[str, Any]  # rounding depends on it: processes, device, ...
    versions: dict[str, str]
    loss_monitor: dict[str, Any] = field(default_factory=dict)  # its state
    sample_counts: list[int] = field(default_factory=list)  # of each training set
    format: int = FORMAT


def save(
    folder: Path, record: Record, tensors: Mapping[str, Tensor], write_model: Callable[[Path], None], keep_last: int = 1
) -> Path:
    """Write `folder/step-N`, then remove all but the newest `keep_last` checkpoints.

    `write_model` is given a path and writes the model folder there.
    """
    remove_partial(folder)
    target = folder / f"step-{record.step:08d}"
    _remove(target)
    # A machine that loses power must not keep the name and lose the bytes.
    with files.atomic_folder(target, fsync=True) as temporary:
        write_model(temporary)
        contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
        save_file(contiguous, temporary / "trainer.safetensors")
        files.write_json(temporary / "trainer.json", asdict(record))
    for old in list_checkpoints(folder)[max(keep_last, 1) :]:
        _remove(old)
    return target


def list_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a run, newest first."""
    return sorted(folder.glob("step-*"), reverse=True)


def read(path: Path) -> tuple[Record, dict[str, Tensor]]:
    """Read one checkpoint. Raises `DataError` that names the file if it is damaged or of another format."""
    try:
        plain = json.loads((path / "trainer.json").read_text(encoding="utf-8"))
        if plain.get("format", 1) != FORMAT:
            raise DataError(
                f"{path}: this run was started by another version of Tandem (format {plain.get('format', 1)}, this is "
                f"{FORMAT}), whose steps had other batches; choose another folder=, with init.model={path} to "
                "start from its weights"
            )
        tensors = load_file(path / "trainer.safetensors")
        return Record(**_with_new_names(plain)), {_new_name(name): tensor for name, tensor in tensors.items()}
    except (OSError, ValueError, TypeError, SafetensorError) as error:
        raise DataError(f"{path}: a damaged checkpoint ({str(error).strip().splitlines()[0]})") from None


def newest_checkpoint(folder: Path, echo: Callable[[str], None]) -> tuple[Path, Record, dict[str, Tensor]] | None:
    """The newest checkpoint that can be read; None if there is none.

    A damaged one is reported, and the one before it is taken. Raises `DataError` if all are damaged: to start again,
    choose another folder.
    """
    paths = list_checkpoints(folder)
    for path in paths:
        try:
            return path, *read(path)
        except DataError as error:
            if path == paths[-1]:
                raise
            echo(f"{error}; resuming from the one before it")
    return None


def remove_partial(folder: Path) -> None:
    """Remove partly written or removed checkpoints of a killed process."""
    for partial in (*folder.glob(".step-*"), *folder.glob("..step-*")):
        shutil.rmtree(partial, ignore_errors=True)


def collect_state(
    modules: Mapping[str, nn.Module], optimiser: torch.optim.Optimizer, ema: ModelEma | None, keep: bool = True
) -> dict[str, Tensor]:
    """Every tensor of the run, copied to the CPU.

    All processes must call it; those that do not `keep` get an empty dictionary.
    """
    return _full(_tensors(modules, optimiser, ema), keep)


def full_state_dict(module: nn.Module, keep: bool = True) -> dict[str, Tensor]:
    """A module's state, whole and on the CPU. All processes must call it."""
    return _full(((_plain(name), tensor) for name, tensor in module.state_dict().items()), keep)


def restore_state(
    tensors: Mapping[str, Tensor],
    modules: Mapping[str, nn.Module],
    optimiser: torch.optim.Optimizer,
    ema: ModelEma | None,
) -> None:
    """The inverse of `collect_state`. Raises `DataError` that names the first tensor that is missing or misshapen."""
    for name, target in _module_tensors(modules):
        _put(target, _of(tensors, name, target))
    for name, parameter, fused in _parameters(modules, optimiser):
        kept = [key for key in tensors if key.startswith(f"optimiser.{name}/")]
        state = {}
        for key in kept:
            value = tensors[key]
            # The fused optimiser reads a weight and its moments as flat memory: both need the same layout.
            state[key.rpartition("/")[2]] = (
                value.to(parameter.device if fused else "cpu").clone() if value.ndim == 0 and parameter.ndim else
                _put(torch.empty_like(parameter), _of(tensors, key, parameter))
            )  # fmt: skip
        if state:
            optimiser.state[parameter] = state
    if ema is not None:
        own = ema.state_dict()
        # An average that is new in the recipe starts at the weights.
        weights = {
            name.removeprefix("towers.").replace("objective.", "head.", 1): tensor
            for name, tensor in _module_tensors(modules)
        }
        ema.load_state_dict(
            {
                name: _put(torch.empty_like(target), tensors.get(f"average.{name}", weights.get(name, target)))
                for name, target in own.items()
            }
        )


def _remove(path: Path) -> None:
    """Rename first: half a checkpoint must not look like a whole one."""
    if path.exists():
        gone = path.with_name(f".{path.name}.gone")
        path.rename(gone)
        shutil.rmtree(gone)


def _with_new_names(plain: dict[str, Any]) -> dict[str, Any]:
    """The keys of a record as they are called now."""
    known = renamed(plain, _OLD_KEYS)
    return {**known, "loss_monitor": renamed(known.get("loss_monitor", {}), _OLD_KEYS)}


def _new_name(name: str) -> str:
    """The name of a tensor as it is called now."""
    for old, new in _OLD_TENSORS.items():  # in order: the later ones rename what the first have renamed
        if name.startswith(old):
            name = new + name.removeprefix(old)
    return name


def _full(tensors: Iterable[tuple[str, Tensor]], keep: bool) -> dict[str, Tensor]:
    out = {}
    for name, tensor in tensors:
        full = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
        if keep:
            out[name] = torch.empty(full.shape, dtype=full.dtype).copy_(full.detach())
    return out


def _tensors(
    modules: Mapping[str, nn.Module], optimiser: torch.optim.Optimizer, ema: ModelEma | None
) -> Iterator[tuple[str, Tensor]]:
    yield from _module_tensors(modules)
    for name, parameter, _ in _parameters(modules, optimiser):
        for key, value in optimiser.state.get(parameter, {}).items():
            yield f"optimiser.{name}/{key}", torch.as_tensor(value)
    if ema is not None:
        for name, value in ema.state_dict().items():
            yield f"average.{name}", value


def _module_tensors(modules: Mapping[str, nn.Module]) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers; shared ones come once."""
    seen = set()
    for prefix, module in modules.items():
        for name, tensor in module.state_dict(keep_vars=True).items():
            if id(tensor) not in seen:
                seen.add(id(tensor))
                yield f"{prefix}.{_plain(name)}", tensor


def _parameters(
    modules: Mapping[str, nn.Module], optimiser: torch.optim.Optimizer
) -> Iterator[tuple[str, nn.Parameter, bool]]:
    """(name, parameter, whether its step is fused) of all that the optimiser updates, in the order of the modules."""
    fused = {id(p): bool(group.get("fused")) for group in optimiser.param_groups for p in group["params"]}
    for name, tensor in _module_tensors(modules):
        if id(tensor) in fused:
            assert isinstance(tensor, nn.Parameter)
            yield name, tensor, fused[id(tensor)]


def _of(tensors: Mapping[str, Tensor], name: str, target: Tensor) -> Tensor:
    if name not in tensors:
        raise DataError(f"the checkpoint has no {name}: it does not fit this recipe; choose another folder=")
    if tensors[name].shape != target.shape:
        shapes = f"{tuple(tensors[name].shape)}, this recipe's has {tuple(target.shape)}"
        raise DataError(f"the checkpoint does not fit this recipe: its {name} has the shape {shapes}")
    return tensors[name]


@torch.no_grad()
def _put(target: Tensor, value: Tensor) -> Tensor:
    """Overwrite `target` with a whole tensor, or by this process's part of it."""
    if isinstance(target, DTensor) and not isinstance(value, DTensor):
        moved = value.to(target.to_local().device, target.dtype)
        value = distribute_tensor(moved, target.device_mesh, target.placements, src_data_rank=None)
    target.copy_(value)
    return target


def _plain(name: str) -> str:
    for wrapper in _WRAPPERS:
        name = name.replace(wrapper, "")
    return name
