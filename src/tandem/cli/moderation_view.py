"""Decisions, fits and reports of `tandem moderate` as lines of a terminal and rows of files."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tandem.cli import terminal
from tandem.cli.tables import Cell, Column, Value, print_table, row_printer
from tandem.moderation.decisions import BANDS, CategoryDecision, Decision
from tandem.scores.scoring import digits, percent

if TYPE_CHECKING:
    from tandem.evaluate.figures import Figure
    from tandem.moderation.fit_file import Fit
    from tandem.moderation.log_report import CategoryReport
    from tandem.moderation.policy import Policy

NAME_CELLS, TEXT_CELLS = 32, 24
SORTED = 1000  # photos that are kept to be shown in order
FILE_COLUMNS = {
    "image": str, "band": str, "category": str, "category_band": str, "probability": float, "low": float, "high": float,
    "score": float, "text_for": str, "text_against": str, "example_for": str, "example_against": str,
}  # fmt: skip
STYLES = {"block": "bold red", "review": "yellow", "cannot tell": "yellow", "allow": terminal.ACCENT}
ROWS = (
    Column("photo", least=12, keep_end=True),
    Column("band"),
    Column("category", drop=2),
    Column("probability", right=True),
    Column("score", right=True, drop=1),
    Column("nearest text", least=10, for_people=True, drop=3),
)
COUNTS = (Column("category", least=8), *(Column(band, right=True) for band in BANDS))
FIGURES = (
    Column("category"),
    Column("", least=12),
    Column("promised", right=True),
    Column("measured", right=True),
    Column("95% from", right=True, drop=4),
    Column("to", right=True, drop=3),
    Column("chance", right=True, drop=1),
    Column("n", right=True, drop=2),
)
NAMES = {
    "block_precision": "right of what is blocked",
    "block_recall": "blocked of what shows it",
    "review_precision": "right of what is looked at",
    "review_recall": "looked at or blocked of what shows it",
    "auc": "AUC",
    "calibration_error": "calibration error",
}


def rows_of(decision: Decision) -> Iterator[tuple[Any, ...]]:
    """The rows of an image, in the order of `FILE_COLUMNS`: one for each category."""
    for name, each in decision.categories.items():
        low, high = each.interval or (None, None)
        texts = [each.nearest[side].text for side in ("for", "against")]
        examples = [each.nearest[side].example for side in ("for", "against")]
        yield (
            *(decision.image, decision.band, name, each.band, each.probability, low, high, each.score),
            *texts,
            *(example or "" for example in examples),
        )


class Rows:
    """Photos as they are shown: to programs a line for each category, as they come; to people a line for each photo.

    In a terminal the most severe come first, where there are at most `SORTED` of them; more are shown as they come.
    """

    def __init__(self, policy: "Policy", total: int) -> None:
        self._terse = not sys.stdout.isatty()
        self.sorts = not self._terse and total <= SORTED
        self._kept: list[Decision] = []
        widest = max(map(len, policy.categories))
        widths = [NAME_CELLS, max(map(len, BANDS)), widest, len("probability"), 8, TEXT_CELLS]
        self._show = row_printer(ROWS, widths)
        if not self._terse and not self.sorts and total:
            self._show([Cell(column.heading, style=terminal.QUIET) for column in ROWS])

    def add(self, part: Sequence[Decision]) -> None:
        """The next photos."""
        if self.sorts:
            self._kept += part
            return
        for decision in part:
            each = decision.categories
            for name in each if self._terse else [_decisive(each)]:
                self._show(_row(decision, name, each[name], each[name].band if self._terse else decision.band))

    def finish(self) -> None:
        """Show what was kept."""
        kept = sorted(self._kept, key=_severity, reverse=True)
        print_table(
            ROWS, [_row(each, name := _decisive(each.categories), each.categories[name], each.band) for each in kept]
        )


def _severity(decision: Decision) -> tuple[int, float, float]:
    """What photos are ordered by: the band, then how likely the category is that decides, then its score."""
    each = decision.categories[_decisive(decision.categories)]
    return BANDS.index(decision.band), each.probability or 0.0, each.score


def _decisive(categories: Mapping[str, CategoryDecision]) -> str:
    """The category that decides: of the most severe band the likeliest."""
    return max(
        categories,
        key=lambda name: (
            BANDS.index(categories[name].band),
            categories[name].probability or 0,
            categories[name].score,
        ),
    )


def _row(decision: Decision, name: str, each: CategoryDecision, band: str) -> Sequence[Value]:
    shown = "" if each.probability is None else percent(each.probability)
    return (
        decision.image,
        Cell(band, style=STYLES.get(band, "")),
        name,
        Cell(shown, plain="" if each.probability is None else digits(each.probability)),
        Cell(f"{each.score:.2f}", plain=f"{each.score:.6g}"),
        Cell(_decided_by(each), style=terminal.QUIET),
    )


def _decided_by(each: CategoryDecision) -> str:
    """The nearest text, unless the labelled photos decided: then no text did."""
    if each.score_kind == "learned":
        return "(labelled photos)"
    return each.nearest["for" if each.band in ("block", "review") else _nearer(each)].text


def _nearer(each: CategoryDecision) -> str:
    return max(each.nearest, key=lambda side: each.nearest[side].text_cosine)


def show_counts(tally: Mapping[str, Mapping[str, int]]) -> None:
    """The photos in each band: in a terminal a table by category, else a note."""
    everything = tally[""]
    said = ", ".join(f"{everything[band]:,} {band}" for band in reversed(BANDS) if everything[band])
    if sys.stdout.isatty() and len(tally) > 2:
        terminal.print_lines()
        print_table(
            COUNTS,
            [
                (name or "all", *(Cell(f"{bands[band]:,}", plain=str(bands[band])) for band in BANDS))
                for name, bands in tally.items()
            ],
        )
        sys.stdout.flush()
    if said:
        terminal.echo(f"{terminal.count_of(sum(everything.values()))}: {said}")


# --- fits ------------------------------------------------------------------------------------------------------------


def show_fit(fit: "Fit", target: Path) -> None:
    """What was promised and what was measured, and where the bands begin."""
    rows: list[Sequence[Value]] = []
    for name, each in fit.categories.items():
        rows += _figure_rows(name, each.figures, each.promised)
    print_table(FIGURES, rows)
    sys.stdout.flush()
    for name, each in fit.categories.items():
        terminal.echo(
            f"{name}: fitted on {each.positives:,} photos with it and {each.negatives:,} without, by the score of "
            f"{each.score_kind}; stated base rate {percent(each.base_rate)}, there {percent(each.fitted_base_rate)}"
        )
        if each.cannot_tell:
            terminal.echo(f"{name}: cannot tell: {each.cannot_tell}; no photo will be in a band")
        else:
            bands = [("review", each.review_probability), ("block", each.block_probability)]
            said = [f"{band} {_from(probability)}" for band, probability in bands]
            terminal.echo(f"{name}: {', '.join(said)}")
        for note in each.notes:
            terminal.echo(f"{name}: {note}")
    for note in fit.notes:
        terminal.echo(f"note: {note}")
    terminal.echo(f"figures are of photos that the bands were not set on; wrote {target}")


def _from(probability: float | None) -> str:
    return "never" if probability is None else f"from {percent(probability)}"


def _figure_rows(
    name: str, figures: "Mapping[str, Figure]", promised: Mapping[str, float]
) -> Iterator[Sequence[Value]]:
    for key, what in NAMES.items():
        figure = figures.get(key)
        if figure is None:
            continue
        share = figure.unit == "share"
        wanted = promised.get(key)
        numbers = [wanted, figure.value, figure.low, figure.high, figure.chance]
        cells = [
            Cell("") if each is None else Cell(percent(each) if share else f"{each:.3f}", plain=f"{each:.6f}")
            for each in numbers
        ]
        yield name, Cell(what, plain=key), *cells, Cell(f"{figure.n:,}", plain=str(figure.n))


# --- reports ---------------------------------------------------------------------------------------------------------


def show_reports(reports: "Sequence[CategoryReport]") -> None:
    """The bands of every category; with labels the figures, and the photos that were hardest."""
    print_table(
        (Column("policy", least=6, drop=1), *COUNTS, Column("mean probability", right=True, drop=2)),
        [
            (
                each.policy,
                each.category,
                *(Cell(f"{each.bands[band]:,}", plain=str(each.bands[band])) for band in BANDS),
                ""
                if each.mean_probability is None
                else Cell(percent(each.mean_probability), plain=digits(each.mean_probability)),
            )
            for each in reports
        ],
    )
    for each in reports:
        if each.figures is None:
            continue
        if each.figures:
            terminal.print_lines()
            print_table(FIGURES, list(_figure_rows(each.category, each.figures, {})))
        sys.stdout.flush()
        if each.fitted_on:
            terminal.echo(
                f"{each.category}: {terminal.count_of(each.fitted_on)} of the labelled ones were used for the fit, and "
                "are left out of the figures: it was made to be right on them"
            )
        if each.unknown:
            terminal.echo(
                f"{each.category}: of {terminal.count_of(each.unknown)} it is not known whether the fit used them; "
                "if it did, expect less on new ones (the logs of a new fit record it)"
            )
        if not each.figures:
            terminal.echo(
                f"{each.category}: no figures: they need photos with it and without it that have a probability and "
                "were not used for the fit"
            )
        for title, found in (("without it, highest first", each.hard_negatives), ("with it, but allowed", each.missed)):
            if found:
                sys.stdout.flush()
                terminal.echo(f"{each.category}: {title}:")
                print_table(
                    (Column("photo", least=12, keep_end=True), Column("band"), Column(right=True), Column(right=True)),
                    [
                        (
                            one.image,
                            one.band,
                            "" if one.probability is None else Cell(percent(one.probability), digits(one.probability)),
                            Cell(f"{one.score:.2f}", plain=f"{one.score:.6g}"),
                        )
                        for one in found
                    ],
                )
    sys.stdout.flush()
