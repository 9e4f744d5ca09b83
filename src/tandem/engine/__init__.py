"""How vectors and states are computed: one protocol, and the engines that implement it.

Knows which engine serves which device. It imports an engine, and numpy, only when one is built: the
command line shows its names in the help.

Shapes: n images or texts, h height, w width, t tokens of a text, p tokens of an image, d shared dimension.
"""

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, Protocol, get_args, runtime_checkable

from tandem.config import ModelConfig, TextTower
from tandem.errors import EngineError, MissingExtraError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

EngineName = Literal["auto", "openvino", "torch"]
Precision = Literal["auto", "float32", "bfloat16", "float16", "int8"]
ENGINES: tuple[EngineName, ...] = get_args(EngineName)
PRECISIONS: tuple[Precision, ...] = get_args(Precision)


class Engine(Protocol):
    """Computes vectors. `name` and `precision` are those in use, never "auto"."""

    name: str
    config: ModelConfig
    device: str
    precision: str

    def encode_images(
        self, pixels: "NDArray[np.uint8] | NDArray[np.float32]", *, normalize: bool = True
    ) -> "NDArray[np.float32]":
        """uint8 or float32 pixels in 0..255, [n h w 3] or as `Preprocessing.pixel_shape` says -> unit vectors [n d].

        normalize: False leaves the vectors at the length that the tower gives them.
        """

    def encode_texts(self, token_ids: "NDArray[np.int32]", *, normalize: bool = True) -> "NDArray[np.float32]":
        """Token ids int32 [n t], start and end tokens included -> unit vectors float32 [n d]; `normalize` as above."""

    def text_states(
        self, token_ids: "NDArray[np.int32]", layer: int = -1, *, norm: bool | None = None
    ) -> "NDArray[np.float32]":
        """The state of every token float32 [n t w].

        layer: -1 is the tower's end; 0 the embedding; k the state after k blocks; -2 before the last block, and so on,
        as transformers counts its hidden states. norm: the final norm, by default at layer -1 only.
        """

    def image_states(
        self,
        pixels: "NDArray[np.uint8] | NDArray[np.float32]",
        layer: int = -2,
        *,
        norm: bool | None = None,
        projection: bool = False,
    ) -> "NDArray[np.float32]":
        """The state of every token of images float32 [n p w]: as `config.vision.state_layout` says, layers as above.

        norm: the last norm, by default at layer -1 and before a projection. projection: into the shared space [n p d].
        """

    def encode_dense(self, pixels: "NDArray[np.uint8] | NDArray[np.float32]") -> "NDArray[np.float32]":
        """Pixels as for `encode_images` -> a unit vector for each patch or position, float32 [n p d], row by row.

        Raises `EngineError` for an image tower that gives its patches none (`dense_method`).
        """

    def release(self) -> None:
        """Release what can be rebuilt from the tensors; the next call that needs it rebuilds it."""


@runtime_checkable
class OverlappingEngine(Protocol):
    """What an engine offers beside `Engine` whose device takes the next batch while it computes this one."""

    overlaps: bool  # whether the device in use does

    def begin_images(
        self, pixels: "NDArray[np.uint8] | NDArray[np.float32]", *, normalize: bool = True
    ) -> "Callable[[], NDArray[np.float32]]":
        """`encode_images`, in two steps: `pixels` are read before this returns; what it returns waits for vectors."""


class TextEngine(Protocol):
    """Computes the states of texts, by a text tower alone."""

    name: str
    text: TextTower
    device: str
    precision: str

    def hidden_states(
        self,
        token_ids: "NDArray[np.int32]",
        layers: Sequence[int],
        *,
        norm: bool | None = None,
        added: "NDArray[np.float32] | None" = None,
    ) -> "NDArray[np.float32]":
        """The state of every token at each of the layers, float32 [l n t w]; layers and norm as `Engine.text_states`.

        added [m w]: embeddings for the ids from the vocabulary's end on, which stand for words that were learnt later.
        """

    def release(self) -> None:
        """Release what can be rebuilt from the tensors."""


def build(
    config: ModelConfig,
    tensors: "Mapping[str, NDArray[np.generic]]",
    *,
    engine: EngineName = "auto",
    device: str | None = None,
    precision: Precision = "auto",
) -> Engine:
    """An engine for the model. It keeps `tensors`, and may share their memory: do not write to them.

    engine: auto is openvino, and torch for a device that only torch serves (cuda, mps).
    device: cpu by default; openvino also knows gpu (Intel), torch cuda, cuda:1, mps.
    precision: auto is float32, the reference's numbers; bfloat16 is faster where the device has it.
    Raises `EngineError` for what this machine cannot offer and `MissingExtraError` where torch is not installed.
    """
    if _chosen(engine, device, precision) == "torch":
        from tandem.engine.torch import TorchEngine

        _check_for_torch(tensors)
        return TorchEngine(config, tensors, device, precision)
    from tandem.engine.openvino import OpenVinoEngine

    return OpenVinoEngine(config, tensors, device, precision)


def build_text(
    text: TextTower,
    embed_dim: int,
    tensors: "Mapping[str, NDArray[np.generic]]",
    *,
    engine: EngineName = "auto",
    device: str | None = None,
    precision: Precision = "auto",
) -> TextEngine:
    """An engine for a text tower that stands alone, as text encoders of image generators do; see `build`."""
    if _chosen(engine, device, precision) == "torch":
        from tandem.engine.torch_text import TorchTextEngine

        _check_for_torch(tensors)
        return TorchTextEngine.from_arrays(text, embed_dim, tensors, device, precision)
    from tandem.engine.openvino_text import OpenVinoTextEngine

    return OpenVinoTextEngine(text, tensors, device, precision)


def _chosen(engine: EngineName, device: str | None, precision: Precision) -> EngineName:
    """The engine that is meant. Raises `EngineError` and `MissingExtraError` as `build` says."""
    if engine not in ENGINES:
        raise EngineError(f"engine: expected one of {', '.join(ENGINES)}, got {engine!r}")
    if precision not in PRECISIONS:
        raise EngineError(f"precision: expected one of {', '.join(PRECISIONS)}, got {precision!r}")
    torch_only = (device or "").split(":")[0] in ("cuda", "mps")
    if engine == "openvino" and torch_only:
        raise EngineError(f"device: {device} is served by the torch engine; use engine='torch' or 'auto'")
    if engine == "auto":
        engine = "torch" if torch_only or not _installed("openvino") else "openvino"
    if engine == "torch":
        if not _installed("torch"):
            raise MissingExtraError("torch", "train", f"the torch engine{f' ({device})' if device else ''}")
    elif not _installed("openvino"):
        raise EngineError("openvino is not installed; install it with: pip install openvino")
    return engine


def _check_for_torch(tensors: "Mapping[str, NDArray[np.generic]]") -> None:
    """Raises `EngineError` for quantised tensors: torch would compute in floating point what was measured in int8."""
    from tandem.towers.parts.int8 import is_quantized

    if is_quantized(tensors):
        raise EngineError("engine: a quantised model is computed by openvino on a CPU; for torch, load its source")


def available_precisions(device: str | None = None) -> tuple[str, ...]:
    """The precisions in which the openvino engine computes on the device; bfloat16 only where it is in hardware."""
    from tandem.engine.compiled import available_precisions as available

    return available(device)


def version_of(engine: str) -> str:
    """The version of the library that an engine computes with: another one may round otherwise. Empty if unknown."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(engine)
    except PackageNotFoundError:
        return ""


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None
