"""`tandem label --write-xmp` and `--albums`: what is written beside the photos, in words."""

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tandem.cli import progress, terminal
from tandem.cli.exit_codes import exit_code
from tandem.cli.options.collection import explain_empty
from tandem.cli.options.tagging import ABOVE
from tandem.cli.tables import Cell, Column, print_table
from tandem.errors import TandemError
from tandem.scores.scoring import compete

if TYPE_CHECKING:
    from tandem.arrays import Vectors
    from tandem.scores.scoring import Scoring
    from tandem.search.collection import Collection
    from tandem.search.tagging.tagging import TaggingReport

COLUMNS = (
    Column("label", least=8),
    Column("photos", right=True),
    Column("cannot tell", right=True, drop=1),
    Column("", for_people=True, drop=2),
)


def run(
    arguments: argparse.Namespace, photos: "Collection", labels: Sequence[str], vectors: "Vectors", scoring: "Scoring"
) -> int:
    """Decide and write. Gives the exit code: 1 where some sidecars were left as they are."""
    from tandem.search.tagging.deciding import decide
    from tandem.search.tagging.tagging import tag
    from tandem.search.tagging.xmp import check_keyword

    alone = compete(scoring.kind) and not arguments.head and _judges_alone(photos, vectors)
    if len(labels) == 1 and compete(scoring.kind):
        instead = ", or --independent" if alone else ""
        raise TandemError(f"a single label is true of every photo: add labels that it competes with{instead}")
    for label in labels if arguments.write_xmp else ():
        check_keyword(label)
    above = ABOVE if arguments.above is None else arguments.above
    total = photos.store.count(arguments.where)
    with progress.counting("labelling", total) as advance:
        report = tag(
            decide(photos.store, labels, vectors, scoring, above=above, where=arguments.where),
            labels,
            write_xmp=arguments.write_xmp,
            naming=arguments.sidecar_name or "full",
            withdraw_all=arguments.withdraw,
            albums=arguments.albums,
            links=arguments.links or "auto",
            dry_run=arguments.dry_run,
            advance=advance,
        )
    if arguments.json:
        terminal.print_json(_document(arguments, photos, report, above, scoring))
    else:
        _show(report, labels)
    sys.stdout.flush()
    for line in _lines(report, arguments, above, competes=compete(scoring.kind), alone=alone):
        terminal.echo(line)
    if report.failures:
        terminal.complain(f"left {terminal.count_of(len(report.failures), 'sidecar')} as they are:")
        for _, reason in report.failures:
            terminal.list_item(reason)
    if report.albums and report.albums.left:
        terminal.complain(f"{terminal.count_of(len(report.albums.left), 'name')} in the albums left to their owner:")
        for path in report.albums.left:
            terminal.list_item(path)
    if report.albums and report.albums.failed:
        terminal.complain(f"{terminal.count_of(len(report.albums.failed), 'name')} in the albums cannot be written:")
        for path, reason in report.albums.failed:
            terminal.list_item(f"{path}: {reason}")
    if not report.images:
        explain_empty(photos, arguments.where)
    left = len(report.failures) + (len(report.albums.left + report.albums.failed) if report.albums else 0)
    return exit_code(done=report.images, skipped=left)


def _judges_alone(photos: "Collection", vectors: "Vectors") -> bool:
    """Whether --independent is advice that the model can follow."""
    try:
        photos.model.scoring(vectors, independent=True)
    except TandemError:
        return False
    return True


def _show(report: "TaggingReport", labels: Sequence[str]) -> None:
    most = max([*report.holds.values(), 1])
    print_table(
        COLUMNS,
        [
            (
                label,
                Cell(f"{report.holds[label]:,}", plain=str(report.holds[label])),
                Cell(f"{report.unclear[label]:,}", plain=str(report.unclear[label])),
                Cell(terminal.bar(report.holds[label] / most, 16), style=terminal.ACCENT),
            )
            for label in labels
        ],
    )


def _lines(
    report: "TaggingReport", arguments: argparse.Namespace, above: float, *, competes: bool, alone: bool
) -> list[str]:
    """What was done, what the model cannot tell, and what was not looked at."""
    would = "would be " if arguments.dry_run else ""
    lines = []
    if arguments.write_xmp:
        lines.append(
            f"sidecars: {report.made:,} {would}made, {report.changed:,} {would}changed, {report.unchanged:,} "
            f"unchanged; keywords: {report.added:,} {would}added, {report.withdrawn:,} {would}withdrawn"
        )
    if report.albums:
        made, kind = report.albums, "lists" if report.albums.how == "list" else f"{report.albums.how} links"
        lines.append(
            f"{arguments.albums}: {made.made:,} {kind} {would}made, {made.removed:,} {would}removed, {made.kept:,} kept"
        )
    if report.undecided:
        lines.append(
            f"the model cannot tell of {terminal.count_of(report.undecided)}: no label reaches {above:.0%}, and some "
            "are open"
        )
    if competes and report.images:
        lines.append(
            "labels compete: the likeliest may hold of a photo that none fits; name what else is there"
            + (", or judge each alone with --independent" if alone else "")
        )
    if report.inside:
        lines.append(
            f"{terminal.count_of(report.inside)} in tars, Parquet files or films: nothing can stand beside them"
        )
    if report.gone:
        lines.append(f"left out {terminal.count_of(report.gone, 'path')} whose files are gone")
    return lines


def _document(
    arguments: argparse.Namespace,
    photos: "Collection",
    report: "TaggingReport",
    above: float,
    scoring: "Scoring",
) -> dict[str, Any]:
    """What --json prints."""
    document: dict[str, Any] = {
        "collection": arguments.collection,
        "model": {"name": photos.model.name, "fingerprint": photos.model.fingerprint},
        "scoring": scoring.kind,
        "above": above,
        "dry_run": arguments.dry_run,
        **report.as_dict(),
    }
    if report.albums:
        document["albums"]["folder"] = arguments.albums
    return document
