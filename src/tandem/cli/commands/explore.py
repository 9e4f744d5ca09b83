"""`tandem explore`: what is in a collection: near-duplicates, named clusters, and a map, as an image and as data."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tandem.cli import progress, terminal
from tandem.cli.arguments import Parser, add_json, describe, positive
from tandem.cli.exit_codes import DONE
from tandem.cli.options.collection import add_collection, add_where, open_collection
from tandem.cli.options.model import add_model, describe_model
from tandem.cli.tables import Cell, Column, print_table
from tandem.defaults import DUPLICATE_COSINE
from tandem.errors import MissingExtraError, TandemError
from tandem.files import user_path

if TYPE_CHECKING:
    from tandem.search.collection import Collection
    from tandem.search.exploring.survey import Survey

PINS = 8  # images of a cluster that are shown on the map, where there is room
NAMELESS = "no name"
LISTED = 15  # clusters that people are shown; all are in map.json
COLUMNS = (
    Column("cluster", least=10),
    Column("photos", right=True),
    Column("", for_people=True, drop=1),
    Column("also", least=12, drop=2),
)


def add_arguments(parser: Parser) -> None:
    describe(
        parser,
        "Find near-duplicates and clusters, name the clusters that a word clearly fits, and draw a map of all photos, "
        "as an image and as data.",
        "tandem explore photos.tandem --out tour",
        "tandem explore photos.tandem --out tour --clusters 40 --duplicates 0.99 --vocabulary words.txt",
    )
    add_collection(parser)
    parser.add_argument(
        "--out", required=True, metavar="DIR", help="folder for map.png, map.json and the lists of duplicates"
    )
    parser.add_argument(
        "--duplicates",
        type=float,
        default=DUPLICATE_COSINE,
        metavar="T",
        help="cosine from which two photos are duplicates (%(default)s)",
    )
    parser.add_argument(
        "--clusters", type=positive, metavar="N", help="number of clusters (default: by the size of the collection)"
    )
    parser.add_argument(
        "--vocabulary",
        metavar="F",
        help="a file of words to name clusters with, one per line (default: a built-in list)",
    )
    add_where(parser)
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="random seed of the layout (%(default)s)")
    add_json(parser)
    add_model(parser)


def run(arguments: argparse.Namespace) -> int:
    from tandem import plots, prompts
    from tandem.cli.explore_files import MapFile, write_duplicates
    from tandem.search.exploring import duplicates
    from tandem.search.exploring.explore import explore

    duplicates.check_threshold(arguments.duplicates)
    words = list(prompts.read_labels(user_path(arguments.vocabulary))) if arguments.vocabulary else None
    folder, where = user_path(arguments.out), arguments.where
    if folder.exists() and not folder.is_dir():
        raise TandemError(f"--out {arguments.out}: expected a folder, got a file")
    with open_collection(arguments) as photos:
        describe_model(photos.model)
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
                progress=progress.counting,
            )
            file.finish(found.clusters)
        with progress.counting("comparing", len(found.coordinates)) as advance:
            groups = duplicates.find(
                photos.store, arguments.duplicates, where=where, columns=["path"], advance=advance
            )  # fmt: skip
        lists = write_duplicates(groups, folder)
        drawn = [draw(photos, found, folder / "map.png")] if plots.is_installed() else []
    summary = described | {
        "images": len(found.coordinates),
        "clusters": [
            {"name": c.name, "words": list(c.words), "size": c.size, "coherence": round(c.coherence, 4)}
            for c in found.clusters
        ],
        "duplicates": {
            "threshold": arguments.duplicates,
            "groups": len(groups),
            "images": sum(len(group.others) for group in groups),
            "freed_bytes": sum(group.freed_bytes for group in groups),
        },
        "files": [str(path) for path in (*drawn, folder / "map.json", *lists)],
    }
    if arguments.json:
        terminal.print_json(summary)
    else:
        show(summary)
    sys.stdout.flush()
    terminal.echo(f"wrote {', '.join(summary['files'])}")
    if not drawn:
        terminal.echo(f"no map.png: {MissingExtraError('matplotlib', 'plot', 'drawing')}")
    return DONE


def show(summary: dict[str, Any]) -> None:
    """The clusters, the largest first, and what the duplicates are worth."""
    listed = sorted(summary["clusters"], key=lambda cluster: -cluster["size"])
    largest = max([1, *(cluster["size"] for cluster in listed)])
    watched = sys.stdout.isatty()
    print_table(
        COLUMNS,
        [
            (
                cluster["name"] or Cell(NAMELESS, plain="", style=terminal.QUIET),
                Cell(f"{cluster['size']:,}", plain=str(cluster["size"])),
                Cell(terminal.bar(cluster["size"] / largest, 16), style=terminal.ACCENT),
                ", ".join(cluster["words"][1:]),
            )
            for cluster in (listed[:LISTED] if watched else listed)
        ],
    )
    sys.stdout.flush()
    if watched and len(listed) > LISTED:
        terminal.echo(f"and {len(listed) - LISTED} more clusters")
    if nameless := sum(cluster["name"] is None for cluster in listed):
        terminal.echo(f"no name for {nameless} of {len(listed)} clusters: no word clearly sets their photos apart")
    found = summary["duplicates"]
    if found["groups"]:
        groups, cosine = terminal.count_of(found["groups"], "group"), f"cosine of at least {found['threshold']:g}"
        without = f"without {found['images']:,} of {summary['images']:,} photos"
        terminal.echo(
            f"{groups} of near-duplicates ({cosine}): {without}, {in_bytes(found['freed_bytes'])} would be free"
        )
    else:
        terminal.echo(f"no near-duplicates (cosine of at least {found['threshold']:g})")


def in_bytes(count: int) -> str:
    """A number of bytes for people: 12 KB, 3.4 GB."""
    size, unit = float(count), "bytes"
    for larger in ("KB", "MB", "GB", "TB"):
        if size < 1000:
            break
        size, unit = size / 1000, larger
    return f"{size:.0f} {unit}" if size >= 10 or unit == "bytes" else f"{size:.1f} {unit}"


def draw(photos: "Collection", found: "Survey", path: Path) -> Path:
    """The map, with images from the thumbnails that the collection keeps."""
    from tandem import plots
    from tandem.image import load_image

    pins = []
    for region, cluster in enumerate(found.clusters):
        for representative in cluster.representatives[:PINS]:
            small = photos.thumbnail(representative.id)
            if small:
                pins.append(plots.Pin(load_image(small), representative.x, representative.y, region))
    regions = [plots.Region(c.name, c.size, c.x, c.y) for c in found.clusters]
    name = photos.url.rstrip("/").rsplit("/", 1)[-1]
    note = f"{len(found.coordinates):,} photos in {len(regions)} clusters · {photos.model.name}"
    return plots.draw_map(found.coordinates, found.cluster_of, regions, pins, path, title=name, note=note)
