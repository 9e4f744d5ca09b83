"""A collection: filled and searched through the public interface, on toy models."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support import toy

import tandem
from tandem.arrays import Vectors
from tandem.errors import FilterError, StoreError, TandemError
from tandem.scores.relevance import Calibration, ScoreStats, score_stats
from tandem.search.migration import migrate
from tandem.search.query import SearchQuery
from tandem.search.stores import backends as store

pytest_plugins = ["support.photos"]


def test_an_image_finds_itself_first(kept_photos: tandem.Collection, kept_images: Path) -> None:
    results = kept_photos.search(image=kept_images / "3.png", k=3)
    assert results[0].path == str(kept_images / "3.png")
    assert results[0].score == pytest.approx(1, abs=1e-5)
    assert [hit.score for hit in results] == sorted((hit.score for hit in results), reverse=True)


def test_hits_are_the_nearest_by_the_models_own_vectors(kept_photos: tandem.Collection, kept_images: Path) -> None:
    files = sorted(kept_images.iterdir())
    cosines = (kept_photos.model.embed_images(files) @ kept_photos.model.embed_texts("a cat")[0]).tolist()
    found = kept_photos.search("a cat", k=8)
    assert [hit.path for hit in found] == [str(files[i]) for i in np.argsort(cosines)[::-1]]
    assert [hit.score for hit in found] == pytest.approx(sorted(cosines, reverse=True), abs=1e-5)


def test_a_search_is_one_value(kept_photos: tandem.Collection, kept_images: Path) -> None:
    query = SearchQuery("a cat", image=kept_images / "2.png", weight=0.3, k=3, offset=1, where="width > 50")
    found = kept_photos.search(query)
    assert found == kept_photos.search(
        "a cat", image=kept_images / "2.png", weight=0.3, k=3, offset=1, where="width > 50"
    )
    assert found.query == {"text": "a cat", "image": str(kept_images / "2.png")}


def test_a_hit_lists_all_places_of_its_image(photos: tandem.Collection, image_folder: Path) -> None:
    shutil.copy(image_folder / "3.png", image_folder / 'copy, "of" 3.png')
    photos.add(image_folder)
    (hit,) = photos.search(image=image_folder / "3.png", k=1)
    assert hit.paths == (str(image_folder / "3.png"), str(image_folder / 'copy, "of" 3.png'))
    assert hit.metadata["paths"] == list(hit.paths)
    (document,) = json.loads(json.dumps(photos.search(image=image_folder / "3.png", k=1).as_dict()))["hits"]
    assert document["metadata"]["paths"] == list(hit.paths)


def test_like_is_the_image_of_that_id(kept_photos: tandem.Collection, kept_images: Path) -> None:
    one = kept_photos.search(image=kept_images / "5.png", k=1)[0]
    assert kept_photos.search(like=one.id, k=1)[0].id == one.id
    with pytest.raises(StoreError, match="no image"):
        kept_photos.search(like="0" * 32)


def test_pages_join_without_gap_or_overlap(kept_photos: tandem.Collection) -> None:
    whole = [hit.id for hit in kept_photos.search("a cat", k=8)]
    parts = [hit.id for offset in (0, 3, 6) for hit in kept_photos.search("a cat", k=3, offset=offset)]
    assert parts == whole


def test_a_filter_leaves_k_where_k_pass(kept_photos: tandem.Collection) -> None:
    hits = kept_photos.search("a cat", k=3, where="width >= 80").hits
    assert len(hits) == 3
    assert all(isinstance(width := hit.metadata["width"], int) and width >= 80 for hit in hits)
    for wrong in ("widht", "widtH"):
        with pytest.raises(FilterError, match=f"no column '{wrong}': did you mean width\\? There are width, "):
            kept_photos.search("a cat", where=f"{wrong} > 3")
    with pytest.raises(FilterError, match="no column 'colour'; there are "):
        kept_photos.search("a cat", where="colour = 'red'")


def test_less_of_an_image_sinks_it(kept_photos: tandem.Collection, kept_images: Path) -> None:
    def rank(**query: object) -> int:
        return [hit.path for hit in kept_photos.search(k=8, **query)].index(str(kept_images / "3.png"))  # type: ignore[arg-type]

    assert rank(image=kept_images / "2.png", minus_image=kept_images / "3.png") > rank(image=kept_images / "2.png")


def test_text_and_image_have_the_given_weights(kept_photos: tandem.Collection, kept_images: Path) -> None:
    image = kept_images / "1.png"
    assert kept_photos.search("a cat", image=image, weight=0.0).hits == kept_photos.search(image=image).hits
    assert kept_photos.search("a cat", image=image, weight=1.0).hits == kept_photos.search("a cat").hits


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({}, "nothing to look for"),
        ({"text": " "}, "text: expected a text"),
        ({"text": ["a cat"]}, "text: expected a text"),
        ({"text": "a cat", "minus": ""}, "minus: expected a text"),
        ({"text": "a cat", "k": 0}, "k: expected at least 1"),
        ({"text": "a cat", "offset": -1}, "offset"),
        ({"text": "a cat", "weight": 1.5}, "weight"),
        ({"text": "a cat", "threshold": 7}, "threshold"),
        ({"text": "a cat", "k": 2.5}, "k: expected a whole number, at least 1, got 2.5"),
        ({"text": "a cat", "k": True}, "k: expected a whole number, at least 1, got True"),
        ({"text": "a cat", "k": "3"}, "k: expected a whole number, at least 1, got '3'"),
        ({"text": "a cat", "offset": None}, "offset: expected a whole number, at least 0, got None"),
        ({"text": "a cat", "weight": True}, "weight: expected the share of the text, 0..1, got True"),
        ({"text": "a cat", "weight": "half"}, "weight: expected the share of the text, 0..1, got 'half'"),
        ({"text": "a cat", "weight": float("nan")}, "weight: expected the share of the text, 0..1, got nan"),
        ({"text": "a cat", "threshold": False}, "threshold: expected a probability in 0..1, got False"),
        ({"text": "a cat", "where": 3}, "where: expected a filter, got 3"),
        ({"like": 3}, "like: expected the id of an image, got 3"),
        ({"image": [b"", b""]}, "<bytes>"),
        ({"image": np.zeros((2, 40, 40, 3), np.uint8)}, "image: expected one image, got 2"),
        (
            {"text": "a cat", "vectors": {"image": np.ones(12)}},
            r"vectors: expected those of what is searched for \(text\)",
        ),
        ({"text": "a cat", "vectors": {"text": [1.0] * 12}}, r"vectors: text: expected an array \[12\], got list"),
        ({"text": "a cat", "vectors": {"text": np.ones(3)}}, r"vectors: text: expected an array \[12\], got \[3\]"),
        ({"text": "a cat", "vectors": {"text": np.ones(12)}}, "vectors: text: expected unit length, got 3.46"),
    ],
)
def test_questions_that_make_no_sense(kept_photos: tandem.Collection, query: dict[str, object], said: str) -> None:
    with pytest.raises(TandemError, match=said):
        kept_photos.search(**query)  # type: ignore[arg-type]


def test_whole_numbers_of_numpy_are_numbers(kept_photos: tandem.Collection) -> None:
    found = kept_photos.search("a cat", k=np.int64(3), offset=np.int32(1), weight=np.float32(0.5))  # type: ignore[arg-type]
    assert found.hits == kept_photos.search("a cat", k=4)[1:]  # type: ignore[index]
    assert json.loads(json.dumps(found.as_dict()))["offset"] == 1


def test_vectors_made_elsewhere_find_the_same(
    kept_photos: tandem.Collection, kept_images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    query: dict[str, Any] = {
        "image": kept_images / "2.png",
        "minus": "a dog",
        "minus_image": kept_images / "3.png",
        "k": 8,
    }
    expected = kept_photos.search("a cat", **query)
    vectors = {
        "text": kept_photos.model.embed_texts("a cat")[0],
        "image": kept_photos.model.embed_images(query["image"])[0],
        "minus": kept_photos.model.embed_texts("a dog")[0],
        "minus_image": kept_photos.model.embed_images(query["minus_image"])[0],
    }

    def never(*_: object) -> None:
        raise AssertionError("embedded once more")

    monkeypatch.setattr(kept_photos.model, "embed_texts", never)
    monkeypatch.setattr(kept_photos.model, "embed_images", never)
    again = kept_photos.search("a cat", vectors=vectors, **(query | {"image": "a name", "minus_image": "another"}))
    assert [hit.id for hit in again] == [hit.id for hit in expected]
    assert [hit.score for hit in again] == pytest.approx([hit.score for hit in expected], abs=1e-5)
    assert again.query == {"text": "a cat", "minus": "a dog", "image": "a name", "minus_image": "another"}


@pytest.mark.slow
def test_vectors_of_two_models_never_meet_after_a_move(
    photos: tandem.Collection, image_folder: Path, models: tuple[Path, Path]
) -> None:
    read_before = tandem.open(photos.url)
    read_before.count()
    migrate(photos.url, tandem.load(models[1]))
    toy.random_image(50).save(image_folder / "new.png")
    for earlier in (photos, read_before):
        with pytest.raises(StoreError, match=r"holds vectors of other .*not of one"):
            earlier.add(image_folder)
    now = tandem.open(photos.url)
    assert now.add(image_folder).added == 1
    for path in image_folder.iterdir():
        assert now.search(image=path, k=1)[0].score == pytest.approx(1, abs=1e-5)


# --- what stands for it ---

JUDGED = toy.random_image(500)  # of images the calibration that ships can tell


@pytest.fixture
def judged(tmp_path: Path, image_folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[tandem.Collection, list[int]]:
    """A calibrated collection of 8 that was searched once, and the sample size behind each score."""
    sampled: list[int] = []

    def counting(queries: Vectors, sample: Vectors, count: int) -> ScoreStats:
        sampled.append(len(sample))
        return score_stats(queries, sample, count)

    monkeypatch.setattr("tandem.search.searching.score_stats", counting)
    collection = tandem.open(tmp_path / "judged.tandem")
    collection.add(image_folder)
    collection.search(image=JUDGED)
    return collection, sampled


@pytest.mark.slow
def test_what_another_process_adds_is_judged_by_too(
    judged: tuple[tandem.Collection, list[int]], image_folder: Path
) -> None:
    collection, sampled = judged
    for i in range(100, 112):
        toy.random_image(i).save(image_folder / f"{i}.png")
    tandem.open(collection.url).add(image_folder)
    collection.search(image=JUDGED)
    assert sampled == [8, 20]


@pytest.mark.slow
def test_a_tenth_does_not_change_what_is_usual_and_more_does(
    judged: tuple[tandem.Collection, list[int]], image_folder: Path
) -> None:
    collection, sampled = judged
    for i in range(100, 112):
        toy.random_image(i).save(image_folder / f"{i}.png")
    collection.add(image_folder)
    first, second, third = collection.search(image=JUDGED, k=3)
    collection.delete([first.id, second.id])
    collection.search(image=JUDGED)
    collection.delete(third.id)
    collection.search(image=JUDGED)
    assert sampled == [8, 20, 20, 17]


def test_thumbnails_show_the_image(photos: tandem.Collection, image_folder: Path) -> None:
    import io

    hit = photos.search(image=image_folder / "7.png", k=1)[0]
    content = photos.thumbnail(hit.id)
    assert content is not None
    small, full = Image.open(io.BytesIO(content)), Image.open(image_folder / "7.png")
    assert small.format == "JPEG"
    assert small.width / small.height == pytest.approx(full.width / full.height, rel=0.05)
    assert photos.thumbnail("0" * 32) is None


def test_without_calibration_nothing_is_claimed(photos: tandem.Collection) -> None:
    results = photos.search("a cat")
    assert results.threshold is None
    assert not results.nothing_matches
    assert all(hit.relevance is None for hit in results)
    assert results.relevance_reason is not None
    assert "has no calibration; to make one from images with captions: tandem calib" in results.relevance_reason
    assert results.as_dict()["relevance_reason"] == results.relevance_reason


@pytest.mark.slow
def test_the_shipped_model_says_what_its_scores_mean_where_it_can_tell(tmp_path: Path, image_folder: Path) -> None:
    """Of images; not of short texts, of which it can hardly tell whether they match anything."""
    collection = tandem.open(tmp_path / "c.tandem")
    collection.add(image_folder)
    results = collection.search(image=image_folder / "2.png", k=8)
    assert results.relevance_reason is None
    chances = [hit.relevance for hit in results]
    assert all(chance is not None and 0 <= chance <= 1 for chance in chances)
    assert chances == sorted(chances, reverse=True)  # type: ignore[type-var]
    assert isinstance(collection.calibration, Calibration)
    image = image_folder / "2.png"
    assert collection.search(image=image, threshold=1.0).nothing_matches
    assert not collection.search(image=image, threshold=0.0).nothing_matches
    assert collection.search(image=image, k=2, offset=2).best == chances[0]
    for query in (SearchQuery("a cat"), SearchQuery("a cat", image=image), SearchQuery(image=image, minus="a cat")):
        found = collection.search(dataclasses.replace(query, threshold=1.0))
        assert "texts of up to 8 words" in str(found.relevance_reason)
        assert (found.best, found.threshold, found.nothing_matches) == (None, None, False)
        assert all(hit.relevance is None for hit in found)
    only_the_image = collection.search("a cat", image=image, weight=0.0, k=8)
    assert [hit.relevance for hit in only_the_image] == pytest.approx(chances)


@pytest.mark.slow
def test_a_filter_changes_no_hits_relevance(tmp_path: Path, image_folder: Path) -> None:
    """It depends on the query, the image and the collection: the same with every filter and without one."""
    collection = tandem.open(tmp_path / "c.tandem")
    for i in range(100, 140):
        toy.random_image(i, (200, 60)).save(image_folder / f"{i}.png")
    collection.add(image_folder)
    for name in ("2.png", "5.png"):
        query = SearchQuery(image=image_folder / name, k=100)
        relevance = {hit.id: hit.relevance for hit in collection.search(query)}
        assert len(relevance) == 48
        for where in ("width > 90", "width < 100", f"path = '{image_folder / '2.png'}'", "width > 0"):
            found = collection.search(dataclasses.replace(query, where=where))
            assert 0 < len(found) <= 48
            expected = {hit.id: relevance[hit.id] for hit in found}
            assert {hit.id: hit.relevance for hit in found} == pytest.approx(expected, rel=1e-9)


@pytest.mark.slow
def test_a_damaged_calibration_does_not_stop_a_search(
    tmp_path: Path, image_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TANDEM_HOME", str(tmp_path / "home"))
    collection = tandem.open(tmp_path / "c.tandem")
    collection.add(image_folder)
    fit = tmp_path / "home" / "relevance" / f"{collection.model.fingerprint}.json"
    fit.parent.mkdir(parents=True)
    fit.write_text("{")
    with pytest.warns(UserWarning, match="without relevance"):
        results = tandem.open(collection.url).search("a cat")
    assert len(results) == 8
    assert results[0].relevance is None


def test_two_that_make_the_same_collection_fill_the_same_one(
    tmp_path: Path, image_folder: Path, models: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, real = tmp_path / "c.tandem", store.create_store

    def create_store(*given: Any, **options: Any) -> Any:
        monkeypatch.setattr(store, "create_store", real)
        tandem.open(url, models[0]).add(image_folder / "0.png")  # between the look and the making
        return real(*given, **options)

    monkeypatch.setattr(store, "create_store", create_store)
    report = tandem.open(url, models[0]).add(image_folder)
    assert (report.total, report.unchanged) == (8, 1)
    monkeypatch.setattr(store, "create_store", create_store)
    url = tmp_path / "d.tandem"
    with pytest.raises(StoreError, match=r"one .*other"):
        tandem.open(url, models[1]).add(image_folder)


def test_labels_for_everything(photos: tandem.Collection, image_folder: Path) -> None:
    by_label = photos.label(["cat", "dog", "a red car"], k=3)
    assert set(by_label) == {"cat", "dog", "a red car"}
    answer = photos.model.classify(sorted(image_folder.iterdir()), ["cat", "dog", "a red car"])
    highest = answer.probabilities.max(axis=0)
    for place, best in enumerate(by_label.values()):
        assert len(best) == 3
        assert best[0].probability == pytest.approx(highest[place], abs=1e-4)
    shares = dict(photos.iter_labels(["cat", "dog", "a red car"], k=3))
    assert len(shares) == 8
    assert all(sum(share for _, share in labels) == pytest.approx(1, abs=1e-4) for labels in shares.values())


def test_a_filter_on_path_means_every_place_of_an_image(photos: tandem.Collection, image_folder: Path) -> None:
    (image_folder / "zoo, old").mkdir()
    shutil.copy(image_folder / "3.png", image_folder / "zoo, old" / "lion.png")
    assert photos.add(image_folder).duplicates == 1
    assert photos.count() == 8
    for where, count in (("path like '%lion.png'", 1), ("path like '%3.png'", 1), ("path not like '%lion.png'", 7)):
        assert photos.count(where) == count
    (hit,) = photos.search("a lion", where="path like '%/zoo, old/%'")
    assert {Path(path).name for path in hit.paths} == {"3.png", "lion.png"}


@pytest.mark.slow
def test_duplicates_and_a_tour(photos: tandem.Collection, image_folder: Path) -> None:
    Image.open(image_folder / "3.png").save(image_folder / "copy.png", compress_level=1)
    photos.add(image_folder)
    (group,) = photos.duplicates(0.9999)
    assert {member.metadata["path"] for member in group.members} == {
        str(image_folder / "3.png"),
        str(image_folder / "copy.png"),
    }
    found = photos.explore(clusters=2)
    assert len(found.coordinates) == 9
    assert len(found.clusters) == 2
