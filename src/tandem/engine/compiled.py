"""Graphs compiled and run by OpenVINO: devices, precisions, and the requests of each graph.

Knows no model: what a graph computes, `graph.py` says.
"""

import functools
import mmap
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tandem.engine.memory import ReleasePages
from tandem.errors import EngineError
from tandem.processor import has_bfloat16
from tandem.towers.parts.int8 import is_quantized, multiplies_int8
from tandem.towers.parts.tensors import Tensors

if TYPE_CHECKING:
    import openvino as ov

_CAPABILITIES = {"float32": "FP32", "bfloat16": "BF16", "float16": "FP16"}
INT8_AND_BFLOAT16 = "int8 and bfloat16"
_TYPES = {  # of what is not eight bits
    "float32": "f32", "bfloat16": "bf16", "float16": "f16", "int8": "f32", INT8_AND_BFLOAT16: "bf16",
}  # fmt: skip


LEAST_ROWS = 4  # of a part of a batch: single threads compute fewer at a lower rate (measured)


class CompiledGraph:
    """A compiled graph; calls from several threads take turns, since each uses every core.

    `streams`: how many parts of a batch are computed at the same time, by one thread each. Layers of a small graph take
    microseconds, and threads that share them mostly wait for each other.
    """

    def __init__(
        self,
        build: Callable[[], "ov.Model"],
        device: str,
        precision: str,
        mapped: list[mmap.mmap],
        streams: int = 1,
    ) -> None:
        options: dict[str, str | bool] = {
            "INFERENCE_PRECISION_HINT": _TYPES[precision],
            "PERFORMANCE_HINT": "LATENCY",
        }
        if device == "CPU":
            # Denormals count as zero. Otherwise all weights are searched for them before any is packed (measured:
            # a third of the time to compile, and a whole copy of the weights in memory at once)
            options["CPU_DENORMALS_OPTIMIZATION"] = True
        if streams > 1:
            options |= {"NUM_STREAMS": str(streams), "INFERENCE_NUM_THREADS": str(streams)}
            options["PERFORMANCE_HINT"] = "THROUGHPUT"
        with ReleasePages(mapped):
            graph = build()
            compiled = core().compile_model(graph, device, options)
            self._requests = [compiled.create_infer_request() for _ in range(streams)]
        self._inputs = len(graph.inputs)
        self._mapped = mapped  # until the first run, which packs what compiling has not
        self._lock = threading.Lock()

    def __call__(self, *inputs: NDArray[np.generic]) -> NDArray[np.float32]:
        """The output for the first inputs that the graph has: not every text tower needs the positions of ends.

        Where there are several streams, the inputs are cut along their first axis into a part for each, or fewer.
        """
        inputs = inputs[: self._inputs]
        if len(self._requests) == 1:
            return self.each([inputs])[0]
        rows = len(inputs[0])
        size = max(LEAST_ROWS, -(-rows // len(self._requests)))
        starts = range(0, max(rows, 1), size)
        found = self.each([tuple(array[start : start + size] for array in inputs) for start in starts])
        return found[0] if len(found) == 1 else np.concatenate(found)

    def each(self, batches: Sequence[tuple[NDArray[np.generic], ...]]) -> list[NDArray[np.float32]]:
        """The output for each batch of inputs; as many at the same time as there are streams."""
        found: list[NDArray[np.float32]] = []
        with self._lock, ReleasePages(self._mapped):
            for first in range(0, len(batches), len(self._requests)):
                started = self._requests[: len(batches) - first]
                for request, inputs in zip(started, batches[first:], strict=False):
                    request.start_async(list(inputs), share_inputs=True)
                for request in started:
                    request.wait()
                found += [request.get_output_tensor(0).data.copy() for request in started]
            self._mapped = []
        return found


def available_precisions(device: str | None = None) -> tuple[str, ...]:
    """The precisions in which the device computes, float32 first."""
    capabilities = core().get_property(device_name(device), "OPTIMIZATION_CAPABILITIES")
    return tuple(name for name, capability in _CAPABILITIES.items() if capability in capabilities)


@functools.cache
def core() -> "ov.Core":
    """OpenVINO itself, started once in a process."""
    # Imported when something is compiled: what the numpy engine answers alone is spared a tenth of a second (measured)
    from tandem.openvino_import import ov

    return ov.Core()


def device_name(device: str | None) -> str:
    """The device as OpenVINO calls it. Raises `EngineError` for one that it does not find."""
    name = (device or "cpu").upper()
    if name == "CPU":
        return name
    found = core().available_devices
    if name.split(".")[0] not in {other.split(".")[0] for other in found}:
        known = ", ".join(other.lower() for other in found)
        raise EngineError(f"device: OpenVINO finds {known} on this machine, not {device!r}; cuda and mps need torch")
    return name


def precision_name(device: str, precision: str, tensors: Tensors) -> str:
    """The precision to compute in. Raises `EngineError` for one that the device, or the model, does not have."""
    if multiplies_int8(tensors):
        if precision in ("auto", "int8"):
            return "int8"
        raise EngineError(
            f"precision: this model is quantised and computes in int8, not in {precision!r}; leave precision out, or "
            "load the model that it was made from"
        )
    if precision == "int8" and is_quantized(tensors):
        raise EngineError(
            "precision: this model only keeps its weights in int8, and computes in float32, or in bfloat16 where the "
            "device has it; leave precision out"
        )
    if precision == "int8":
        raise EngineError(
            "precision: int8 is for quantised models: make one with `tandem quantize SOURCE TARGET`, and load TARGET"
        )
    if precision in ("auto", "float32"):
        return "float32"
    if device == "CPU" and precision == "bfloat16" and has_bfloat16():
        return precision  # without OpenVINO: what numpy answers alone needs none
    available = available_precisions(device)
    if precision not in available:
        raise EngineError(
            f"precision: {device.lower()} computes in {', '.join(available)} here, not in {precision!r}; "
            "use one of these, or auto"
        )
    return precision
