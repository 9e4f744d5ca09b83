"""An audit as pages: HTML in one file, and Markdown. Measures nothing.

A figure that is not shown to be above chance is written so, and not as a percentage that looks like an ability; its
interval stands beside it.
"""

from collections.abc import Sequence

from tandem.audit.protocol import Finding, Table
from tandem.audit.result import AuditResult, TestResult
from tandem.evaluate.figures import Figure
from tandem.evaluate.report import html
from tandem.evaluate.report.formats import chance_text, interval_text, value_text
from tandem.evaluate.report.html import Html, Tile
from tandem.evaluate.report.markdown import describe, escape, setting, table
from tandem.html import thumbnail_uri

HEADINGS = ("", "value", "95% interval", "chance", "n", "shown")
_NUMBERS = (1, 2, 3, 4)
_LEAD = (
    "What the model gets wrong, each figure beside what guessing gives. Where an interval contains chance, "
    "nothing was shown, and no percentage stands there. Of forty intervals at 95%, two miss the truth by luck."
)


def shown_value(finding: Finding) -> str:
    """The value for people; "at chance" where the interval contains chance."""
    if finding.at_chance:
        return "at chance"
    return value_text(finding.figure.value, finding.figure.unit)


def shown_name(finding: Finding) -> str:
    """The name, and whether it is a control."""
    return f"{finding.name} (control)" if finding.control else finding.name


def cells(finding: Finding) -> tuple[str, ...]:
    """A row for `HEADINGS`."""
    figure = finding.figure
    return (
        shown_name(finding),
        shown_value(finding),
        interval_text(figure),
        chance_text(figure),
        f"{figure.n:,}",
        finding.verdict,
    )


SUMMARY = ("test", "above chance", "not shown to be above chance", "a weakness is shown")


def summary(report: AuditResult) -> list[tuple[str, str, str, str]]:
    """A row for each test: which of its figures show an ability, nothing, or a weakness. Controls are left out."""
    rows: list[tuple[str, str, str, str]] = []
    for test in report.tests:
        kept = [f for f in test.measured.findings if not f.control and f.better is not None and f.verdict]
        above = [f.name for f in kept if f.better == "higher" and f.verdict == "above chance"]
        nothing = [f.name for f in kept if f.better == "higher" and (f.at_chance or f.verdict == "not above chance")]
        weak = [f.name for f in kept if f.is_weakness]
        if nothing and test.measured.failed_controls:
            nothing.append("(nor is the control)")
        shown, at_chance, weakness = ("; ".join(names) or "–" for names in (above, nothing, weak))
        rows.append((test.about.title, shown, at_chance, weakness))
    return rows


def control_notes(test: TestResult) -> list[str]:
    """What a control that is at chance means."""
    return [
        f"The control ({name}) is at chance, too: the model does not know what these scenes are made of, and the other "
        "figures say nothing of the ability itself."
        for name in test.measured.failed_controls
    ]


def html_page(report: AuditResult) -> Html:
    """The whole page, with examples as thumbnails."""
    state = f"Interrupted: {', '.join(report.pending)} did not run." if report.pending else ""
    return html.page(
        f"{report.model.name}, audited",
        html.note(state) if state else "",
        html.listing(report.notes),
        html.table(SUMMARY, summary(report)),
        *(_section(test) for test in report.tests),
        html.section("Tests that did not run", html.listing(f"{name}: {why}" for name, why in report.not_run)),
        html.section("How it was measured", html.table(("what", "value"), _measured(report))),
        lead=_LEAD,
    )


def _section(test: TestResult) -> Html:
    about, measured = test.about, test.measured
    rows = []
    for finding in measured.findings:
        name, value, *others, verdict = cells(finding)
        mark = "quiet" if finding.at_chance else "bad" if finding.is_weakness else ""
        said = Html(f'<span class="{mark}">{html.escape(verdict)}</span>') if mark else verdict
        rows.append((name, value, *others, said))
    settings = [(name.replace("_", " "), setting(value)) for name, value in measured.settings.items()]
    return html.section(
        about.title,
        html.paragraph(about.measures),
        html.table(HEADINGS, rows, numbers=_NUMBERS),
        html.paragraph(f"Chance: {about.chance}", quiet=True),
        html.note(f"What it must not be used for: {about.not_for}"),
        html.listing([*control_notes(test), *measured.notes]),
        html.gallery(
            Tile(
                thumbnail_uri(each.image, 160),
                each.asked or f"right: {each.right}",
                [*([f"right: {each.right}"] if each.asked else []), _answer(each.answer, each.answer == each.right)],
            )
            for each in measured.examples
        ),
        *(_html_table(each) for each in measured.tables),
        html.folded("Settings", html.table(("setting", "value"), [*settings, ("seconds", f"{test.seconds:.1f}")])),
    )


def _answer(answer: str, right: bool) -> Html:
    return Html(f'answered: <span class="{"good" if right else "bad"}">{html.escape(answer)}</span>')


def _cell(cell: str | Figure, wide: bool) -> str:
    """A figure in a table: its value, with the interval where there is room for it."""
    if isinstance(cell, str):
        return cell
    value = value_text(cell.value, cell.unit)
    if cell.chance is not None and cell.low <= cell.chance <= cell.high:
        value = "at chance"
    return f"{value} ({interval_text(cell)})" if wide else value


def _table_rows(given: Table) -> list[tuple[str, ...]]:
    # Of several figures in a row, the first has its interval: it is that of all the others together.
    firsts = [next((i for i, cell in enumerate(row) if isinstance(cell, Figure)), -1) for row in given.rows]
    return [
        tuple(_cell(cell, at == first) for at, cell in enumerate(row))
        for row, first in zip(given.rows, firsts, strict=True)
    ]


def _html_table(given: Table) -> Html:
    numbers = tuple(range(1, len(given.headings)))
    return html.table(given.headings, _table_rows(given), numbers=numbers, caption=given.title)


def _measured(report: AuditResult) -> list[tuple[str, str]]:
    return [
        *report.model.rows,
        ("images", f"{report.count:,}: {report.images}; reference: {report.reference}"),
        ("hash of the images", report.images_hash),
        ("seed", str(report.seed)),
        ("scenes", "all" if report.scale == 1 else f"{report.scale:.0%} (quick)"),
        *report.environment.rows,
        ("measured", report.made),
    ]


def markdown_page(report: AuditResult) -> str:
    """The figures and texts, without images."""
    lines = [f"# {escape(report.model.name)}, audited", "", _LEAD, ""]
    lines += [describe(report.model, report.environment, report.made), ""]
    if report.pending:
        lines += [f"**Interrupted: {escape(', '.join(report.pending))} did not run.**", ""]
    lines += [*(f"- {escape(each)}" for each in report.notes), ""] if report.notes else []
    lines += table(SUMMARY, summary(report))
    for test in report.tests:
        lines += ["", f"## {escape(test.about.title)}", "", escape(test.about.measures), ""]
        lines += table(HEADINGS, [cells(finding) for finding in test.measured.findings], numbers=_NUMBERS)
        lines += ["", f"- Chance: {escape(test.about.chance)}", f"- Not for: {escape(test.about.not_for)}"]
        lines += [f"- {escape(note)}" for note in [*control_notes(test), *test.measured.notes]]
        for each in test.measured.tables:
            lines += ["", f"{escape(each.title)}:", ""]
            lines += table(_escaped(each.headings), _table_rows(each), numbers=tuple(range(1, len(each.headings))))
    if report.not_run:
        lines += ["", "## Tests that did not run", ""]
        lines += [f"- {escape(name)}: {escape(why)}" for name, why in report.not_run]
    return "\n".join(lines) + "\n"


def _escaped(headings: Sequence[str]) -> tuple[str, ...]:
    return tuple(map(escape, headings))
