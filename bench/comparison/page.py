"""Results as a section of docs/benchmarks.md, between two markers. What is written by hand around it stays."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from comparison.results import Measured, Results
from comparison.rows import AIMS, BASE, LOWER_IS_BETTER, POINTS, ROWS, SEARCH_MS, SIDES, STRONGEST, Aim, shown
from comparison.spread import Spread, ratios, spread

BEGIN, END = "<!-- make bench -->", "<!-- end of make bench -->"
CHART = "images/peers.svg"


class Refused(Exception):
    """These figures are not written."""


def refreshed(page: str, section: str) -> str:
    """The page with another section. Raises `Refused` for a page without the markers."""
    pattern = re.compile(f"({re.escape(BEGIN)}\n).*?({re.escape(END)})", re.DOTALL)
    if not pattern.search(page):
        raise Refused(f"expected the lines {BEGIN} and {END} in the page")
    return pattern.sub(lambda found: found[1] + section.rstrip("\n") + "\n" + found[2], page)


def write(page: Path, section: str) -> None:
    page.write_text(refreshed(page.read_text(encoding="utf-8"), section), encoding="utf-8")


def check_writable(results: Results) -> None:
    """Raises `Refused` for results of a busy machine, and for none."""
    if not results.rows:
        raise Refused("nothing has been measured: no page is written")
    busy = {row.row: row.others_during for row in results.rows.values() if row.is_busy()}
    if busy:
        named = ", ".join(f"{key} ({share:.0%})" for key, share in busy.items())
        raise Refused(f"other processes used the machine during {named}: no page is written")


# --- ratios ---------------------------------------------------------------------------------------------------------


def rates(row: Measured, side: str) -> list[float]:
    """Higher is better, whatever the row's unit."""
    values = row.values[side]
    return [1 / value for value in values] if ROWS[row.row].unit in LOWER_IS_BETTER else values


def strongest(row: Measured, precision: str) -> str | None:
    """The fastest peer at a precision, by its median; None where there is none."""
    peers = [name for name in row.values if _is_peer(name) and SIDES[name].precision == precision]
    return max(peers, key=lambda name: spread(rates(row, name)).median, default=None)


def _is_peer(name: str) -> bool:
    return not SIDES[name].is_ours and "77 tokens" not in name


def fastest(row: Measured, library: str) -> str | None:
    ours = [name for name in row.values if SIDES[name].library == library]
    return max(ours, key=lambda name: spread(rates(row, name)).median, default=None)


def compared(row: Measured, ours: str | None, other: str | None) -> Spread | None:
    if ours is None or other is None or ours not in row.values or other not in row.values:
        return None
    return ratios(rates(row, ours), rates(row, other))


# --- the section ----------------------------------------------------------------------------------------------------


def section(results: Results, about: Mapping[str, str]) -> str:
    """Markdown of all rows. `about`: what to say of "photos", "weights", "int8" (may be empty), and "command"."""
    measured = [results.rows[key] for key in ROWS if key in results.rows]
    newest = max(measured, key=lambda row: row.when)
    parts = [
        _conditions(results, measured, about),
        f"![Rates of all sides, row by row]({CHART})",
        *(table(row) + _if_older(row, newest) for row in measured),
        "### What is aimed at\n\n" + _aims(results.rows) + (f"\n\n{about['int8']}" if about["int8"] else ""),
        "### Where a peer is faster\n\n" + _faster_peers(measured),
        "### What agrees with what\n\n" + _agreement(measured),
        "### What could not take part\n\n" + _missing(results, measured),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _conditions(results: Results, measured: Sequence[Measured], about: Mapping[str, str]) -> str:
    machine = results.machine
    newest = max(measured, key=lambda row: row.when)
    older = any(_if_older(row, newest) for row in measured)
    listed = _versions(measured)
    before = max(row.others_before for row in measured)
    during = max(row.others_during for row in measured)
    return (
        f"Measured by `{about['command']}` on {newest.when[:10]}, Tandem at commit {newest.commit}"
        f"{', but for rows that say another day or commit' if older else ''}: {machine['processor']} "
        f"({' '.join(machine['instructions'])}), {machine['threads']} of {machine['cores']} cores for every side, "
        f"{machine['memory_gb']} GB, {machine['system']}, Python {machine['python']}. Other processes used at most "
        f"{before:.0%} of the cores before a row and {during:.0%} during one.\n\n"
        f"{about['weights']}; photos: {about['photos']}. {'; '.join(listed)}.\n\n"
        "Each side is a process that is started once; in every round each does the same work in its turn. A figure is "
        "the median of the rounds with its quartiles, a ratio is taken round by round. Texts are padded to the longest "
        "of a batch of 64, as the libraries do by themselves; *77 tokens* is what the original and open_clip pad to."
    )


def _versions(measured: Sequence[Measured]) -> list[str]:
    """Each distribution with its version; of transformers there are two, as optimum-intel takes an older one."""
    found: dict[str, None] = {}
    for row in measured:
        for side, versions in row.versions.items():
            for name, version in versions.items():
                for_whom = (
                    " (for optimum-intel)" if (name, SIDES[side].library) == ("transformers", "optimum-intel") else ""
                )
                found[f"{name} {version}{for_whom}"] = None
    return sorted(found)


def table(row: Measured) -> str:
    about = ROWS[row.row]
    if about.work == "accuracy":
        return _accuracy(row)
    lines = [
        f"### {about.title}\n",
        f"| | {about.unit} (quartiles) | over {BASE} (quartiles) | over {STRONGEST} at its precision |",
        "|---|---:|---:|---:|",
    ]
    for name in row.values:
        found = spread(row.values[name])
        base = compared(row, name, BASE) if name != BASE else None
        peer = strongest(row, SIDES[name].precision) if SIDES[name].is_ours else None
        over = compared(row, name, peer)
        label = f"**{name}**" if SIDES[name].is_ours else shown(row.row, name)
        lines.append(f"| {label} | {_figure(found)} | {_ratio(base)} | {f'{_ratio(over)}, {peer}' if over else ''} |")
    rounds = min(len(values) for values in row.values.values())
    lines.append(f"\n{rounds} round{'s' if rounds != 1 else ''}{_amount(row)}. " + " ".join(row.notes))
    return "\n".join(lines).rstrip()


def _if_older(row: Measured, newest: Measured) -> str:
    """When a row was measured and of which commit, where that is not what the page says at its top."""
    if (row.when[:10], row.commit) == (newest.when[:10], newest.commit):
        return ""
    return f"\n\nMeasured on {row.when[:10]}, Tandem at commit {row.commit}."


def _amount(row: Measured) -> str:
    about = ROWS[row.row]
    return f" of {about.count} {about.unit.removesuffix('/s')}" if about.count else ""


def _figure(found: Spread) -> str:
    digits = 0 if found.median >= 100 else 1 if found.median >= 10 else 2
    return f"{found.median:,.{digits}f} ({found.low:,.{digits}f} to {found.high:,.{digits}f})"


def _ratio(found: Spread | None) -> str:
    return f"{found.median:.2f}x ({found.low:.2f} to {found.high:.2f})" if found else ""


def _accuracy(row: Measured) -> str:
    lines = [f"### {ROWS[row.row].title}\n", "| | float32 | int8 | difference, points |", "|---|---:|---:|---:|"]
    before, after = row.values["tandem float32"], row.values["tandem int8"]
    for name, exact, quantised in zip(row.notes, before, after, strict=True):
        lines.append(f"| {name} | {exact:.2f}% | {quantised:.2f}% | {quantised - exact:+.2f} |")
    return "\n".join(lines)


def int8_note(drawn: Sequence[str]) -> str:
    """What int8 means for models with drawn weights; nothing where there are none."""
    if not drawn:
        return ""
    return (
        f"tandem int8 in the rows of {', '.join(drawn)} is made of random weights: every block is rounded "
        "(`--no-search`), and no promise of `tandem quantize` is kept. Of trained weights it excludes the blocks that "
        "it has to, and is slower by as much; `--model` measures that."
    )


# --- aims -----------------------------------------------------------------------------------------------------------


def _aims(rows: Mapping[str, Measured]) -> str:
    lines = ["| row | side | over | at least | measured (quartiles) | |", "|---|---|---|---:|---:|---|"]
    for aim in AIMS:
        if (row := rows.get(aim.row)) is None:
            continue
        ours, other, found = judged(aim, row)
        reached = "not measured" if found is None else "yes" if found.median >= aim.at_least else "**no**"
        lines.append(f"| {ROWS[aim.row].title} | {ours} | {other} | {aim.at_least:g}x | {_ratio(found)} | {reached} |")
    if "search" in rows:
        for name, values in rows["search"].values.items():
            found = spread(values)
            reached = "yes" if found.median <= SEARCH_MS else "**no**"
            lines.append(
                f"| {ROWS['search'].title} | {name} | | at most {SEARCH_MS:g} ms | {_figure(found)} | {reached} |"
            )
    if "mini" in rows:
        values = rows["mini"].values
        lost = max(a - b for a, b in zip(values["tandem float32"], values["tandem int8"], strict=True))
        reached = "yes" if lost <= POINTS else "**no**"
        lines.append(f"| {ROWS['mini'].title} | tandem int8 | | within {POINTS:g} points | {-lost:+.2f} | {reached} |")
    return "\n".join(lines)


def judged(aim: Aim, row: Measured) -> tuple[str, str, Spread | None]:
    """The side of ours, the side it is compared with, and how many times as fast it is; None where one is missing."""
    ours = f"{aim.library} {aim.ours}" if aim.ours else fastest(row, aim.library) or aim.library
    if aim.over != STRONGEST:
        return ours, aim.over, compared(row, ours, aim.over)
    peer = strongest(row, aim.ours)
    return ours, f"{peer}, {STRONGEST}" if peer else f"{STRONGEST} in {aim.ours}", compared(row, ours, peer)


def faster_peers(measured: Sequence[Measured]) -> Iterator[tuple[Measured, str, str, Spread]]:
    """Where a peer at the same precision is as fast as ours or faster, in the median of the rounds."""
    for row in measured:
        if ROWS[row.row].work == "accuracy":
            continue
        for name in row.values:
            peer = strongest(row, SIDES[name].precision) if SIDES[name].library == "tandem" else None
            found = compared(row, name, peer)
            if peer is not None and found is not None and found.median <= 1:
                yield row, name, peer, found


def _faster_peers(measured: Sequence[Measured]) -> str:
    found = [
        f"- {ROWS[row.row].title}: {peer} is {1 / ratio.median:.2f} times as fast as {name} "
        f"({1 / ratio.high:.2f} to {1 / ratio.low:.2f})."
        for row, name, peer, ratio in faster_peers(measured)
    ]
    return "\n".join(found) or "At the same precision, in none of these rows."


# --- what else is to be known ----------------------------------------------------------------------------------------


def _agreement(measured: Sequence[Measured]) -> str:
    lines = [
        "Least cosine of each side's vectors to those of tandem in float32, checked before a row is timed; in brackets "
        "after the mean of these is taken from both, since vectors of random weights point much the same way.\n",
    ]
    rows = [row for row in measured if row.agreement]
    if not rows:
        return ""
    sides = [name for name in SIDES if any(name in row.agreement for row in rows)]
    lines.append("| | " + " | ".join(row.row for row in rows) + " |")
    lines.append("|---" * (len(rows) + 1) + "|")
    for name in sides:
        cells = [
            f"{row.agreement[name][0]:.4f} ({row.agreement[name][1]:.4f})" if name in row.agreement else ""
            for row in rows
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _missing(results: Results, measured: Sequence[Measured]) -> str:
    reasons: dict[tuple[str, str], list[str]] = {}
    for row in measured:
        for name, reason in row.missing.items():
            said = re.sub(r" \(log: [^)]*\)", "", reason)  # a path of this machine
            reasons.setdefault((name, said), []).append(row.row)
    lines = [f"- {name} ({', '.join(rows)}): {reason}" for (name, reason), rows in reasons.items()]
    lines += [f"- {ROWS[key].title}: not measured." for key in ROWS if key not in results.rows]
    return "\n".join(lines) or "Every side took part in every row."
