"""How good a model is: tasks, metrics with intervals, reports. The names here are imported on first use."""

from typing import TYPE_CHECKING

from tandem.lazy_names import lazy

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

__getattr__ = lazy(globals(), _HOMES)
