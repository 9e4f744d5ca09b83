"""`tandem label --write-xmp` and `--albums`: what is written, what is said, and what is refused."""

from pathlib import Path

import pytest
from support import toy
from support.commands import Run, one_line

from tandem.cli import main
from tandem.search.tagging.xmp import keywords_of


@pytest.fixture
def library(tmp_path: Path, model_folder: str) -> Path:
    """Four photos, and a collection of them."""
    toy.write_images(tmp_path / "photos", 4)
    assert (
        main(["-q", "index", str(tmp_path / "photos"), "--to", str(tmp_path / "c.tandem"), "--model", model_folder])
        == 0
    )
    return tmp_path / "c.tandem"


def test_keywords_and_albums(tandem: Run, library: Path, tmp_path: Path) -> None:
    written = (
        "label",
        library,
        "--labels",
        "cat,dog",
        "--above",
        "0.5",
        "--write-xmp",
        "--albums",
        tmp_path / "albums",
    )
    dry = tandem(*written, "--dry-run")
    assert "sidecars: 4 would be made" in dry.err
    assert not list((tmp_path / "photos").glob("*.xmp"))
    done = tandem(*written)
    assert done.code == 0
    assert "sidecars: 4 made" in done.err
    assert "labels compete" in done.err
    assert "--independent" not in done.err  # which this model refuses
    counts = {label: int(count) for label, count, _ in done.rows}
    assert sum(counts.values()) == 4
    keywords = [word for path in (tmp_path / "photos").glob("*.xmp") for word in keywords_of(path.read_bytes())]
    assert sorted(keywords) == sorted(label for label, count in counts.items() for _ in range(count))
    assert len(list((tmp_path / "albums").rglob("*.png"))) == 4
    again = tandem(*written, "--json").json
    assert again["sidecars"] == {"made": 0, "changed": 0, "unchanged": 4, "added": 0, "withdrawn": 0}
    assert (again["albums"]["kept"], again["albums"]["made"]) == (4, 0)
    # What the model cannot tell is said, and its keywords are withdrawn
    unclear = tandem("label", library, "--labels", "cat,dog", "--above", "1", "--write-xmp")
    assert "keywords: 0 added, 4 withdrawn" in unclear.err
    assert "the model cannot tell of 4 photos" in unclear.err


def test_a_sidecar_that_is_left_is_named(tandem: Run, library: Path, tmp_path: Path) -> None:
    hostile = tmp_path / "photos" / "0.png.xmp"
    hostile.write_bytes(b"<!DOCTYPE x><x/>")
    done = tandem("label", library, "--labels", "cat,dog", "--above", "0.5", "--write-xmp")
    assert done.code == 1
    assert f"{hostile}: left as it is: it has a document type" in done.err
    assert hostile.read_bytes() == b"<!DOCTYPE x><x/>"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--dry-run",), "--dry-run goes with --write-xmp or --albums"),
        (("--above", "0.9"), "--above goes with"),
        (("--write-xmp", "--by", "image"), "--by image lists labels"),
        (("--write-xmp", "--top", "3"), "--top lists labels"),
        (("--write-xmp", "--above", "0.3"), "expected a probability from 0.5 to 1"),
        (("--write-xmp", "--links", "hard"), "--links goes with --albums"),
        (("--albums", "x", "--withdraw"), "--withdraw goes with --write-xmp"),
    ],
)
def test_options_that_do_nothing_are_refused(
    tandem: Run, collection: Path, options: tuple[str, ...], says: str
) -> None:
    assert says in one_line(tandem("label", collection, "--labels", "a,b", *options))


def test_a_single_label_needs_independent(tandem: Run, collection: Path) -> None:
    done = tandem("-q", "label", collection, "--labels", "cat", "--write-xmp")
    assert one_line(done).rstrip().endswith("true of every photo: add labels that it competes with")
