"""Vectors on ordinary processors: the graphs of `graph.py`, compiled and run by OpenVINO. No torch.

Knows precisions, threads and batches; pixels and token ids, not images or texts. The only files it touches are those
that `save_ir` writes.

Each tower is built and compiled on first use, so using one tower alone does not pay for the other.

Shapes: n images or texts, t tokens, w width, d shared dimension.
"""

import functools
import mmap
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from tandem.config import ModelConfig
from tandem.engine import numpy_engine
from tandem.engine.inputs import (
    Pixels,
    buckets,
    check_image_layer,
    check_layer,
    check_pixels,
    check_token_ids,
    length_buckets,
    padded,
    read_positions,
)
from tandem.engine.memory import ReleasePages, mappings
from tandem.engine.prefixes import LEAST_TEXTS, shared_prefixes
from tandem.errors import EngineError
from tandem.towers import has_part
from tandem.towers.parts.tensors import Tensors, parts

if TYPE_CHECKING:
    import openvino as ov

BATCH_IMAGES = 32  # bounds the memory of a call; larger batches are no faster (measured)

# How much one tower computes in numpy before it is compiled: what costs less than compiling does (docs/log.md)
IMAGES_BEFORE_COMPILING = 1
LARGEST_IMAGE_IN_NUMPY = 400  # tokens: beyond, compiling a tower and running it once is faster
TOKENS_BEFORE_COMPILING = 256

_CAPABILITIES = {"float32": "FP32", "bfloat16": "BF16", "float16": "FP16"}
_TYPES = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}


class OpenVinoEngine:
    """Both verbs and the per-token states on a CPU, or on an Intel GPU (`device="gpu"`).

    `precision="auto"` is float32: the reference's numbers. bfloat16 is about twice as fast where the processor has it
    in hardware, at a cosine of about 0.999 to them; it is used only when asked for.
    """

    name = "openvino"

    def __init__(
        self, config: ModelConfig, tensors: Tensors, device: str | None = None, precision: str = "auto"
    ) -> None:
        self.config = config
        self.device = _device(device)
        self.precision = _precision(self.device, precision)
        self._tensors = tensors  # the graphs' constants share its memory
        self._mapped = mappings(array for name in tensors for array in parts(tensors, name))
        self._towers: dict[tuple[str | int, ...], _Tower] = {}
        self._computed_in_numpy = {"image": 0, "text": 0}  # images and tokens computed before compiling
        self._lock = threading.Lock()

    def encode_images(self, pixels: Pixels) -> NDArray[np.float32]:
        """uint8 or float32 pixels in 0..255 [n h w 3] -> unit vectors float32 [n d]."""
        pixels = check_pixels(pixels, self.config.preprocessing.pixel_shape)
        vectors = np.empty((len(pixels), self.config.embed_dim), np.float32)
        small = self.config.vision.tokens <= LARGEST_IMAGE_IN_NUMPY
        if len(pixels) and small and self._still_in_numpy("image", len(pixels), IMAGES_BEFORE_COMPILING):
            with ReleasePages(self._mapped):
                return numpy_engine.encode_images(self.config, self._tensors, pixels)
        if len(pixels):
            kind = "u8" if pixels.dtype == np.uint8 else "f32"
            tower = self._tower(("image", kind), lambda: _graphs().image_graph(self.config, self._tensors, kind))
            for start in range(0, len(pixels), BATCH_IMAGES):
                part = slice(start, start + BATCH_IMAGES)
                vectors[part] = tower(pixels[part])
        return vectors

    def encode_texts(self, token_ids: NDArray[np.int32]) -> NDArray[np.float32]:
        """Token ids int32 [n t], start and end tokens included -> unit vectors float32 [n d]."""
        token_ids = check_token_ids(token_ids, self.config.text)
        vectors = np.empty((len(token_ids), self.config.embed_dim), np.float32)
        rest = self._encode_prefixed(token_ids, vectors)
        if rest is not None:
            vectors[rest] = self.encode_texts(token_ids[rest])
            return vectors
        cut = list(buckets(token_ids, self.config.text))
        total = sum(ids.size for _, ids, _ in cut)
        if len(token_ids) and self._still_in_numpy("text", total, TOKENS_BEFORE_COMPILING):
            with ReleasePages(self._mapped):
                for rows, ids, ends in cut:
                    vectors[rows] = numpy_engine.encode_texts(self.config, self._tensors, ids, ends)
            return vectors
        if len(token_ids):
            tower = self._tower(("text",), lambda: _graphs().text_graph(self.config, self._tensors))
            for rows, ids, ends in cut:
                vectors[rows] = tower(ids, ends)
        return vectors

    def _encode_prefixed(self, token_ids: NDArray[np.int32], vectors: NDArray[np.float32]) -> NDArray[np.intp] | None:
        """Fill the vectors of texts that begin like many others. The rows that are left; None where none do."""
        text = self.config.text
        if len(token_ids) < LEAST_TEXTS or text.fixed_length or not has_part(text, "prefix_graph"):
            return None
        ends = read_positions(token_ids, text)
        found, rest = shared_prefixes(token_ids, ends)
        if not found:
            return None
        tower = self._tower(("prefixed text",), lambda: _graphs().prefixed_text_graph(self.config, self._tensors))
        for group, shared in found:
            prefix, following = np.ascontiguousarray(token_ids[group[0], :shared]), ends[group] - shared
            for places, tokens in length_buckets(following):
                rows = group[places]
                ids = np.ascontiguousarray(token_ids[rows, shared : shared + tokens])
                vectors[rows] = tower(prefix, ids, following[places])
        return rest

    def text_states(self, token_ids: NDArray[np.int32], layer: int = -1) -> NDArray[np.float32]:
        """The state of every token, float32 [n t w], for models that condition on them.

        layer: -1 is the tower's end, after the final norm; 0 the embedding; k the state after k blocks; -2 the state
        before the last block, and so on, as transformers counts its hidden states.
        """
        token_ids = check_token_ids(token_ids, self.config.text)
        blocks, final_norm = check_layer(layer, self.config.text.layers)
        if not len(token_ids):
            return np.empty((*token_ids.shape, self.config.text.width), np.float32)
        build = functools.partial(_graphs().text_states_graph, self.config, self._tensors, blocks, final_norm)
        tower = self._tower(("states", blocks, final_norm), build)
        tokens, ids = token_ids.shape[1], padded(token_ids, self.config.text)
        return np.concatenate([tower(ids[start : start + 32])[:, :tokens] for start in range(0, len(ids), 32)])

    def image_states(
        self, pixels: Pixels, layer: int = -2, *, norm: bool | None = None, projection: bool = False
    ) -> NDArray[np.float32]:
        """The state of every token of images, float32 [n p w] (or [n p d]); see `Engine.image_states`."""
        vision = self.config.vision
        pixels = check_pixels(pixels, self.config.preprocessing.pixel_shape)
        wanted = check_image_layer(vision, layer, norm, projection)
        layout = vision.state_layout(wanted[0])
        states = np.empty(
            (len(pixels), layout.tokens, self.config.embed_dim if projection else layout.width), np.float32
        )
        if len(pixels):
            kind: Literal["u8", "f32"] = "u8" if pixels.dtype == np.uint8 else "f32"
            build = functools.partial(_graphs().image_states_graph, self.config, self._tensors, *wanted, kind)
            tower = self._tower(("image states", *wanted, kind), build)
            for start in range(0, len(pixels), BATCH_IMAGES):
                part = slice(start, start + BATCH_IMAGES)
                states[part] = tower(pixels[part])
        return states

    def release(self) -> None:
        """Give back the memory of the compiled towers. A tower that is needed again is compiled again."""
        with self._lock:
            self._towers.clear()

    def _still_in_numpy(self, tower: str, amount: int, allowance: int) -> bool:
        """Whether so little was asked of the tower until now, this included, that it need not be compiled."""
        with self._lock:
            compiled = any(key[0] == tower for key in self._towers)
            in_numpy = has_part(self.config.vision if tower == "image" else self.config.text, "arrays")
            if compiled or not in_numpy or self.device != "CPU" or self.precision != "float32":
                return False
            self._computed_in_numpy[tower] += amount
            return self._computed_in_numpy[tower] <= allowance

    def _tower(self, key: tuple[str | int, ...], build: Callable[[], "ov.Model"]) -> "_Tower":
        with self._lock:
            if key not in self._towers:
                self._towers[key] = _Tower(build, self.device, self.precision, self._mapped)
            return self._towers[key]


class _Tower:
    """A compiled graph with one request; calls from several threads take turns, since each uses every core."""

    def __init__(self, build: Callable[[], "ov.Model"], device: str, precision: str, mapped: list[mmap.mmap]) -> None:
        options: dict[str, str | bool] = {
            "INFERENCE_PRECISION_HINT": _TYPES[precision],
            "PERFORMANCE_HINT": "LATENCY",
        }
        if device == "CPU":
            # Denormals count as zero. Otherwise all weights are searched for them before any is packed (measured:
            # a third of the time to compile, and a whole copy of the weights in memory at once)
            options["CPU_DENORMALS_OPTIMIZATION"] = True
        with ReleasePages(mapped):
            graph = build()
            self._request = _core().compile_model(graph, device, options).create_infer_request()
        self._inputs = len(graph.inputs)
        self._mapped = mapped  # until the first run, which packs what compiling has not
        self._lock = threading.Lock()

    def __call__(self, *inputs: NDArray[np.generic]) -> NDArray[np.float32]:
        """The output for the first inputs that the graph has: not every text tower needs the positions of ends."""
        with self._lock:
            with ReleasePages(self._mapped):
                self._request.infer(list(inputs[: self._inputs]), share_inputs=True)
            self._mapped = []
            return self._request.get_output_tensor(0).data.copy()  # type: ignore[no-any-return]


def save_ir(config: ModelConfig, tensors: Tensors, folder: Path) -> None:
    """Write both towers as OpenVINO IR: image.xml, image.bin, text.xml, text.bin.

    Inputs are `pixels` (of the preprocessing's `pixel_shape`) and `token_ids`, and for a text tower that is read at the
    end token `ends`, the position of each text's first one. A plain
    `compile_model` of these files computes in bfloat16 where the CPU has it; INFERENCE_PRECISION_HINT f32 prevents it.
    """
    from tandem.openvino_import import ov

    folder.mkdir(parents=True, exist_ok=True)

    ov.save_model(_graphs().image_graph(config, tensors), folder / "image.xml", compress_to_fp16=False)
    ov.save_model(_graphs().text_graph(config, tensors), folder / "text.xml", compress_to_fp16=False)


def available_precisions(device: str | None = None) -> tuple[str, ...]:
    """The precisions in which the device computes, float32 first."""
    capabilities = _core().get_property(_device(device), "OPTIMIZATION_CAPABILITIES")
    return tuple(name for name, capability in _CAPABILITIES.items() if capability in capabilities)


@functools.cache
def _core() -> "ov.Core":
    # Imported when something is compiled: what the numpy engine answers alone is spared a tenth of a second (measured)
    from tandem.openvino_import import ov

    return ov.Core()


def _graphs() -> ModuleType:
    from tandem.engine import graph

    return graph


def _device(device: str | None) -> str:
    name = (device or "cpu").upper()
    if name == "CPU":
        return name
    found = _core().available_devices
    if name.split(".")[0] not in {other.split(".")[0] for other in found}:
        known = ", ".join(other.lower() for other in found)
        raise EngineError(f"device: OpenVINO finds {known} on this machine, not {device!r}; cuda and mps need torch")
    return name


def _precision(device: str, precision: str) -> str:
    if precision in ("auto", "float32"):
        return "float32"
    available = available_precisions(device)
    if precision not in available:
        raise EngineError(
            f"precision: {device.lower()} computes in {', '.join(available)} here, not in {precision!r}; "
            "use one of these, or auto"
        )
    return precision
