"""The reports of `tandem index` and `tandem migrate`."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tandem.cli import terminal

if TYPE_CHECKING:
    from tandem.search.collection import Collection
    from tandem.search.indexing.entries import SkippedFile
    from tandem.search.indexing.films import UnreadFilms
    from tandem.search.indexing.run import IndexingReport


def summary(name: str, report: "IndexingReport") -> str:
    """The size of the collection, and what this run changed."""
    counts = {
        "added": report.added,
        "unchanged": report.unchanged,
        "duplicate" if report.duplicates == 1 else "duplicates": report.duplicates,
        "moved": report.moved,
        "changed": report.changed,
        "taken out": report.pruned,
    }
    did = ", ".join(f"{count:,} {what}" for what, count in counts.items() if count) or "nothing to do"
    moments = f" ({report.moments:,} of films)" if report.moments else ""
    line = f"{name}: {terminal.count_of(report.total)}{moments}; {did}"
    if report.added + report.changed:
        line += f"; {report.rate:,.0f} a second"
    if report.excluded:
        line += f"; {report.excluded:,} excluded by rule"
    if 0 < report.fast < report.total:
        line += f"; {report.fast:,} of all decoded fast"
    return line


def as_document(photos: "Collection", report: "IndexingReport") -> dict[str, Any]:
    """What `tandem index --json` prints."""
    notes = photos.notes
    return {
        "collection": photos.url,
        "model": {"name": notes["model_name"], "fingerprint": notes["model_fingerprint"]},
        "total": report.total,
        "moments": report.moments,
        "added": report.added,
        "unchanged": report.unchanged,
        "duplicates": report.duplicates,
        "moved": report.moved,
        "changed": report.changed,
        "pruned": report.pruned,
        "gone": report.gone,
        "excluded": report.excluded,
        "decoded_fast": report.fast,
        "unread_films": 0 if report.unread_films is None else report.unread_films.count,
        "seconds": round(report.seconds, 3),
        "failures": [{"image": one.path, "error": one.reason, "retried": one.retried} for one in report.failures],
    }


def echo_gone(count: int) -> None:
    """Say that files of the collection are gone, and what removes them from it."""
    if count:
        files, them = ("1 file is", "it") if count == 1 else (f"{count:,} files are", "them")
        terminal.echo(f"{files} gone; --prune removes {them}")


def echo_unread_films(films: "UnreadFilms | None") -> None:
    """Say which films were left alone, and why, in one line."""
    if films is not None:
        named = ", ".join(os.path.basename(path) for path in films.paths) + (
            ", ..." if films.count > len(films.paths) else ""
        )
        terminal.complain(f"left out {terminal.count_of(films.count, 'film')} ({named}): {films.reason}")


def echo_failures(failures: "Sequence[SkippedFile]") -> None:
    """Name every file that was skipped, the new ones first; old ones are counted if they are many."""
    new = [one for one in failures if one.retried and not one.added]
    old = [one for one in failures if not one.retried and not one.added]
    without_caption = [one for one in failures if one.added]
    if without_caption:
        terminal.complain(f"{terminal.count_of(len(without_caption))} without a caption:")
        for one in without_caption:
            terminal.list_item(f"{one.path}: {one.reason}")
    if new:
        terminal.complain(f"skipped {len(new):,}:")
        for one in new:
            terminal.list_item(f"{one.path}: {one.reason}")
    if old:
        terminal.complain(f"{len(old):,} skipped earlier, and unchanged since:")
        for one in old if not new else ():
            terminal.list_item(f"{one.path}: {one.reason}")
