"""OpenVINO, imported without its telemetry and its converters. Every module that needs OpenVINO takes it from here.

Where the package `openvino_telemetry` is installed, as it is by default, OpenVINO reports each import to its makers.
Classifying a photo on one's own machine must send nothing, and the report costs about 0.1 s of a cold start. The
converters of other formats, which Tandem never needs, cost as much again (measured); they are imported, also without
telemetry, at the first call of `openvino.convert_model`. Where a program has imported OpenVINO before, nothing changes.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tandem.errors import EngineError, in_words


@contextmanager
def _without(*names: str) -> Iterator[None]:
    """Let imports of modules fail that are not imported yet, which OpenVINO allows for."""
    blocked = set(names) - sys.modules.keys()
    sys.modules.update(dict.fromkeys(blocked))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in blocked:
            del sys.modules[name]


def _convert_model(*arguments: Any, **settings: Any) -> Any:
    """`openvino.convert_model`, which takes this function's place at its first call."""
    with _without("openvino_telemetry"):
        from openvino.tools.ovc import convert_model
    openvino.convert_model = convert_model
    return convert_model(*arguments, **settings)


try:
    if "openvino" not in sys.modules:
        with _without("openvino_telemetry", "openvino.tools.ovc"):
            import openvino
        if not hasattr(openvino, "convert_model"):
            openvino.convert_model = _convert_model
    import openvino
    import openvino.opset15
    from openvino import Node, PartialShape, Type
except Exception as _error:  # half an installation, another version, a library of the system that is missing
    raise EngineError(
        f"openvino is installed, but cannot be used ({in_words(_error)}): install it again with: "
        "pip install --force-reinstall openvino; or take the engine torch"
    ) from _error

ov = openvino
op = openvino.opset15

__all__ = ["Node", "PartialShape", "Type", "op", "ov"]
