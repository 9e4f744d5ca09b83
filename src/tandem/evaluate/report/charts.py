"""Small charts as inline SVG: curves with intervals, a matrix of counts. Colours follow the page, light or dark.

Pure functions on numbers and names. Lengths are units of the `viewBox`, about pixels.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from tandem.evaluate.report.html import Html, escape

COLORS = tuple(f"var(--{name})" for name in ("accent", "second", "third", "fourth", "fifth", "sixth"))
WIDTH, HEIGHT = 520, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 24, 32, 44
_TEXT = 'font-family="system-ui, sans-serif" font-size="12" fill="currentColor"'


class Point(NamedTuple):
    """A point of a curve, and its interval where it has one."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None


class Curve(NamedTuple):
    """A named line through points."""

    name: str
    points: Sequence[Point]


def curves(
    lines: Sequence[Curve],
    *,
    x_label: str,
    y_label: str,
    logarithmic: bool = False,
    diagonal: bool = False,
    level: tuple[str, float] | None = None,
    unit_square: bool = False,
) -> Html:
    """Lines over one another, y as percent. `level` is a dashed line across, `diagonal` that of y = x.

    `logarithmic` is the axis of x, whose values must then be above 0; `unit_square` shows 0 to 1 on both axes.
    Raises `ValueError` where no line has a point.
    """
    points = [point for line in lines for point in line.points]
    if not points:
        raise ValueError("a chart needs at least one point")

    def along(x: float) -> float:
        return math.log10(x) if logarithmic else x

    xs = [0.0, 1.0] if unit_square else [along(point.x) for point in points]
    ys = [value for point in points for value in (point.y, point.low, point.high) if value is not None]
    ys += [level[1]] if level else []
    left, right = min(xs), max(xs)
    if left == right:
        left, right = left - 0.5, right + 0.5
    low, high, y_ticks = (0.0, 1.0, _ticks(0, 1)) if unit_square else _range(min(ys), max(ys))

    def at(x: float, y: float) -> tuple[float, float]:
        across = (x - left) / (right - left)
        return (
            _LEFT + across * (WIDTH - _LEFT - _RIGHT),
            HEIGHT - _BOTTOM - (y - low) / (high - low) * (HEIGHT - _TOP - _BOTTOM),
        )

    parts = []
    for tick in y_ticks:
        (_, y) = at(left, tick)
        parts.append(f'<line x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="var(--line)"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end" {_TEXT}>{100 * tick:g}%</text>')
    for x, written in _x_ticks([point.x for point in points], logarithmic, unit_square):
        (place, _) = at(along(x), low)
        parts.append(f'<text x="{place:.1f}" y="{HEIGHT - _BOTTOM + 18}" text-anchor="middle" {_TEXT}>{written}</text>')
    parts.append(f'<text x="{_LEFT - 44}" y="14" {_TEXT}>{escape(y_label)}</text>')
    middle = (_LEFT + WIDTH - _RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 6}" text-anchor="middle" {_TEXT}>{escape(x_label)}</text>')
    if diagonal:
        parts.append(_straight(at(max(left, low), max(left, low)), at(min(right, high), min(right, high))))
    if level:
        parts.append(_straight(at(left, level[1]), at(right, level[1])))
    for number, line in enumerate(lines):
        color = COLORS[number % len(COLORS)]
        places = [at(along(point.x), point.y) for point in line.points]
        for point, (x, _) in zip(line.points, places, strict=True):
            if point.low is not None and point.high is not None:
                (_, bottom), (_, top) = at(left, point.low), at(left, point.high)
                parts.append(
                    f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{bottom:.1f}" y2="{top:.1f}" stroke="{color}" '
                    'stroke-width="1.5" opacity=".55"/>'
                )
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{color}"/>' for x, y in places]
    legend = [(line.name, COLORS[number % len(COLORS)], "") for number, line in enumerate(lines) if line.name]
    if level:
        legend.append((level[0], "var(--quiet)", ' stroke-dasharray="4 4"'))
    return _framed(parts, legend, y_label)


def matrix(shares: Sequence[Sequence[float]], names: Sequence[str], *, rows: str, columns: str) -> Html:
    """A square of shares 0..1, darker for more; `names` stand at its rows, their numbers above its columns.

    Names are cut to 24 characters; whole names and values appear where the pointer rests.
    """
    count = len(names)
    side = max(10, min(28, 460 // max(count, 1)))
    left, top = 190, 40
    width, height = left + side * count + 8, top + side * count + 8
    size = min(12, side - 1)
    parts = []
    for row, name in enumerate(names):
        middle = top + (row + 0.5) * side + size / 3
        cut = name if len(name) <= 24 else f"{name[:23]}…"
        parts.append(
            f'<text x="{left - 6}" y="{middle:.1f}" text-anchor="end" {_sized(size)}>{escape(cut)} {row + 1}</text>'
        )
        parts.append(
            f'<text x="{left + (row + 0.5) * side:.1f}" y="{top - 5}" text-anchor="middle" {_sized(min(size, 10))}>'
            f"{row + 1}</text>"
        )
        for column, share in enumerate(shares[row]):
            color = "var(--good)" if row == column else "var(--bad)"
            said = f"{name} → {names[column]}: {share:.1%}"
            parts.append(
                f'<rect x="{left + column * side}" y="{top + row * side}" width="{side - 1}" height="{side - 1}" '
                f'fill="{color}" fill-opacity="{_visible(share):.3f}"><title>{escape(said)}</title></rect>'
            )
    parts.append(f'<text x="{left}" y="14" {_TEXT}>{escape(columns)} →</text>')
    parts.append(f'<text x="{left - 6}" y="14" text-anchor="end" {_TEXT}>{escape(rows)} ↓</text>')
    style = f"max-width:{width * 1.2:.0f}px;color:var(--ink)"
    return Html(f'<svg viewBox="0 0 {width} {height}" role="img" style="{style}">{"".join(parts)}</svg>')


def _visible(share: float) -> float:
    """Opacity: nothing stays nearly white, and a single mistake in twenty can still be seen."""
    return 0.04 + 0.96 * math.sqrt(min(max(share, 0.0), 1.0))


def _straight(begin: tuple[float, float], end: tuple[float, float]) -> str:
    (x1, y1), (x2, y2) = begin, end
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="var(--quiet)" stroke-dasharray="4 4"/>'
    )


def _sized(size: float) -> str:
    return _TEXT.replace('font-size="12"', f'font-size="{size:g}"')


def _framed(parts: Sequence[str], legend: Sequence[tuple[str, str, str]], y_label: str) -> Html:
    """The drawing with its legend below, as wide as the longest name needs."""
    named = []
    y = HEIGHT + 8
    for name, color, dashes in legend:
        named.append(
            f'<line x1="{_LEFT}" x2="{_LEFT + 22}" y1="{y}" y2="{y}" stroke="{color}" stroke-width="2"{dashes}/>'
        )
        named.append(f'<text x="{_LEFT + 30}" y="{y + 4}" {_TEXT}>{escape(name)}</text>')
        y += 18
    box = f"0 0 {WIDTH} {y if legend else HEIGHT}"
    return Html(
        f'<svg viewBox="{box}" role="img" aria-label="{escape(y_label)}" style="max-width:{WIDTH * 1.3:.0f}px;'
        f'color:var(--ink)">{"".join(parts)}{"".join(named)}</svg>'
    )


def _range(low: float, high: float) -> tuple[float, float, list[float]]:
    """Round bounds around two shares, and the ticks between them."""
    if low == high:
        low, high = low - 0.05, high + 0.05
    ticks = _ticks(low, high)
    return ticks[0], ticks[-1], ticks


def _ticks(low: float, high: float) -> list[float]:
    """Four to ten round numbers from at most `low` to at least `high`."""
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 10) for number in range(first, last + 1)]


def _x_ticks(xs: Sequence[float], logarithmic: bool, unit_square: bool) -> list[tuple[float, str]]:
    if unit_square:
        return [(tick, f"{100 * tick:g}%") for tick in _ticks(0, 1)]
    distinct = sorted(set(xs))
    if len(distinct) <= 8:
        return [(x, f"{x:g}") for x in distinct]
    if logarithmic:
        powers = range(math.ceil(math.log10(distinct[0])), math.floor(math.log10(distinct[-1])) + 1)
        every = max(1, len(powers) // 6)
        return [(10.0**power, f"{10**power:,}" if 0 <= power <= 4 else f"1e{power}") for power in powers[::every]]
    return [(tick, f"{tick:g}") for tick in _ticks(distinct[0], distinct[-1]) if distinct[0] <= tick <= distinct[-1]]
