"""OpenVINO, imported without its telemetry and its converters. Every module that needs OpenVINO takes it from here.

Where the package `openvino_telemetry` is installed, as it is by default, OpenVINO reports each import to its makers.
Classifying a photo on one's own machine must send nothing, and the report costs about 0.1 s of a cold start, the
converters of other formats, which Tandem never needs, as much again (measured). They are imported when
`openvino.convert_model` is called, without telemetry, too. A program that imported OpenVINO itself before is left as it
is.
"""

import sys
from typing import Any

if "openvino" not in sys.modules:
    _absent = {"openvino_telemetry", "openvino.tools.ovc"} - sys.modules.keys()
    sys.modules.update(dict.fromkeys(_absent))  # type: ignore[arg-type]  # to import them fails, which OpenVINO allows
    try:
        import openvino
    finally:
        for _name in _absent:
            del sys.modules[_name]
else:
    import openvino

import openvino.opset15
from openvino import Node, PartialShape, Type

ov = openvino
op = openvino.opset15

__all__ = ["Node", "PartialShape", "Type", "op", "ov"]


def _convert_model(*arguments: Any, **settings: Any) -> Any:
    """`openvino.convert_model`, which takes its place when it is called for the first time."""
    absent = "openvino_telemetry" not in sys.modules
    if absent:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    try:
        from openvino.tools.ovc import convert_model
    finally:
        if absent:
            del sys.modules["openvino_telemetry"]
    openvino.convert_model = convert_model
    return convert_model(*arguments, **settings)


if not hasattr(openvino, "convert_model"):
    openvino.convert_model = _convert_model
