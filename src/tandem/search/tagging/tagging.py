"""Labels of a whole collection as keywords in sidecars and as albums: what is decided, written, and what is left alone.

Joins `deciding`, `sidecars` and `albums`. Knows no model: labels are vectors here.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tandem.errors import SidecarError
from tandem.files import display_name
from tandem.search.indexing.entries import reason_of, shard_of
from tandem.search.tagging.albums import AlbumReport, How, make_albums
from tandem.search.tagging.deciding import Decided
from tandem.search.tagging.sidecars import Naming, Sidecars


@dataclass
class TaggingReport:
    """What a run did, or with a dry run would do."""

    labels: tuple[str, ...] = ()  # that were asked about
    images: int = 0
    holds: Counter[str] = field(default_factory=Counter)  # images by label
    unclear: Counter[str] = field(default_factory=Counter)
    undecided: int = 0  # images without a label that holds, of which one is open
    made: int = 0  # sidecars
    changed: int = 0
    unchanged: int = 0
    added: int = 0  # keywords
    withdrawn: int = 0
    gone: int = 0  # paths without a file
    inside: int = 0  # paths in tars, Parquet files and films
    failures: list[tuple[str, str]] = field(default_factory=list)  # paths and reasons
    albums: AlbumReport | None = None

    def as_dict(self) -> dict[str, Any]:
        """A dict of plain values, part of what `tandem label --write-xmp --json` prints."""
        return {
            "images": self.images,
            "undecided": self.undecided,
            "labels": [
                {"label": label, "images": self.holds[label], "cannot_tell": self.unclear[label]}
                for label in self.labels
            ],
            "gone": self.gone,
            "inside_files": self.inside,
            "sidecars": {name: getattr(self, name) for name in ("made", "changed", "unchanged", "added", "withdrawn")},
            "failures": [{"image": display_name(path), "error": reason} for path, reason in self.failures],
            **({"albums": self.albums.as_dict()} if self.albums else {}),
        }


def tag(
    decided: Iterable[Decided],
    labels: Sequence[str],
    *,
    write_xmp: bool = False,
    naming: Naming = "full",
    withdraw_all: bool = False,
    albums: str | Path | None = None,
    links: How = "auto",
    dry_run: bool = False,
    advance: Callable[[int], None] = lambda count: None,
) -> TaggingReport:
    """Write what was decided of each image: keywords beside each of its files, and links in albums.

    `labels` were asked about: those that were written before and do not hold are withdrawn; with `withdraw_all`
    whatever was written before. Sidecars that cannot be edited are in `failures`.
    """
    report = TaggingReport(tuple(labels))
    sidecars = Sidecars(naming, dry_run=dry_run)
    photos: dict[str, list[tuple[str, str]]] = {label: [] for label in labels}
    for image in decided:
        report.images += 1
        report.holds.update(image.holds)
        report.unclear.update(image.unclear)
        report.undecided += not image.holds and bool(image.unclear)
        for path in image.paths:
            if shard_of(path) is not None:
                report.inside += 1
            elif not os.path.isfile(path):
                report.gone += 1
            else:
                if write_xmp:
                    _write(sidecars, path, image, None if withdraw_all else labels, report)
                for label in image.holds if albums is not None else ():
                    photos[label].append((image.id, path))
        advance(1)
    if albums is not None:
        filled = {label: some for label, some in photos.items() if some}
        report.albums = make_albums(albums, filled, how=links, dry_run=dry_run)
    return report


def _write(sidecars: Sidecars, path: str, image: Decided, judged: Sequence[str] | None, report: TaggingReport) -> None:
    try:
        change = sidecars.update(Path(path), image.holds, judged)
    except SidecarError as error:
        report.failures.append((path, str(error)))
    except OSError as error:
        report.failures.append((path, f"its sidecar cannot be written: {reason_of(error)}"))
    else:
        report.made += change.is_new and change.is_changed
        report.changed += change.is_changed and not change.is_new
        report.unchanged += not change.is_changed
        report.added += len(change.added)
        report.withdrawn += len(change.withdrawn)
