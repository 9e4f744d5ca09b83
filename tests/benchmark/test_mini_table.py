"""The table of the model that ships: what is kept from training, balanced draws, and how figures stand in a page."""

import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mini
import numpy as np
import pyarrow.parquet as pq
import pytest
from marked_pages import replaced
from mini_table import details, everyday, held_out, measuring, photos, presence
from mini_table.rows import ROWS, Found, main_table
from support.training_toys import NAMES, recipe, write_parquet

from tandem.cli.commands import demo
from tandem.datasets import open_dataset
from tandem.image import load_image
from tandem.tokenizer import Tokenizer
from tandem.train.data.loader import Loader
from tandem.train.recipe import Source

KEPT = Source("names.parquet", "names", hold_out=0.25, per_batch=8, kind="names")


def is_kept(key: str, share: float) -> bool:
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big") < share * 2**64


def test_what_is_kept_is_what_training_never_draws(tmp_path: Path) -> None:
    write_parquet(tmp_path / "names.parquet")
    (kept,) = held_out.read_kept([KEPT], tmp_path)
    table = {"path": "names.parquet", "text": "names", "kind": "names", "hold_out": 0.25, "per_batch": 8}
    loader = Loader(recipe(tmp_path, table), Tokenizer.clip())
    drawn = {int(key.partition("#")[2]) for step in range(30) for key in loader.batch(step).keys}
    left = [row for row in range(len(NAMES)) if row not in drawn]
    assert left == [row for row in range(len(NAMES)) if is_kept(f"names.parquet#{row}", 0.25)]
    assert [kept.classes[label].partition(",")[0] for label in kept.labels] == [NAMES[row] for row in left]
    assert kept.counts


def test_sources_of_one_label_are_left_out_and_those_of_a_picture_a_label_do_not_count(tmp_path: Path) -> None:
    rows = pq.read_table(write_parquet(tmp_path / "names.parquet"))
    pq.write_table(rows.slice(0, 10), tmp_path / "one.parquet")  # all red
    each = rows.set_column(1, "names", [[f"thing {row}" for row in range(len(NAMES))]])
    pq.write_table(each, tmp_path / "each.parquet")
    sources = [Source(path, "names", hold_out=0.25, kind="names") for path in ("one.parquet", "each.parquet")]
    (kept,) = held_out.read_kept([*sources], tmp_path)
    assert (kept.name, len(kept.classes), kept.counts) == ("each", 40, False)
    (counted,) = held_out.read_kept([KEPT], tmp_path)
    right = [np.zeros(len(kept.images)), np.ones(len(counted.images))]
    assert held_out.overall([kept, counted], right) == (1.0, 0.25)


def test_the_recipe_keeps_a_twentieth_of_every_labelled_source_of_broad(shared: Path) -> None:
    sources = held_out.labelled_sources(mini.RECIPE)
    assert {source.hold_out for source in sources} == {0.05}
    assert all(str(source.path).startswith("broad/") and source.where for source in sources)
    small = [source for source in sources if "vehicle-cnn" in source.where.values()]
    (kept,) = held_out.read_kept(small, shared / "data")
    assert sorted(kept.classes) == ["bicycle", "bus", "car", "electric kick scooter"]
    rows = everyday._opened(shared / "data", "broad/things.parquet", "vehicle-cnn")
    assert len(kept.images) == sum(is_kept(key, 0.05) for key in rows.keys) > 0


def test_the_card_measures_what_training_never_draws_among_all_classes(shared: Path) -> None:
    measured = {dataset.name: dataset for dataset in mini.datasets(shared / "data", "dev")}
    for whole in mini.whole_sources(shared / "data"):
        kept = measured[f"{whole.name}, {mini.KEPT}"]
        assert kept.keys == tuple(key for key in whole.keys if is_kept(key, 0.05)) != ()
        assert kept.classes == whole.classes
        digests = dict(zip(whole.keys, whole.digests, strict=True))
        assert kept.digests == tuple(digests[key] for key in kept.keys)
    unseen = ["Tiny-ImageNet val, 200 seen classes", "Flickr8k dev"]
    assert list(measured) == [unseen[0], *(f"{name}, {mini.KEPT}" for name in mini.SOURCES), unseen[1]]


def test_a_recipe_that_trains_on_all_of_a_source_of_the_card_is_refused(tmp_path: Path) -> None:
    text = mini.RECIPE.read_text(encoding="utf-8")
    where = 'where = { source = "testtensor" }\nhold_out = 0.05\nkind = "names"'
    assert where in text
    (tmp_path / "r.toml").write_text(text.replace(where, where.replace("hold_out = 0.05\n", "")), encoding="utf-8")
    with pytest.raises(SystemExit, match="hold_out for each source of the card, found none for AID"):
        mini.datasets(tmp_path, "dev", tmp_path / "r.toml")


def test_a_part_that_is_not_of_the_source_is_refused(tmp_path: Path) -> None:
    write_parquet(tmp_path / "names.parquet")
    whole = open_dataset(tmp_path / "names.parquet", label="names")
    assert len(held_out.kept_part(whole, KEPT, tmp_path)) == len(held_out.read_kept([KEPT], tmp_path)[0].images)
    with pytest.raises(SystemExit, match=r"expected the \d+ pictures that are left out, found 0"):
        held_out.kept_part(whole.take([]), KEPT, tmp_path)


def test_a_recipe_that_keeps_nothing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text('[[data]]\npath = "a.parquet"\ntext = "label"\nkind = "names"\n')
    with pytest.raises(SystemExit, match="expected labelled sources with hold_out, found none"):
        held_out.labelled_sources(tmp_path / "r.toml")


def test_draws_are_balanced_seeded_and_without_repeats() -> None:
    rows = [np.arange(0, 5), np.arange(10, 40), np.arange(50, 57)]
    drawn = everyday.draw_balanced(rows)
    assert [len(each) for each in drawn] == [5, 5, 5]
    assert all(len(set(each.tolist())) == 5 and set(each) <= set(row) for each, row in zip(drawn, rows, strict=True))
    again = everyday.draw_balanced(rows)
    assert all(np.array_equal(*pair) for pair in zip(drawn, again, strict=True))
    assert not np.array_equal(everyday.draw_balanced(rows, seed=1)[1], drawn[1])


def test_the_everyday_words_have_as_many_pictures_each(shared: Path) -> None:
    words = {word: everyday.EVERYDAY[word] for word in ("car", "truck")}
    small = everyday.pictures(shared / "data", words, small=True)
    assert np.bincount(small.labels).tolist() == [42, 42]
    whole = everyday.pictures(shared / "data", words, small=False)
    assert {load_image(image).size for image in small.images()} == {(32, 32)}
    assert min(min(load_image(image).size) for image in whole.images()) > 32
    assert len(everyday.EVERYDAY) == len(everyday.UNSEEN) == 10


def test_each_row_has_its_own_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both directions of retrieval as the rows name them, and of what stands behind a row, what the row says."""
    seen = {"top1_one_prompt": (0.4, 0.01), "ensemble_gain": (-0.02, None)}
    pairs = {"text_to_image_recall@10": (0.3, 0.05), "image_to_text_recall@10": (0.5, 0.06),
             "text_to_image_recall@1": (0.1, 0.005), "image_to_text_recall@1": (0.2, 0.006)}  # fmt: skip
    results = [
        SimpleNamespace(
            figures={key: SimpleNamespace(value=value, chance=chance) for key, (value, chance) in of.items()}
        )
        for of in (seen, pairs)
    ]
    answers = {"first": everyday.Answers(0.3, 0.1, "bird", 0.6), "second": everyday.Answers(0.2, 0.1, "car", 0.7)}
    areas = {name: {"auc_present_emptied": area, "auc_present_removed": 0.5} for name, area in
             (("captions", 0.61), ("phrases", 0.72))}  # fmt: skip
    monkeypatch.setattr(measuring.tandem, "load", lambda *_, **__: SimpleNamespace(name="toy"))
    monkeypatch.setattr(measuring, "open_dataset", str)
    monkeypatch.setattr(measuring, "evaluate", lambda *_, **__: SimpleNamespace(results=results))
    monkeypatch.setattr(measuring.held_out, "measure", lambda *_: [np.array([1.0, 0.0, 0.0, 0.0])])
    monkeypatch.setattr(measuring.everyday, "measure_all", lambda *_: answers)
    monkeypatch.setattr(measuring.presence, "measure", lambda *_: areas)
    monkeypatch.setattr(measuring.speed, "megabytes", lambda _: 14.0)
    kept = [held_out.Kept("one", [b""] * 4, np.zeros(4, np.int64), ["a", "b"], True)]
    found = measuring.measure(None, Path(), "dev", kept, speeds=False).figures
    assert found == {
        "seen": Found((0.4,), (0.01,)), "ensemble": Found((-0.02,)), "recall@10": Found((0.3, 0.5), (0.05, 0.06)),
        "recall@1": Found((0.1, 0.2), (0.005, 0.006)), "kept": Found((0.25,), (0.5,)), "hub": Found((0.3,), (0.1,)),
        "presence": Found((0.61,), (0.5,)), "size": Found((14.0,)),
    }  # fmt: skip


def test_what_lies_behind_the_kept_twentieth() -> None:
    """Over all pictures, and over sources; what is not counted stands below, in neither."""
    sizes = [("large", 6, 2, True), ("each", 5, 5, False), ("small", 2, 4, True)]
    kept = [
        held_out.Kept(name, [b""] * count, np.zeros(count, np.int64), list("abcdefgh"[:classes]), counts)
        for name, count, classes, counts in sizes
    ]
    right = [np.array([1.0] * 3 + [0.0] * 3), np.ones(5), np.ones(2)]
    found = {"m": measuring.Measured({}, right, {}, {}, {})}
    assert details._kept(found, kept) == [
        ["source", "pictures", "labels", "chance", "m"],
        ["large", "6", "2", "50.0%", "50.0%"],
        ["small", "2", "4", "25.0%", "100.0%"],
        ["all pictures", "8", "", "43.8%", "62.5%"],
        ["mean over sources", "8", "", "37.5%", "75.0%"],
        ["each (a picture a label: not counted)", "5", "5", "20.0%", "100.0%"],
    ]


def test_presence_is_fitted_on_dev_and_measured_on_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, Any]] = []

    def calibrated(name: str, fingerprint: str, fitted: Any, tested: Any) -> SimpleNamespace:
        asked.append((fitted, tested))
        sizes = {"10": {"auc": 0.1}, presence.AMONG: {"auc": 0.6}, "1000": {"auc": 0.9}}
        return SimpleNamespace(figures={"queries": {kind: {"collections": sizes} for kind in ("captions", "phrases")}})

    read = SimpleNamespace(halves=lambda: ("one half of dev", "the other"))
    monkeypatch.setattr(presence, "_captions", lambda _, path: read if path.name.startswith("dev") else "test")
    monkeypatch.setattr(presence, "calibrate", calibrated)
    model: Any = SimpleNamespace(name="toy", fingerprint="0")
    assert presence.measure(model, tmp_path, "test") == {"captions": {"auc": 0.6}, "phrases": {"auc": 0.6}}
    presence.measure(model, tmp_path, "dev")
    assert asked == [(read, "test"), ("one half of dev", "the other")]


def test_the_question_about_the_demo_is_the_one_that_was_first_asked() -> None:
    """Changing the demo's labels may be right; the table's row is then another row."""
    assert list(photos.LABELS) == demo.LABELS
    assert set(photos.SHOWN.values()) <= set(photos.LABELS)
    answers = {name: (shown, 0.9) for name, shown in photos.SHOWN.items()}
    assert photos.right(answers) == 6
    assert photos.right({**answers, "rocket.jpg": ("temple", 0.9)}) == 5


def test_the_table_has_a_column_for_each_model_and_chance_beside_it() -> None:
    figures = {
        "a": {"kept": Found((0.157,), (0.066,))},
        "b": {"kept": Found((0.4,), (0.066,)), "ensemble": Found((-0.018,))},
    }
    lines = main_table(figures, "dev")
    assert [cell.strip() for cell in lines[0].split("|")[2:4]] == ["a", "b"]
    assert [cell.strip() for cell in lines[3].split("|")[2:7]] == ["15.7%", "40.0%", "16%", "45%", "6.6%"]
    assert [cell.strip() for cell in lines[2].split("|")[2:7]] == ["", "-1.80", "-1.8", "0 or better", ""]
    assert len(lines) == 4
    assert len({row.key for row in ROWS}) == len(ROWS)
    (recall,) = main_table({"a": {"recall@1": Found((0.075, 0.085), (0.001, 0.001))}}, "dev")[2:]
    assert "Flickr8k dev" in recall
    assert "8.5% (test)" in recall


def test_the_page_keeps_what_is_around_the_table() -> None:
    begin, end = mini.MARKS
    page = f"before\n\n{begin}\nold\n{end}\nafter\n"
    once = replaced(page, mini.MARKS, ["| new |"])
    assert once == f"before\n\n{begin}\n\n| new |\n\n{end}\nafter\n"
    assert replaced(once, mini.MARKS, ["| new |"]) == once
    for wrong in ("no marks", begin, f"{end}{begin}", page + page):
        with pytest.raises(ValueError, match="expected a line"):
            replaced(wrong, mini.MARKS, [])


def test_columns_are_named_by_what_tells_them_apart() -> None:
    assert mini.column_names(["runs/a/best", "runs/b/best"]) == ["a/best", "b/best"]
    assert mini.column_names(["runs/mini", "x/third"]) == ["mini", "third"]
    assert mini.column_names(["tandem-mini"]) == ["tandem-mini"]
