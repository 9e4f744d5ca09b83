"""`tandem explore`: what is in a collection: near-duplicates, named clusters, and a map, as a picture and as data."""

import argparse
import io
import sys
from pathlib import Path
from typing import Any

from PIL import Image

from tandem import plots
from tandem.cli import DONE, screen
from tandem.cli.asking import open_for_asking
from tandem.cli.explore_files import MapFile, write_duplicates
from tandem.errors import TandemError
from tandem.search.collection import Collection
from tandem.search.exploring import clusters, duplicates
from tandem.search.exploring.explore import explore
from tandem.search.exploring.survey import Survey

PINS = 8  # pictures of a cluster that are shown on the map, where there is room
LISTED = 15  # clusters that are printed; all are in map.json


def run(arguments: argparse.Namespace) -> int:
    plots.check_installed()
    duplicates.check_threshold(arguments.duplicates)
    words = clusters.read_vocabulary(Path(arguments.vocabulary).expanduser() if arguments.vocabulary else None)
    folder, where = Path(arguments.out).expanduser(), arguments.where
    if folder.exists() and not folder.is_dir():
        raise TandemError(f"--out {arguments.out}: expected a folder, got a file")
    with open_for_asking(arguments) as photos:
        described = {
            "collection": arguments.collection,
            "model": {"name": photos.model.name, "fingerprint": photos.model.fingerprint},
            "where": where,
            "seed": arguments.seed,
        }
        folder.mkdir(parents=True, exist_ok=True)
        with MapFile(folder / "map.json", described) as file:
            found = explore(
                photos.store,
                photos.model,
                words=words,
                count=arguments.clusters,
                where=where,
                seed=arguments.seed,
                columns=["path"],
                each=file.add,
                progress=screen.progress,
            )
            file.finish(found.clusters)
        with screen.progress("comparing", len(found.places)) as advance:
            groups = duplicates.find(
                photos.store, arguments.duplicates, where=where, columns=["path"], advance=advance
            )  # fmt: skip
        lists = write_duplicates(groups, folder)
        drawn = draw(photos, found, folder / "map.png")
    summary = described | {
        "pictures": len(found.places),
        "clusters": [
            {"name": c.name, "words": list(c.words), "size": c.size, "coherence": round(c.coherence, 4)}
            for c in found.clusters
        ],
        "duplicates": {
            "threshold": arguments.duplicates,
            "groups": len(groups),
            "pictures": sum(len(group.others) for group in groups),
            "freed_bytes": sum(group.freed_bytes for group in groups),
        },
        "files": [str(path) for path in (drawn, folder / "map.json", *lists)],
    }
    if arguments.json:
        screen.print_json(summary)
    else:
        show(summary)
    sys.stdout.flush()
    screen.say(f"wrote {', '.join(summary['files'])}")
    return DONE


def show(summary: dict[str, Any]) -> None:
    """The clusters, the largest first, and what the duplicates are worth."""
    table = screen.table("cluster", "pictures", "", "also", right=("pictures",))
    listed = sorted(summary["clusters"], key=lambda cluster: -cluster["size"])
    encoding = sys.stdout.encoding or "ascii"
    for cluster in listed[:LISTED]:
        share = cluster["size"] / max(listed[0]["size"], 1)
        drawn = screen.bar(share, 16, best=True, encoding=encoding)
        table.add_row(cluster["name"], f"{cluster['size']:,}", drawn, ", ".join(cluster["words"][1:]))
    out = screen.console()
    out.print(table)
    if len(listed) > LISTED:
        out.print(f"and {len(listed) - LISTED} more clusters", style=screen.QUIET)
    found = summary["duplicates"]
    if found["groups"]:
        groups = f"{found['groups']:,} group{'s' if found['groups'] > 1 else ''}"
        out.print(
            f"{groups} of near-duplicates (cosine {found['threshold']:g} and more): without {found['pictures']:,} "
            f"of {summary['pictures']:,} photos, {in_bytes(found['freed_bytes'])} are free"
        )
    else:
        out.print(f"no near-duplicates (cosine {found['threshold']:g} and more)")


def in_bytes(count: int) -> str:
    """A number of bytes for people: 12 KB, 3.4 GB."""
    size, unit = float(count), "bytes"
    for larger in ("KB", "MB", "GB", "TB"):
        if size < 1000:
            break
        size, unit = size / 1000, larger
    return f"{size:.0f} {unit}" if size >= 10 or unit == "bytes" else f"{size:.1f} {unit}"


def draw(photos: Collection, found: Survey, path: Path) -> Path:
    """The map, with pictures from the thumbnails that the collection keeps."""
    pins = []
    for region, cluster in enumerate(found.clusters):
        for representative in cluster.representatives[:PINS]:
            small = photos.thumbnail(representative.id)
            if small:
                picture = Image.open(io.BytesIO(small))
                pins.append(plots.Pin(picture, representative.x, representative.y, region))
    regions = [plots.Region(c.name, c.size, c.x, c.y) for c in found.clusters]
    name = photos.url.rstrip("/").rsplit("/", 1)[-1]
    note = f"{len(found.places):,} photos in {len(regions)} clusters · {photos.model.name}"
    return plots.draw_map(found.places, found.cluster_of, regions, pins, path, title=name, note=note)
