"""Compiled graphs give arrays that are the caller's own; what begins in numpy, and what asks OpenVINO."""

import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from support import toy

from tandem import processor
from tandem.engine import compiled, numpy_engine, openvino
from tandem.engine.compiled import CompiledGraph
from tandem.engine.openvino import OpenVinoEngine
from tandem.errors import EngineError


def test_an_answer_is_not_overwritten_by_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """The states of texts come in several calls of one request, whose memory is the same each time."""
    from tandem.openvino_import import ov

    def doubled() -> Any:
        values = ov.opset13.parameter([-1, 3], np.float32)
        return ov.Model([ov.opset13.multiply(values, np.float32(2))], [values])

    graph = CompiledGraph(doubled, "CPU", "float32", [])
    first = graph(np.ones((2, 3), np.float32))
    second = graph(np.full((2, 3), 5, np.float32))
    assert first.tolist() == [[2.0] * 3] * 2
    assert second.tolist() == [[10.0] * 3] * 2
    assert first.flags.owndata or first.base is not second.base


@pytest.mark.parametrize(("rows", "parts"), [(1, 1), (4, 1), (5, 2), (9, 3), (40, 3)])
def test_streams_compute_a_batch_in_parts(monkeypatch: pytest.MonkeyPatch, rows: int, parts: int) -> None:
    """The rows come back in their order."""
    from tandem.openvino_import import ov

    entry = ov.op.Parameter(ov.Type.f32, ov.PartialShape([-1, 3]))
    doubled = ov.Model([ov.opset13.multiply(entry, ov.opset13.constant(np.float32(2)))], [entry], "doubled")
    graph = CompiledGraph(lambda: doubled, "CPU", "float32", [], 3)
    given = np.arange(3 * rows, dtype=np.float32).reshape(rows, 3)
    made: list[int] = []
    real = graph.each
    monkeypatch.setattr(graph, "each", lambda batches: (made.append(len(batches)), real(batches))[1])
    assert np.array_equal(graph(given), 2 * given)
    assert made == [parts]
    assert graph(given).flags.owndata


def test_threads_take_turns_with_a_request() -> None:
    """Its inputs and its output are one memory."""
    from tandem.openvino_import import ov

    class Request:
        busy, seen = threading.Event(), threading.Event()

        def start_async(self, inputs: list[np.ndarray], share_inputs: bool) -> None:
            if self.busy.is_set():
                self.seen.set()
            self.busy.set()
            self.output = 2 * inputs[0]

        def wait(self) -> None:
            self.seen.wait(0.1)  # for another thread, which must not come here
            self.busy.clear()

        def get_output_tensor(self, index: int) -> Any:
            return SimpleNamespace(data=self.output)

    entry = ov.op.Parameter(ov.Type.f32, ov.PartialShape([-1]))
    graph = CompiledGraph(lambda: ov.Model([ov.opset13.relu(entry)], [entry], "any"), "CPU", "float32", [])
    graph._requests = [Request()]
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(graph, [np.full(2, 1, np.float32), np.full(2, 2, np.float32)]))
    assert not Request.seen.is_set()
    assert [each.tolist() for each in found] == [[2, 2], [4, 4]]


def test_more_batches_than_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    from tandem.openvino_import import ov

    entry = ov.op.Parameter(ov.Type.f32, ov.PartialShape([-1]))
    doubled = ov.Model([ov.opset13.multiply(entry, ov.opset13.constant(np.float32(2)))], [entry], "doubled")
    graph = CompiledGraph(lambda: doubled, "CPU", "float32", [], 2)
    batches = [(np.full(length, length, np.float32),) for length in (3, 1, 2, 5, 4)]
    assert [found.tolist() for found in graph.each(batches)] == [[2.0 * n] * n for n in (3, 1, 2, 5, 4)]
    assert graph.each([]) == []


def test_threads_that_share_a_graph_take_turns() -> None:
    """Each gets its own answer: nothing is started before the one before has been read."""
    from tandem.openvino_import import ov

    entry = ov.op.Parameter(ov.Type.f32, ov.PartialShape([-1]))
    doubled = ov.Model([ov.opset13.multiply(entry, ov.opset13.constant(np.float32(2)))], [entry], "doubled")
    graph = CompiledGraph(lambda: doubled, "CPU", "float32", [])
    real, log, second = graph._requests[0], [], threading.Event()

    class Request:
        def start_async(self, inputs: list[np.ndarray], **options: bool) -> None:
            log.append("started")
            if len(log) > 1:
                second.set()
            real.start_async(inputs, **options)

        def wait(self) -> None:
            real.wait()
            second.wait(0.1)  # for the other thread, which must not come here

        def get_output_tensor(self, index: int) -> Any:
            log.append("read")
            return real.get_output_tensor(index)

    graph._requests = [Request()]
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(graph, [np.full(3, number, np.float32) for number in (1, 2)]))
    assert [each.tolist() for each in found] == [[2.0] * 3, [4.0] * 3]
    assert log == ["started", "read"] * 2


@pytest.mark.parametrize(("weights", "device", "streams"), [(10**9, "CPU", 3), (10, "CPU", 1), (10**9, "GPU", 1)])
def test_a_small_tower_is_computed_by_a_thread_for_each_core(
    monkeypatch: pytest.MonkeyPatch, weights: int, device: str, streams: int
) -> None:
    monkeypatch.setattr(openvino, "WEIGHTS_OF_STREAM", weights)
    monkeypatch.setattr(openvino, "cores", lambda: 3)
    config = toy.config()
    engine = OpenVinoEngine(config, toy.tensors(config))
    engine.device = device
    assert engine._streams(engine._image_weights) == streams
    assert engine._streams(engine._text_weights) == streams
    assert 0 < engine._image_weights < sum(array.size for array in engine._tensors.values())


@pytest.mark.parametrize(
    ("precision", "hardware", "large", "computed"),
    [
        ("int8", True, True, "int8 and bfloat16"),
        ("int8", False, True, "int8"),
        ("int8", True, False, "int8"),
        ("float32", True, True, "float32"),
    ],
)
def test_the_rest_of_a_large_int8_tower_computes_in_bfloat16(
    monkeypatch: pytest.MonkeyPatch, precision: str, hardware: bool, large: bool, computed: str
) -> None:
    monkeypatch.setattr(openvino, "has_bfloat16", lambda: hardware)
    monkeypatch.setattr(openvino, "WEIGHTS_OF_STREAM", 10 if large else 10**9)
    config = toy.config()
    engine = OpenVinoEngine(config, toy.tensors(config))
    engine.precision = precision

    def compiled(build: object, device: str, precision: str, mapped: object, streams: int = 1) -> str:
        return precision

    monkeypatch.setattr(openvino, "CompiledGraph", compiled)
    assert engine._tower(("image", "u8", True), lambda: None) == computed
    assert engine._tower(("text", "trie", True), lambda: None) == computed
    assert engine._tower(("image states", 1, "u8"), lambda: None) == precision, "states stay near the reference"
    assert engine._tower(("dense", "u8"), lambda: None) == precision


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_what_begins_in_numpy(monkeypatch: pytest.MonkeyPatch, precision: str) -> None:
    config = toy.config()
    engine = OpenVinoEngine(config, toy.tensors(config))
    engine.precision = precision
    compiled_in = []

    class Graph:
        def __init__(self, build: object, device: str, precision: str, mapped: object, streams: int) -> None:
            compiled_in.append(precision)

        def __call__(self, *inputs: np.ndarray) -> np.ndarray:
            return np.zeros((len(inputs[0]), config.embed_dim), np.float32)

        def each(self, batches: list[tuple[np.ndarray, ...]]) -> list[np.ndarray]:
            return [self(inputs[-1]) for inputs in batches]  # a trie's last input has a row for each text

    monkeypatch.setattr(openvino, "CompiledGraph", Graph)
    engine.encode_images(np.zeros((1, *config.preprocessing.pixel_shape), np.uint8))
    engine.encode_texts(np.array([[config.text.start_id, config.text.end_id]], np.int32))
    assert compiled_in == ([precision] * 2 if precision == "float16" else [])


def test_numpy_stops_where_compiling_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    """One image, and 256 tokens; what was asked before counts."""
    config = toy.config()
    engine = OpenVinoEngine(config, toy.tensors(config))
    in_numpy = []
    real = numpy_engine.encode_images
    monkeypatch.setattr(numpy_engine, "encode_images", lambda *given: (in_numpy.append(1), real(*given))[1])
    monkeypatch.setattr(
        openvino, "CompiledGraph", lambda *given: lambda *inputs: np.zeros((len(inputs[0]), config.embed_dim))
    )
    pixels = np.zeros((1, *config.preprocessing.pixel_shape), np.uint8)
    engine.encode_images(pixels)
    assert len(in_numpy) == 1
    engine.encode_images(pixels)
    assert len(in_numpy) == 1


def test_two_threads_that_need_a_tower_compile_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    config = toy.config()
    engine = OpenVinoEngine(config, toy.tensors(config))
    engine.precision = "float16"  # which begins with compiling
    made, two = [], threading.Event()

    class Graph:
        def __init__(self, *given: object) -> None:
            made.append(self)
            if len(made) > 1:
                two.set()
            two.wait(0.1)  # for another thread, which must not come here

        def __call__(self, *inputs: np.ndarray) -> np.ndarray:
            return np.zeros((len(inputs[0]), config.embed_dim), np.float32)

    monkeypatch.setattr(openvino, "CompiledGraph", Graph)
    pixels = np.zeros((1, *config.preprocessing.pixel_shape), np.uint8)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(engine.encode_images, [pixels, pixels]))
    assert len(made) == 1


def test_a_precision_that_the_device_lacks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "available_precisions", lambda device=None: ("float32", "bfloat16"))
    monkeypatch.setattr(compiled, "has_bfloat16", lambda: False)
    config = toy.config()
    assert OpenVinoEngine(config, toy.tensors(config), precision="bfloat16").precision == "bfloat16"
    with pytest.raises(EngineError, match="cpu computes in float32, bfloat16 here, not in 'float16'"):
        OpenVinoEngine(config, toy.tensors(config), precision="float16")


@pytest.mark.parametrize("flag", ["avx512_bf16", "amx_bf16", "avx512f"])
def test_a_processor_that_says_that_it_has_bfloat16_is_not_asked_through_openvino(
    monkeypatch: pytest.MonkeyPatch, flag: str
) -> None:
    monkeypatch.setattr(processor, "_lines", lambda: ["model name\t: A", f"flags\t\t: fpu sse2 {flag}"])
    asked = []
    monkeypatch.setattr(compiled, "available_precisions", lambda device: asked.append(device) or ("float32",))
    if flag == "avx512f":
        with pytest.raises(EngineError, match="cpu computes in float32 here"):
            compiled.precision_name("CPU", "bfloat16", {})
    else:
        assert compiled.precision_name("CPU", "bfloat16", {}) == "bfloat16"
    assert bool(asked) == (flag == "avx512f")
