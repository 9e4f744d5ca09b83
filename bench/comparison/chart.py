"""Rates of all sides as bars, a panel a row, with their quartiles. Lengths are inches."""

from pathlib import Path

from matplotlib import rc_context

from comparison.results import Results
from comparison.rows import LOWER_IS_BETTER, ROWS, SIDES, shown
from comparison.spread import spread
from tandem.plots.page import BEST, FOOT, INK, MARGIN, QUIET, Page

WIDTH, NAMES, BAR, TITLE = 9.0, 2.4, 0.22, 0.62
PEER = "#b8c2cc"
PRECISIONS = {"float32": 0.45, "bfloat16": 0.72, "int8": 1.0}  # how much of its colour a bar has


def draw(results: Results, path: Path) -> None:
    """Writes `path`, whose suffix names the format. Rows of accuracy are not drawn."""
    rows = [results.rows[key] for key in ROWS if key in results.rows and ROWS[key].work != "accuracy"]
    height = sum(TITLE + BAR * len(row.values) for row in rows) + MARGIN + FOOT
    page = Page(WIDTH, height)
    top = MARGIN / 2
    for row in rows:
        about = ROWS[row.row]
        found = {name: spread(values) for name, values in row.values.items()}
        better = "lower" if about.unit in LOWER_IS_BETTER else "higher"
        page.text(MARGIN, top + 0.2, about.title, size=10.5, weight="bold")
        page.text(WIDTH - MARGIN, top + 0.2, f"{about.unit}, {better} is better", size=8, color=QUIET, ha="right")
        axes = page.axes(NAMES, top + 0.38, WIDTH - NAMES - MARGIN - 0.6, BAR * len(found))
        places = range(len(found))
        colors = [BEST if SIDES[name].is_ours else PEER for name in found]
        medians = [each.median for each in found.values()]
        errors = [
            [each.median - each.low for each in found.values()],
            [each.high - each.median for each in found.values()],
        ]
        bars = axes.barh(
            places, medians, height=0.76, color=colors, xerr=errors, ecolor=INK, error_kw={"linewidth": 0.8}
        )
        for bar, name in zip(bars, found, strict=True):
            bar.set_alpha(PRECISIONS[SIDES[name].precision])
        axes.set_yticks(places, [shown(row.row, name) for name in found], fontsize=8)
        for tick, name in zip(axes.get_yticklabels(), found, strict=True):
            tick.set_fontweight("bold" if SIDES[name].is_ours else "normal")
        axes.invert_yaxis()
        most = max(each.high for each in found.values())
        axes.set_xlim(0, most * 1.12)
        for place, each in zip(places, found.values(), strict=True):
            label = f"{each.median:,.0f}" if each.median >= 100 else f"{each.median:.3g}"
            axes.text(each.high + most * 0.01, place, label, va="center", fontsize=7.5, color=INK)
        axes.set_xticks([])
        for spine in axes.spines.values():
            spine.set_visible(False)
        axes.tick_params(length=0)
        top += TITLE + BAR * len(found)
    page.foot("medians with quartiles; green: Tandem; the darker, the fewer bits", "make bench")
    with rc_context({"svg.fonttype": "none"}):  # letters, not their outlines: an eighth of the size
        page.save(path)
