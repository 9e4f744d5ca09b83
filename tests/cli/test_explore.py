"""`tandem explore` on a small collection: what it prints, what it writes, and that the two agree."""

import csv
import hashlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support import toy

import tandem
from tandem.cli import main
from tandem.cli.commands.explore import in_bytes
from tandem.cli.explore_files import write_duplicates
from tandem.plots import page
from tandem.search.exploring import map2d, naming
from tandem.search.exploring.duplicates import DuplicateGroup, Member
from tandem.search.indexing.image_record import COLUMNS
from tandem.search.stores.backends import create_store
from tandem.search.stores.protocol import Records, Schema

pytestmark = pytest.mark.slow

pytest.importorskip("matplotlib")

PHOTOS, COPIES = 40, 3


@pytest.fixture(autouse=True)
def fewer_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(map2d, "EARLY", 20)
    monkeypatch.setattr(map2d, "LATE", 20)


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A collection of made-up images with a toy model, the first few a second time, smaller; and the model."""
    folder = tmp_path_factory.mktemp("explore")
    source = toy.folder(folder / "toy")
    model = tandem.load(source)
    images = [toy.random_image(seed) for seed in range(PHOTOS)] + [
        toy.random_image(seed, (24, 20)) for seed in range(COPIES)
    ]
    vectors = model.embed_images(images)
    vectors[PHOTOS:] = vectors[:COPIES]
    rows = []
    for number, image in enumerate(images):
        content = io.BytesIO()
        image.save(content, "JPEG")
        rows.append({
            "path": f"photos/{number}, of 'mine'.jpg", "width": image.width, "height": image.height,
            "bytes": 1000 + number, "thumbnail": content.getvalue() if number % 5 else None,
        })  # fmt: skip
    notes = {
        "format": "1", "identity": "x", "model_name": model.name, "model_fingerprint": model.fingerprint,
        "model_source": str(source),
    }  # fmt: skip
    url = folder / "photos.tandem"
    store = create_store(str(url), Schema(vectors.shape[1], COLUMNS), notes)
    ids = [hashlib.sha256(str(number).encode()).hexdigest()[:32] for number in range(len(rows))]
    columns = {name: [row.get(name) for row in rows] for name in rows[0]}
    store.upsert(Records(ids, vectors, columns))
    store.close()
    return url, source


@pytest.mark.slow
def test_everything_is_written_and_agrees(
    collection: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "tour"
    assert main(["explore", str(collection[0]), "--out", str(out), "--clusters", "4", "--duplicates", "0.9999",
                 "--json"]) == 0  # fmt: skip
    answer = json.loads(capsys.readouterr().out)
    assert sorted(path.name for path in out.iterdir()) == ["duplicates.csv", "duplicates.json", "map.json", "map.png"]
    assert {Path(file) for file in answer["files"]} == set(out.iterdir())

    data = json.loads((out / "map.json").read_text(encoding="utf-8"))
    assert len(data["images"]) == answer["images"] == PHOTOS + COPIES
    assert len({image["id"] for image in data["images"]}) == PHOTOS + COPIES
    assert data["model"] == answer["model"]
    assert len(data["clusters"]) == 4
    assert all(cluster["name"] == next(iter(cluster["words"]), None) for cluster in data["clusters"])
    sizes = np.bincount([image["cluster"] for image in data["images"]], minlength=4)
    assert [cluster["size"] for cluster in data["clusters"]] == sizes.tolist()
    known = {image["id"]: image["cluster"] for image in data["images"]}
    for number, cluster in enumerate(data["clusters"]):
        assert {known[id] for id in cluster["representatives"]} == {number}

    groups = json.loads((out / "duplicates.json").read_text(encoding="utf-8"))
    assert len(groups) == answer["duplicates"]["groups"] == COPIES
    assert {group["keep"]["width"] for group in groups} == {48}
    assert {member["width"] for group in groups for member in group["duplicates"]} == {24}
    freed = sum(member["bytes"] for group in groups for member in group["duplicates"])
    assert answer["duplicates"]["freed_bytes"] == freed == sum(1000 + PHOTOS + i for i in range(COPIES))
    with (out / "duplicates.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["keep"] for row in rows] == ["yes", "no"] * COPIES
    assert {row["path"] for row in rows if row["keep"] == "no"} == {
        f"photos/{PHOTOS + i}, of 'mine'.jpg" for i in range(COPIES)
    }
    assert Image.open(out / "map.png").width > 1500


@pytest.mark.slow
def test_the_same_seed_writes_the_same_map(collection: tuple[Path, Path], tmp_path: Path) -> None:
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        assert main(["explore", str(collection[0]), "--out", str(tmp_path / name), "--seed", seed]) == 0
    first, second, other = ((tmp_path / name / "map.json").read_bytes() for name in "abc")
    assert first == second
    assert first != other


def test_people_read_names_sizes_and_what_is_freed(
    collection: tuple[Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = tmp_path / "words.txt"
    words.write_text("cat\ndog\ntree\n")
    command = ["explore", str(collection[0]), "--out", str(tmp_path / "out"), "--vocabulary", str(words)]
    assert main([*command, "--clusters", "3", "--duplicates", "0.9999"]) == 0
    shown = capsys.readouterr()
    assert [line.split("\t")[0] for line in shown.out.splitlines()] == ["", "", ""]
    assert "no name for 3 of 3 clusters" in shown.err
    assert all(word in shown.err for word in ("3 groups", "3 of 43 photos", "3.1 KB", "map.png"))
    # As if made-up images and a model of random weights had clear names.
    monkeypatch.setattr(naming, "MIN_FIT", -np.inf)
    monkeypatch.setattr(naming, "MIN_LEAD", -np.inf)
    assert main([*command, "--clusters", "5"]) == 0
    shown = capsys.readouterr()
    rows = [line.split("\t") for line in shown.out.splitlines()]
    assert len(rows) == 5
    assert all(sorted([row[0], *row[-1].split(", ")]) == ["cat", "dog", "tree"] for row in rows)
    assert "no name" not in shown.err


def test_a_filter_chooses_what_is_explored(
    collection: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [
        "explore",
        str(collection[0]),
        "--out",
        str(tmp_path / "out"),
        "--duplicates",
        "0.9999",
        "--json",
        "--where",
    ]
    assert main([*command, "width > 30"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["images"] == PHOTOS
    assert answer["duplicates"]["groups"] == 0
    assert answer["where"] == "width > 30"
    before = (tmp_path / "out" / "map.json").read_bytes()
    assert main([*command, "width > 3000"]) == 2
    assert "no images" in capsys.readouterr().err
    assert (tmp_path / "out" / "map.json").read_bytes() == before  # the old map is still there, whole
    assert not list((tmp_path / "out").glob(".*"))


def test_lists_of_duplicates_have_cosines_of_five_digits(tmp_path: Path) -> None:
    values = {"path": "a.jpg", "width": 10, "height": 20, "bytes": 30}
    group = DuplicateGroup((Member("a", 1.0, values), Member("b", 0.9876543, {"path": "b.jpg", "bytes": 7})))
    table, document = write_duplicates([group], tmp_path)
    assert table.read_text(encoding="utf-8").splitlines() == [
        "group,keep,cosine,path,width,height,bytes,id",
        "1,yes,1.00000,a.jpg,10,20,30,a",
        "1,no,0.98765,b.jpg,,,7,b",
    ]
    (read,) = json.loads(document.read_text(encoding="utf-8"))
    assert read["keep"] == {"id": "a", "cosine": 1.0, **values}
    assert read["duplicates"] == [
        {"id": "b", "cosine": 0.98765, "path": "b.jpg", "width": None, "height": None, "bytes": 7}
    ]
    assert read["freed_bytes"] == 7


@pytest.mark.parametrize(
    ("count", "shown"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 KB"), (9940, "9.9 KB"), (12_345, "12 KB"),
     (3_400_000_000, "3.4 GB"), (5 * 10**15, "5000 TB")],
)  # fmt: skip
def test_bytes_are_shown_with_two_figures_at_least(count: int, shown: str) -> None:
    assert in_bytes(count) == shown


@pytest.mark.parametrize("threshold", ["1.5", "0", "nan"])
def test_a_threshold_that_is_no_cosine_is_refused_before_the_work(
    collection: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], threshold: str
) -> None:
    assert main(["explore", str(collection[0]), "--out", str(tmp_path / "out"), "--duplicates", threshold]) == 2
    assert "cosine" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_without_a_collection_nothing_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explore", str(tmp_path / "none.tandem"), "--out", str(tmp_path / "out")]) == 2
    assert "none.tandem" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_sample_of_a_large_collection_is_fair_and_the_rest_is_placed(
    collection: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from tandem.search.exploring import survey
    from tandem.search.stores.backends import open_store

    store = open_store(str(collection[0]))
    drawn = [survey.take_sample(store, most=10, seed=seed) for seed in range(40)]
    assert {len(sample) for sample in drawn} == {10}
    np.testing.assert_array_equal(drawn[0], survey.take_sample(store, most=10, seed=0))
    every = survey.take_sample(store)
    assert len(every) == PHOTOS + COPIES
    chosen = sum(np.isclose(every @ sample.T, 1, atol=1e-6).any(axis=1).astype(int) for sample in drawn)
    assert (chosen > 0).all()  # 40 times 10 of 43: each is drawn at some time
    layout = map2d.lay_out(drawn[0])
    centres = drawn[0][:3]
    found = survey.survey(store, layout, centres, [("a",), ("b",), ("c",)])
    assert found.coordinates.shape == (PHOTOS + COPIES, 2)
    assert sum(cluster.size for cluster in found.clusters) == PHOTOS + COPIES
    store.close()


@pytest.mark.slow
def test_without_matplotlib_only_the_drawing_is_left_out(
    collection: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "find_spec", lambda _: None)
    assert main(["explore", str(collection[0]), "--out", str(tmp_path), "--clusters", "3"]) == 0
    assert "no map.png: drawing needs matplotlib" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["duplicates.csv", "duplicates.json", "map.json"]
    assert b"\r" not in (tmp_path / "duplicates.csv").read_bytes()
