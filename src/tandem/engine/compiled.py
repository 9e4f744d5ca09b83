"""Graphs compiled and run by OpenVINO: devices, precisions, and one request for each graph.

Knows no model: what a graph computes, `graph.py` says.
"""

import functools
import mmap
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tandem.engine.memory import ReleasePages
from tandem.errors import EngineError
from tandem.processor import has_bfloat16

if TYPE_CHECKING:
    import openvino as ov

_CAPABILITIES = {"float32": "FP32", "bfloat16": "BF16", "float16": "FP16"}
_TYPES = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}


class CompiledGraph:
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
            self._request = core().compile_model(graph, device, options).create_infer_request()
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


def precision_name(device: str, precision: str) -> str:
    """The precision to compute in. Raises `EngineError` for one that the device does not have."""
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
