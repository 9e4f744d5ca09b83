"""What `tandem score` shows and writes: figures, worst and best, every row in a file. Holds no more than the scores."""

import argparse
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from tandem.answer import Failure
from tandem.cli import terminal
from tandem.cli.row_files import RowFile
from tandem.cli.tables import Cell, Column, print_table
from tandem.clip_score.formulas import Floats, Metric
from tandem.clip_score.metrics import METRICS
from tandem.clip_score.results import figures_of
from tandem.clip_score.rows import Cut, ScoredRows
from tandem.clip_score.sheet import Extreme, Extremes, draw_sheet
from tandem.errors import ImageError
from tandem.files import display_name

if TYPE_CHECKING:
    from tandem.evaluate.figures import Figure
    from tandem.model import Model

FIGURES = (
    Column("score"),
    Column("mean", right=True),
    Column("95% interval", right=True),
    Column("n", right=True),
    Column("with other prompts", right=True, drop=1),
    Column("formula"),  # in a terminal below the table: beside it there is no room
)
ENDS = (
    Column("", least=6),
    Column("score", right=True),
    Column("image", least=12, keep_end=True),
    Column("prompt", least=10, drop=1),
)
TITLES = {name: about.title for name, about in METRICS.items()} | {"clip_score_100": "CLIPScore x 40"}
FORMULAS = {name: about.formula for name, about in METRICS.items()} | {
    "clip_score_100": "100 max(cos, 0), as torchmetrics"
}
ON_SHEET = 12  # images at each end


class ScoreReport:
    """The scores of a run as they come in, then the report of it. A context: the file of rows is whole or not there."""

    def __init__(
        self, model: "Model", metrics: Sequence[Metric], arguments: argparse.Namespace, target: Path | None
    ) -> None:
        self.model, self.metrics, self.arguments, self.target = model, tuple(metrics), arguments, target
        self.count = self.rows_written = 0
        self.failures: list[Failure] = []
        self.cut: list[Cut] = []
        self._parts: list[dict[str, Floats]] = []
        self._extremes = Extremes(max(arguments.top, ON_SHEET))
        self._open = ExitStack()
        self._file: RowFile | None = None

    def __enter__(self) -> Self:
        if self.target:
            self._file = self._open.enter_context(RowFile(self.target, self._columns))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, trace)

    @property
    def _has_prompts(self) -> bool:
        return any("prompt" in METRICS[metric].needs for metric in self.metrics)

    @property
    def _columns(self) -> dict[str, type]:
        """Of the file of rows, with their types: the names of `ScoredRows.as_dicts`, and the error."""
        prompts: dict[str, type] = {"prompt": str, "cosine": float} if self._has_prompts else {}
        scores: dict[str, type] = dict.fromkeys(map(str, self.metrics), float)
        return {"row": int, "image": str, **prompts, **scores, "cut_tokens": int, "error": str}

    def add(self, part: ScoredRows) -> None:
        """Take in a batch."""
        self.count += len(part)
        self.failures += part.failures
        self.cut += part.cut
        if len(part):
            self._parts.append(dict(part.values))
            first = part.values[self.metrics[0]]
            columns = (part.sources, part.prompts, first, part.as_dicts())
            self._extremes.add(
                [
                    Extreme(source, prompt, float(score), row)
                    for source, prompt, score, row in zip(*columns, strict=True)
                ]
            )
        if self._file is not None:
            self._file.add(self._rows_of(part))
            self.rows_written = self._file.count

    def _rows_of(self, part: ScoredRows) -> list[tuple[Any, ...]]:
        """Every row of a batch, in order: those that could not be scored with the reason instead of scores."""
        rows: list[tuple[Any, ...]] = []
        for source, row in zip(part.sources, part.as_dicts(), strict=True):
            found = {**row, "image": source, "error": ""}
            rows.append(tuple(found[name] for name in self._columns))
        for each in part.failures:
            prompt = part.failed_prompts.get(each.index)
            failed = {"row": each.index, "image": each.source, "prompt": prompt, "error": each.error.reason}
            rows.append(tuple(failed.get(name) for name in self._columns))
        return sorted(rows, key=lambda row: int(row[0]))

    # --- the report ----------------------------------------------------------------------------------------------

    def figures(self) -> "dict[str, Figure]":
        """The means with their intervals; none where nothing was scored."""
        if not self.count:
            return {}
        values = {name: np.concatenate([part[name] for part in self._parts]) for name in self._parts[0]}
        return figures_of(self.metrics, values, self.arguments.seed)

    def show(self) -> None:
        """The figures, and both ends."""
        figures = self.figures()
        shown = {name: each for name, each in figures.items() if name in TITLES}
        chances = any(figure.chance is not None for figure in shown.values())
        without = set() if chances else {"with other prompts"}
        if sys.stdout.isatty():
            without.add("formula")
        columns = [column for column in FIGURES if column.heading not in without]
        print_table(
            columns,
            [
                [cell for column, cell in zip(FIGURES, _row_of(name, figure), strict=True) if column in columns]
                for name, figure in shown.items()
            ],
        )
        if sys.stdout.isatty():
            for name in shown:
                terminal.print_result(f"{TITLES[name]}: {FORMULAS[name]}")
        if wins := figures.get("own_prompt_wins"):
            terminal.echo(
                f"{wins.value:.1%} of the images fit their own prompt better than another row's "
                f"({wins.low:.1%} to {wins.high:.1%}; guessing: {wins.chance:.0%})"
            )
        ends = [("lowest", each) for each in self._extremes.worst[: self.arguments.top]]
        ends += [
            ("highest", each)
            for each in self._extremes.best[: self.arguments.top]
            if ("lowest", each) not in ends
        ]  # fmt: skip
        print_table(
            ENDS if self._has_prompts else ENDS[:-1],
            [
                (Cell(end), Cell(f"{each.score:.4f}"), Cell(display_name(each.image)), Cell(each.prompt))
                [: 4 if self._has_prompts else 3]
                for end, each in ends
            ],
        )  # fmt: skip

    def document(self, skipped: Sequence[ImageError]) -> dict[str, Any]:
        """What --json prints: rows are as `Scores.as_dict` has them, those of both ends."""
        top = self.arguments.top
        figures = self.figures()
        return {
            "model": {"name": self.model.name, "fingerprint": self.model.fingerprint},
            "prefix": self.arguments.prefix,
            "long": self.arguments.long,
            "formulas": {name: FORMULAS[name] for name in figures if name in FORMULAS},
            "figures": {name: figure.as_dict() for name, figure in figures.items()},
            "lowest": [dict(each.row) for each in self._extremes.worst[:top]],
            "highest": [dict(each.row) for each in self._extremes.best[:top]],
            "cut": [{"row": each.row, "tokens": each.tokens, "cut": each.cut} for each in self.cut],
            "failures": [error.as_dict() for error in skipped],
            **({"file": str(self.target)} if self.target and self.rows_written else {}),
        }

    def draw(self, path: Path) -> None:
        """The sheet of both ends."""
        metric = self.metrics[0]
        figure = self.figures()[metric]
        interval = f" ({figure.low:.4f} to {figure.high:.4f})" if figure.n > 1 else ""
        note = f"mean {figure.value:.4f}{interval}, n {figure.n:,}"
        draw_sheet(self._extremes, path, metric=metric, model=self.model.name, note=note)

    def echo_cut(self) -> None:
        """Name the texts that were cut, the first of them."""
        if not self.cut:
            return
        tokens = self.model.config.text.context_length
        texts = terminal.count_of(len(self.cut), "text")
        terminal.complain(
            f"{texts} cut to the {tokens} tokens that {self.model.name} reads; --long split reads them all:"
        )
        for each in self.cut[: self.arguments.top]:
            beginning = each.text if len(each.text) <= 60 else f"{each.text[:59]}…"
            terminal.list_item(f"row {each.row}: {each.cut:,} of {each.tokens:,} tokens cut: {beginning}")


def _interval(figure: "Figure", digits: int) -> Cell:
    if figure.n == 1:  # one image says nothing of others
        return Cell("")
    return Cell(f"{figure.low:.{digits}f} to {figure.high:.{digits}f}", plain=f"{figure.low:.6f}..{figure.high:.6f}")


def _row_of(name: str, figure: "Figure") -> tuple[Cell, ...]:
    digits = 2 if name == "clip_score_100" else 4
    chance = "" if figure.chance is None else f"{figure.chance:.{digits}f}"
    return (
        Cell(TITLES[name], plain=name),
        Cell(f"{figure.value:.{digits}f}", plain=f"{figure.value:.6f}"),
        _interval(figure, digits),
        Cell(f"{figure.n:,}", plain=str(figure.n)),
        Cell(chance),
        Cell(FORMULAS[name], style=terminal.QUIET),
    )
