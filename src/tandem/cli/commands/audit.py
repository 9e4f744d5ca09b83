"""`tandem audit`: what a model gets wrong, on scenes that Tandem draws and on the user's images."""

import argparse
import sys
from typing import TYPE_CHECKING, Any

from tandem.cli import progress, terminal
from tandem.cli.arguments import Parser, add_json, describe
from tandem.cli.exit_codes import exit_code
from tandem.cli.options.data import add_data, data_options, given_data_options
from tandem.cli.options.model import add_activation, add_engine
from tandem.cli.tables import Cell, Column, print_table
from tandem.errors import TandemError

if TYPE_CHECKING:
    from tandem.audit.report import AuditReport
    from tandem.datasets.dataset import Dataset

COLUMNS = (
    Column("test", least=8, drop=1),
    Column("figure", least=30),
    Column("value", right=True),
    Column("95% interval", right=True, drop=2),
    Column("chance", right=True, drop=4),
    Column("n", right=True, drop=3),
    Column("shown", drop=5),
)


def add_arguments(parser: Parser) -> None:
    describe(
        parser,
        "Show what a model gets wrong: counting, binding, left and right, negation, word order, painted words, "
        "prompts, corruptions, resolution, near-duplicates, words that answer everything, gaps between groups. Each "
        "figure stands beside what guessing gives; what is not shown to be above chance is called so.",
        "tandem audit ViT-B/32 --out report",
        "tandem audit --only counting,typographic --quick",
        "tandem audit clip-b32 --images ~/Pictures --groups groups.json --out report",
    )
    parser.add_argument(
        "model",
        nargs="?",
        metavar="MODEL",
        help="a folder, a file, a published name or a hub name (default: tandem-mini, which ships with Tandem)",
    )
    parser.add_argument("--out", metavar="DIR", help="write audit.html (with images), audit.json and audit.md there")
    parser.add_argument(
        "--images",
        metavar="DIR",
        help="your own images, labelled or not, for the tests that can use them; the others draw their scenes",
    )
    parser.add_argument(
        "--no-labels",
        action="store_true",
        help="the folders of --images are not classes: compare with the model's own answers to unchanged images",
    )
    parser.add_argument(
        "--groups",
        metavar="F",
        help='a JSON file for the test of subgroups: {"attributes": {"young": ["a young person"], ...}, '
        '"words": ["a doctor", ...]}',
    )
    parser.add_argument("--only", metavar="T,T", help="only these tests: binding, word_order, ... (--list names them)")
    parser.add_argument("--list", action="store_true", help="list the tests, what they measure, and stop")
    parser.add_argument("--quick", action="store_true", help="a quarter of the scenes; intervals twice as wide")
    add_json(parser)
    data = parser.add_argument_group("data")
    add_data(data, of="of --images: ", limit="at most N photos (default: 200)", seed="of scenes and samples")
    group = parser.add_argument_group("engine")
    add_engine(group)
    add_activation(group, "for weights that do not say which one they were trained with; overrides what they say")


def run(arguments: argparse.Namespace) -> int:
    from tandem.audit.groups import read_groups
    from tandem.audit.report import check_target
    from tandem.audit.running import check_names, prepare
    from tandem.cli.options.model import load_model

    if arguments.list:
        return _list(as_json=arguments.json)
    only = None if arguments.only is None else [name.strip() for name in arguments.only.split(",") if name.strip()]
    names = check_names(None if only is None else [name.replace("-", "_") for name in only])
    groups = read_groups(arguments.groups) if arguments.groups else None
    if names == ("subgroups",) and groups is None:
        raise TandemError("--only subgroups needs --groups F, a JSON file of attributes and words: nothing to measure")
    of_images = ["--no-labels"] if arguments.no_labels else []
    if not arguments.images and (of_images := of_images + given_data_options(arguments)):
        raise TandemError(f"{of_images[0]} goes with --images: add it")
    target = check_target(arguments.out) if arguments.out else None
    model = load_model(arguments)
    latest: list[AuditReport] = []

    def keep(report: "AuditReport") -> None:
        latest[:] = [report]
        if target is not None:
            report.save(target)
        for test in report.tests[-1:]:
            terminal.detail(f"{test.name.replace('_', ' ')}: {test.seconds:.1f} s")

    with progress.waiting("reading the images"):
        images = _open(arguments) if arguments.images else None
        plan = prepare(
            model,
            images,
            labels=not arguments.no_labels,
            only=names,
            groups=groups,
            quick=arguments.quick,
            seed=arguments.seed,
            **_limited({"limit": arguments.limit}),
        )
    try:
        with progress.counting("auditing", plan.images) as advance:
            report = plan.run(advance=advance, on_test=keep)
    except KeyboardInterrupt:
        if latest and latest[0].tests:
            _show(latest[0], arguments.out, as_json=arguments.json)
            terminal.echo(f"{len(names) - len(latest[0].pending)} of {len(names)} tests were finished")
        raise
    _show(report, arguments.out, as_json=arguments.json)
    sys.stdout.flush()
    terminal.echo_skipped(report.skipped_images, report.count + len(report.skipped_images))
    return exit_code(done=report.count, skipped=len(report.skipped_images))


def _open(arguments: argparse.Namespace) -> "Dataset":
    from tandem.audit.image_sample import open_images

    return open_images(arguments.images, labels=not arguments.no_labels, **_limited(data_options(arguments)))


def _limited(options: dict[str, Any]) -> dict[str, Any]:
    """Without a limit that was not given: the audit has its own."""
    return {name: value for name, value in options.items() if name != "limit" or value is not None}


def _list(*, as_json: bool) -> int:
    from tandem.audit.table import TESTS, load_test

    abouts = {name: load_test(name).ABOUT for name in TESTS}
    if as_json:
        from dataclasses import asdict

        terminal.print_json({"tests": [{"name": name, **asdict(about)} for name, about in abouts.items()]})
    else:
        print_table(
            (Column("name"), Column("measures", least=30)), [(name, about.title) for name, about in abouts.items()]
        )
    return 0


def _show(report: "AuditReport", out: str | None, *, as_json: bool) -> None:
    """The table of figures, grouped by test, and what must not be overlooked."""
    from tandem.audit.pages import cells, control_notes
    from tandem.evaluate.report.formats import value_text

    if as_json:
        terminal.print_json(report.as_dict())
        return
    rows: list[tuple[str | Cell, ...]] = []
    last = ""
    for test, finding in report.findings:
        name, value, interval, chance, n, verdict = cells(finding)
        style = terminal.QUIET if finding.at_chance else "bold red" if finding.is_weakness else ""
        title = Cell("" if test.name == last else test.name.replace("_", " "), test.name)
        plain = value_text(finding.figure.value, finding.figure.unit)  # programs read the verdict in its own column
        rows.append((title, name, Cell(value, plain, style), interval, chance, n, Cell(verdict, style=style)))
        last = test.name
    print_table(COLUMNS, rows)
    sys.stdout.flush()
    for note in [
        *report.notes,
        *(f"{t.name.replace('_', ' ')}: {said}" for t in report.tests for said in control_notes(t)),
    ]:
        terminal.echo(note)
    for name, why in report.not_run:
        terminal.echo(f"{name} did not run: {why}")
    if out:
        terminal.echo(f"images, limits and tables: {out}/audit.html")
    else:
        terminal.echo("what each test must not be used for, and images: --out DIR writes a report")
