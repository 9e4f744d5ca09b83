"""OpenVINO, imported without its telemetry. Every module that needs OpenVINO takes it from here.

Where the package `openvino_telemetry` is installed, as it is by default, OpenVINO reports each import to its makers.
Classifying a photo on one's own machine must send nothing, and the report costs about 0.1 s of a cold start
(measured). A program that imported OpenVINO itself before is left as it is; `openvino.convert_model` works either way.
"""

import sys

if "openvino" not in sys.modules and "openvino_telemetry" not in sys.modules:
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # an import of it fails, which OpenVINO allows
    try:
        import openvino
    finally:
        del sys.modules["openvino_telemetry"]
else:
    import openvino

import openvino.opset15
from openvino import Node, PartialShape, Type

ov = openvino
op = openvino.opset15

__all__ = ["Node", "PartialShape", "Type", "op", "ov"]
