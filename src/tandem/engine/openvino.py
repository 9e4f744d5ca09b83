"""Vectors on ordinary processors: the graphs of `graph.py`, compiled and run by OpenVINO. No torch.

Knows precisions, threads and batches; pixels and token ids, not images or texts. The only files it touches are those
that `save_ir` writes.

Each tower is built and compiled on first use, so using one tower alone does not pay for the other.

Shapes: n images or texts, t tokens, w width, d shared dimension.
"""

import functools
import itertools
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from tandem.config import ModelConfig
from tandem.engine import numpy_engine
from tandem.engine.compiled import INT8_AND_BFLOAT16, CompiledGraph, device_name, precision_name
from tandem.engine.inputs import (
    Pixels,
    buckets,
    check_dense,
    check_image_layer,
    check_pixels,
    check_token_ids,
    read_positions,
)
from tandem.engine.memory import ReleasePages, mappings
from tandem.engine.openvino_text import OpenVinoTextEngine
from tandem.engine.token_trie import BATCH_NODES, token_tries
from tandem.processor import cores, has_bfloat16
from tandem.towers import has_part
from tandem.towers.parts.int8 import WithoutRanges, is_quantized
from tandem.towers.parts.tensors import Tensors, size_of, stored_arrays

if TYPE_CHECKING:
    import openvino as ov

BATCH_IMAGES = 32  # bounds the memory of a call; larger batches are no faster (measured)
# A small tower is computed by one thread for each core, which share nothing but the weights (docs/log.md)
WEIGHTS_OF_STREAM = 16_000_000
IMAGES_OF_STREAM = 16
NODES_OF_STREAM = 512  # of a trie

# How much one tower computes in numpy before it is compiled: what costs less than compiling does (docs/log.md)
IMAGES_BEFORE_COMPILING = 1
LARGEST_IMAGE_IN_NUMPY = 400  # tokens: beyond, compiling a tower and running it once is faster
TOKENS_BEFORE_COMPILING = 256
TOKENS_FOR_UNPACKING = 64
# Numpy computes in float32, which is nearer to the reference than what was asked for; int8 as the graphs round it
BEGIN_IN_NUMPY = ("float32", "bfloat16", "int8")


class OpenVinoEngine:
    """Both verbs and the per-token states on a CPU, or on an Intel GPU (`device="gpu"`).

    `precision="auto"` is float32: the reference's numbers. bfloat16 is about twice as fast where the processor has it
    in hardware, at a cosine of about 0.999 to them; it is used only when asked for. The first few inputs, for which
    nothing is compiled, are computed in float32 then too.
    """

    name = "openvino"

    def __init__(
        self, config: ModelConfig, tensors: Tensors, device: str | None = None, precision: str = "auto"
    ) -> None:
        self.config = config
        self.device = device_name(device)
        self.precision = precision_name(self.device, precision, tensors)
        self._tensors = tensors  # the graphs' constants share its memory
        self._mapped = mappings(stored_arrays(tensors))
        self._text_states = OpenVinoTextEngine(config.text, tensors, device, precision)
        self._towers: dict[tuple[str | int, ...], CompiledGraph] = {}
        self._computed_in_numpy = {"image": 0, "text": 0}  # images and tokens computed before compiling
        self._lock = threading.Lock()

    def encode_images(self, pixels: Pixels, *, normalize: bool = True) -> NDArray[np.float32]:
        """uint8 or float32 pixels in 0..255 [n h w 3] -> vectors float32 [n d], of unit length if `normalize`."""
        pixels = check_pixels(pixels, self.config.preprocessing.pixel_shape)
        vectors = np.empty((len(pixels), self.config.embed_dim), np.float32)
        small = self.config.vision.tokens <= LARGEST_IMAGE_IN_NUMPY
        if len(pixels) and small and self._still_in_numpy("image", len(pixels), IMAGES_BEFORE_COMPILING):
            with ReleasePages(self._mapped):
                return numpy_engine.encode_images(self.config, self._tensors, pixels, normalize)
        if len(pixels):
            kind = "u8" if pixels.dtype == np.uint8 else "f32"
            build = functools.partial(_graphs().image_graph, self.config, self._tensors, kind, normalize)
            streams = self._streams(self._image_weights)
            tower = self._tower(("image", kind, normalize), build, streams)
            batch = max(BATCH_IMAGES, IMAGES_OF_STREAM * streams)
            for start in range(0, len(pixels), batch):
                part = slice(start, start + batch)
                vectors[part] = tower(pixels[part])
        return vectors

    def encode_texts(self, token_ids: NDArray[np.int32], *, normalize: bool = True) -> NDArray[np.float32]:
        """Token ids int32 [n t], start and end tokens included -> vectors float32 [n d], of unit length if asked."""
        token_ids = check_token_ids(token_ids, self.config.text)
        vectors = np.empty((len(token_ids), self.config.embed_dim), np.float32)
        if not len(token_ids):
            return vectors
        text = self.config.text
        cut = list(buckets(token_ids, text))
        total = sum(ids.size for _, ids, _ in cut)
        if self._still_in_numpy("text", total, TOKENS_BEFORE_COMPILING):
            with ReleasePages(self._mapped):
                for rows, ids, ends in cut:
                    vectors[rows] = numpy_engine.encode_texts(self.config, self._tensors, ids, ends, normalize)
            return vectors
        if not text.fixed_length and has_part(text, "trie_graph"):
            build = functools.partial(_graphs().text_trie_graph, self.config, self._tensors, normalize)
            streams = self._streams(self._text_weights)
            tower = self._tower(("text", "trie", normalize), build, streams)
            nodes = BATCH_NODES if streams == 1 else NODES_OF_STREAM
            tries = token_tries(token_ids, read_positions(token_ids, text), nodes)
            while some := list(itertools.islice(tries, streams)):
                for trie, found in zip(some, tower.each([trie.inputs for trie in some]), strict=True):
                    vectors[trie.rows] = found[trie.texts]
            return vectors
        build = functools.partial(_graphs().text_graph, self.config, self._tensors, normalize)
        tower = self._tower(("text", normalize), build)
        for rows, ids, ends in cut:
            vectors[rows] = tower(ids, ends)
        return vectors

    def text_states(
        self, token_ids: NDArray[np.int32], layer: int = -1, *, norm: bool | None = None
    ) -> NDArray[np.float32]:
        """The state of every token, float32 [n t w]; see `Engine.text_states`."""
        return self._text_states.hidden_states(token_ids, [layer], norm=norm)[0]  # type: ignore[no-any-return]

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
            build = functools.partial(
                _graphs().image_states_graph, self.config, WithoutRanges(self._tensors), *wanted, kind
            )
            tower = self._tower(("image states", *wanted, kind), build)
            for start in range(0, len(pixels), BATCH_IMAGES):
                part = slice(start, start + BATCH_IMAGES)
                states[part] = tower(pixels[part])
        return states

    def encode_dense(self, pixels: Pixels) -> NDArray[np.float32]:
        """A unit vector for each patch or position of images, float32 [n p d]; see `Engine.encode_dense`."""
        pixels = check_pixels(pixels, self.config.preprocessing.pixel_shape)
        check_dense(self.config.vision)
        vectors = np.empty((len(pixels), self.config.vision.grid**2, self.config.embed_dim), np.float32)
        if len(pixels):
            kind: Literal["u8", "f32"] = "u8" if pixels.dtype == np.uint8 else "f32"
            tower = self._tower(
                ("dense", kind), lambda: _graphs().dense_graph(self.config, WithoutRanges(self._tensors), kind)
            )
            for start in range(0, len(pixels), BATCH_IMAGES):
                part = slice(start, start + BATCH_IMAGES)
                vectors[part] = tower(pixels[part])
        return vectors

    def release(self) -> None:
        """Give back the memory of the compiled towers. A tower that is needed again is compiled again."""
        with self._lock:
            self._towers.clear()
        self._text_states.release()

    def _still_in_numpy(self, tower: str, amount: int, allowance: int) -> bool:
        """Whether so little was asked of the tower until now, this included, that it need not be compiled."""
        with self._lock:
            compiled = any(key[0] == tower for key in self._towers)
            in_numpy = has_part(self.config.vision if tower == "image" else self.config.text, "arrays")
            if compiled or not in_numpy or self.device != "CPU" or self.precision not in BEGIN_IN_NUMPY:
                return False
            if is_quantized(self._tensors) and tower == "text":
                amount += TOKENS_FOR_UNPACKING  # each call makes floating point of every weight
            self._computed_in_numpy[tower] += amount
            return self._computed_in_numpy[tower] <= allowance

    def _streams(self, weights: int) -> int:
        """How many batches a tower of so many weights computes at the same time, by a core each."""
        return cores() if self.device == "CPU" and weights <= WEIGHTS_OF_STREAM else 1

    @functools.cached_property
    def _image_weights(self) -> int:
        return sum(size_of(self._tensors, name) for name in self._tensors if name.startswith("visual."))

    @functools.cached_property
    def _text_weights(self) -> int:
        """Without the table of tokens, of which a few rows are read."""
        names = (name for name in self._tensors if not name.startswith(("visual.", "token_embed")))
        return sum(size_of(self._tensors, name) for name in names)

    def _tower(self, key: tuple[str | int, ...], build: Callable[[], "ov.Model"], streams: int = 1) -> CompiledGraph:
        with self._lock:
            if key not in self._towers:
                precision = self._precision_of(str(key[0]))
                self._towers[key] = CompiledGraph(build, self.device, precision, self._mapped, streams)
            return self._towers[key]

    def _precision_of(self, tower: str) -> str:
        """The rest of a large int8 tower computes in bfloat16: 7 to 13% faster (measured). A small one would lose more
        agreement than it gains time, and states and places are kept near the reference.
        """
        if self.precision != "int8" or self.device != "CPU" or tower not in ("image", "text") or not has_bfloat16():
            return self.precision
        weights = self._image_weights if tower == "image" else self._text_weights
        return INT8_AND_BFLOAT16 if weights > WEIGHTS_OF_STREAM else self.precision


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


def _graphs() -> ModuleType:
    from tandem.engine import graph

    return graph
