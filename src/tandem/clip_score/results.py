"""The scores of many images: arrays by name, means with intervals, worst and best. Knows no model and no files.

Shapes: n rows whose images could be read.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from tandem import html
from tandem.answer import Failure, ModelIdentity
from tandem.clip_score.formulas import TORCHMETRICS, WEIGHT, Floats, Metric
from tandem.clip_score.metrics import METRICS
from tandem.clip_score.rows import Cut, ScoredRows
from tandem.errors import DataError, MissingExtraError
from tandem.evaluate.figures import Figure
from tandem.evaluate.intervals import bootstrap, means, share
from tandem.files import display_name

REPR_ROWS = 5


@dataclass(frozen=True, eq=False, repr=False)
class Scores:
    """One score of each metric for each row whose image could be read, in order; the others are in `failures`.

    `rows[i]`, `sources[i]`, `prompts[i]` and `values[metric][i]` belong together.
    """

    model: ModelIdentity
    metrics: tuple[Metric, ...]
    rows: tuple[int, ...]  # among the rows given
    sources: tuple[str, ...]
    prompts: tuple[str, ...]
    values: Mapping[str, Floats]  # each float32 [n]: the metrics, and `cosine` of image and prompt
    failures: tuple[Failure, ...] = ()
    cut: tuple[Cut, ...] = ()
    prefix: str = ""

    @classmethod
    def join(
        cls, model: ModelIdentity, metrics: Sequence[Metric], prefix: str, parts: Sequence[ScoredRows]
    ) -> "Scores":
        """The scores of several batches."""
        names = dict.fromkeys(name for part in parts for name in part.values) or dict.fromkeys(metrics)
        return cls(
            model,
            tuple(metrics),
            tuple(row for part in parts for row in part.rows),
            tuple(source for part in parts for source in part.sources),
            tuple(prompt for part in parts for prompt in part.prompts),
            {
                name: np.concatenate([part.values[name] for part in parts if len(part)] or [np.empty(0, np.float32)])
                for name in names
            },
            tuple(failure for part in parts for failure in part.failures),
            tuple(cut for part in parts for cut in part.cut),
            prefix,
        )

    @property
    def scores(self) -> Floats:
        """Of the first metric, float32 [n]."""
        return self.values[self.metrics[0]]

    @property
    def figure(self) -> Figure:
        """The mean of the first metric with its 95% interval."""
        return self.figures[self.metrics[0]]

    @cached_property
    def figures(self) -> dict[str, Figure]:
        """See `figures_of`. Raises `DataError` where no image could be read."""
        return figures_of(self.metrics, self.values)

    def worst(self, k: int = 5, metric: Metric | None = None) -> list[int]:
        """The places in `scores` of the k lowest, lowest first."""
        return [int(place) for place in np.argsort(self.values[metric or self.metrics[0]], kind="stable")[:k]]

    def best(self, k: int = 5, metric: Metric | None = None) -> list[int]:
        """The places in `scores` of the k highest, highest first."""
        return [int(place) for place in np.argsort(-self.values[metric or self.metrics[0]], kind="stable")[:k]]

    def as_dict(self) -> dict[str, Any]:
        """A dict of plain values. POST /v1/score answers with the same; its rows are those of `tandem score` too."""
        rows = ScoredRows(self.rows, self.sources, self.prompts, self.values, cut=self.cut)
        return {
            "model": {"name": self.model.name, "fingerprint": self.model.fingerprint},
            "prefix": self.prefix,
            "figures": {name: figure.as_dict() for name, figure in self.figures.items()} if len(self) else {},
            "results": rows.as_dicts(),
            "failures": [
                {name: display_name(value) for name, value in failure.error.as_dict().items()}
                for failure in self.failures
            ],
        }

    def to_json(self, indent: int | None = 2) -> str:
        return json.dumps(self.as_dict(), indent=indent, ensure_ascii=False, allow_nan=False)

    def to_pandas(self) -> Any:
        """A `pandas.DataFrame`: a row for each image, with the columns of `results` in `as_dict`."""
        try:
            import pandas
        except ImportError:
            raise MissingExtraError("pandas", "pandas", "a table of scores") from None
        return pandas.DataFrame(self.as_dict()["results"]).set_index("image") if len(self) else pandas.DataFrame()

    def _repr_html_(self) -> str:
        """What a notebook shows: the lowest rows, below the means."""
        rows = [
            (f"{self.scores[i]:.4f}", html.text(self.sources[i]), html.text(self.prompts[i]))
            for i in self.worst(REPR_ROWS)
        ]
        head = repr(self).replace("\n  ", "; ")
        return html.table(rows, f"{head}; the lowest {len(rows)}:" if rows else head)

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        if not len(self):
            return f"Scores: no image could be read; {len(self.failures):,} skipped (see .failures)"
        lines = [f"Scores: {len(self):,} rows, {self.model.name}"]
        for metric in self.metrics:
            figure = self.figures[metric]
            about = METRICS[metric]
            interval = f" ({figure.low:.4f} to {figure.high:.4f})" if figure.n > 1 else ""
            lines.append(f"  {about.title} {figure.value:.4f}{interval}, {about.formula}")
        if self.failures:
            lines.append(f"  skipped: {len(self.failures):,} (see .failures)")
        if self.cut:
            lines.append(f"  texts that were cut: {len(self.cut):,} (see .cut)")
        return "\n".join(lines)


def figures_of(metrics: Sequence[Metric], values: Mapping[str, Floats], seed: int = 0) -> dict[str, Figure]:
    """The mean of each metric with its 95% bootstrap interval over rows; values float32 [n], at least one row.

    Beside CLIPScore: `clip_score_100`, the same in torchmetrics' unit, 100 max(cos, 0); and `own_prompt_wins`, the
    share of rows whose image fits its own prompt better than that of another row, where guessing gives a half. The
    chance of a CLIPScore is what the images score with those other prompts.
    """
    n = len(values[metrics[0]])
    if n == 0:
        raise DataError("nothing was scored: no image could be read")
    found: dict[str, Figure] = {}
    columns = np.stack([values[metric] for metric in metrics], axis=1)
    intervals = bootstrap(means(columns), n, seed=seed)
    for metric, interval in zip(metrics, intervals, strict=True):
        found[metric] = Figure.of(interval, n, unit="score")
    if "clip_score" in found:
        found |= _beside_clip_score(found["clip_score"], values, seed)
    return found


def _beside_clip_score(score: Figure, values: Mapping[str, Floats], seed: int) -> dict[str, Figure]:
    other = values.get("other", np.empty(0, np.float32))
    compared = ~np.isnan(other)
    chance = None
    wins: dict[str, Figure] = {}
    if compared.any():
        own, others = values["cosine"][compared], other[compared]
        chance = float(WEIGHT * np.maximum(others, 0).mean())
        won = ((own > others) + 0.5 * (own == others)).astype(np.float32)
        interval = share(bootstrap(means(won[:, None]), len(won), seed=seed)[0], len(won))
        wins["own_prompt_wins"] = Figure.of(interval, len(won), chance=0.5)
    times = TORCHMETRICS / WEIGHT
    return {
        "clip_score": Figure(score.value, score.n, score.low, score.high, chance, "score"),
        "clip_score_100": Figure(
            times * score.value,
            score.n,
            times * score.low,
            times * score.high,
            None if chance is None else times * chance,
            "score",
        ),
        **wins,
    }
