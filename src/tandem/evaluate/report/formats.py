"""Figures as text: percent for shares, points for differences of shares, plain numbers for the rest."""

import re

from tandem.evaluate.figures import Figure, Unit

FIGURE_HEADINGS = ("", "value", "95% interval", "chance", "n")


def value_text(value: float, unit: Unit = "share") -> str:
    """`42.2%`, `+1.3 points`, `12` (a rank) or `0.048` (a score)."""
    if unit == "share":
        return percent(value)
    if unit == "difference":
        return f"{100 * value:+.1f} points"
    return f"{value:,.1f}".removesuffix(".0") if unit == "rank" else f"{value:.3f}"


def percent(share: float) -> str:
    """`42.2%`; what is less than a tenth of a percent, but not 0, keeps two digits: `0.05%`."""
    return f"{share:.2%}" if 0 < abs(share) < 0.001 else f"{share:.1%}"


def interval_text(figure: Figure) -> str:
    """The 95% interval: `41.2 to 43.2%`."""
    if figure.unit == "share":
        return f"{percent(figure.low).removesuffix('%')} to {percent(figure.high)}"
    if figure.unit == "difference":
        return f"{100 * figure.low:+.1f} to {100 * figure.high:+.1f}"
    return f"{value_text(figure.low, figure.unit)} to {value_text(figure.high, figure.unit)}"


def chance_text(figure: Figure) -> str:
    """What guessing gives, or a dash where that means nothing."""
    if figure.unit == "difference" and figure.chance == 0:
        return "0"
    return "–" if figure.chance is None else value_text(figure.chance, figure.unit)


def figure_row(name: str, figure: Figure) -> tuple[str, ...]:
    """Cells for `FIGURE_HEADINGS`."""
    value = value_text(figure.value, figure.unit)
    return (name_text(name), value, interval_text(figure), chance_text(figure), f"{figure.n:,}")


def name_text(name: str) -> str:
    """A figure's or setting's name as a person reads it: `top1_one_prompt` is `top-1 one prompt`, `recall@1` stays."""
    return re.sub(r"\btop(?=\d)", "top-", name.replace("_", " ").replace("zero shot", "zero-shot"))


def task_text(task: str) -> str:
    """A task's name as the field writes it: `zero-shot`, `linear probe`."""
    return {"linear-probe": "linear probe", "fine-tune": "fine-tuning"}.get(task, task)
