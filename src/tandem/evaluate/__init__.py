"""How good a model is: tasks, metrics with intervals, reports. The names here are imported on first use."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tandem.evaluate.comparison import compare
    from tandem.evaluate.evaluating import evaluate
    from tandem.evaluate.features import embed_dataset
    from tandem.evaluate.learning import learn
    from tandem.evaluate.run_report import RunReport

__all__ = ["RunReport", "compare", "embed_dataset", "evaluate", "learn"]

_HOMES = {
    "RunReport": "tandem.evaluate.run_report",
    "compare": "tandem.evaluate.comparison",
    "embed_dataset": "tandem.evaluate.features",
    "evaluate": "tandem.evaluate.evaluating",
    "learn": "tandem.evaluate.learning",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'tandem.evaluate' has no attribute {name!r}; its names are {', '.join(__all__)}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
