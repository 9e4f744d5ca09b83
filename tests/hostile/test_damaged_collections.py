"""A collection whose files were damaged: answers are right or say what is missing; `check` finds and repairs it."""

import json
import shutil
import sqlite3
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import flips, toy
from support.collection_toys import toy_model
from support.flips import CAPTION, Answers, answers, checked

from tandem.errors import StoreError, TandemError
from tandem.search.collection import Collection
from tandem.search.indexing.ledger import Ledger, problem_of
from tandem.search.stores.backends import backend
from tandem.search.stores.embedded import checksums, vector_file
from tandem.search.stores.protocol import Records

IMAGES = 30
FLIPS = 40  # of a bench of 1,000: bench/flips.py


@dataclass(frozen=True)
class Made:
    url: str
    answers: Answers


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    """A collection with indexes, that nobody damages."""
    with flips.small_indexes():
        url = flips.make(tmp_path_factory.mktemp("whole"), IMAGES).url
        yield Made(url, answers(url))


@pytest.fixture
def copy(whole: Made, tmp_path: Path) -> Path:
    """A copy to damage, of the same pictures."""
    shutil.copytree(whole.url, tmp_path / "c.tandem")
    return tmp_path / "c.tandem"


def change(path: Path, at: int, bits: int = 255) -> None:
    flips.Flip(path, at, bits).apply()


def told(url: Path | str) -> tuple[Answers, str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = answers(str(url))
    return found, "; ".join(str(each.message) for each in caught)


@pytest.mark.slow
def test_a_byte_changed_anywhere_gives_no_silent_wrong_answer(whole: Made) -> None:
    kinds = set()
    for flip in flips.flips(Path(whole.url), FLIPS, seed=2):
        with flip.applied():
            kind, said = flips.outcome(whole.url, whole.answers)
        assert kind != "silent", (flip, said)
        kinds.add((flip.file.name.partition("-")[0].partition(".")[0], kind))
    assert {("vectors", "told"), ("records", "told"), ("current", "refused")} <= kinds


def test_answers_that_are_wrong_are_no_part_of_the_right_ones(whole: Made) -> None:
    truth = whole.answers
    least = min(truth.records, key=lambda id: sum(id == hit[0] for each in truth.hits for hit in each))
    records = {id: record for id, record in truth.records.items() if id != least}

    def without(rankings: Any) -> Any:
        return tuple(tuple(hit for hit in each if hit[0] != least) for each in rankings)

    part = replace(truth, records=records, rankings=without(truth.rankings))
    part = replace(part, hits=tuple(each[:5] for each in part.rankings))
    assert flips._is_part_of(part, truth)
    wrong = [
        replace(part, hits=tuple(each[::-1] for each in part.hits)),
        replace(part, hits=tuple(tuple((id, score - 0.01, path) for id, score, path in each) for each in part.hits)),
        replace(part, hits=tuple(each[1:] for each in part.hits)),
        replace(part, passing=(0, *part.passing[1:])),
        replace(part, passing=(part.passing[0] + 1, *part.passing[1:])),
        replace(part, rankings=truth.rankings),
    ]
    assert [flips._is_part_of(one, truth) for one in wrong] == [False] * len(wrong)


def test_a_damaged_vector_is_named_left_out_found_and_read_again(whole: Made, copy: Path) -> None:
    change(copy / "g1" / "vectors-1.f32", 5 * 4 * toy.DIMENSIONS + 1)  # a small change of one number
    found, said = told(copy)
    (lost,) = whole.answers.records.keys() - found.records.keys()
    path = whole.answers.records[lost][0]
    assert "1 of its images are left out of answers, since their vectors are damaged" in said
    assert str(path) in said
    assert "Collection.check(repair=True)" in said
    assert "--repair" not in said  # that is for the command line to say
    assert {id for each in found.hits for id, _, _ in each} & {lost} == set()
    assert all(len(each) == 5 for each in found.hits)  # the next ones move up
    seen = checked(str(copy))
    assert [(one.part, one.ids) for one in seen.damage] == [("vectors", (lost,))]
    assert not seen.repaired
    after = checked(str(copy), repair=True)
    assert (after.repaired, after.renewed, after.lost) == (True, 1, [])
    assert not checked(str(copy)).findings
    assert told(copy)[0].records.keys() == whole.answers.records.keys()
    assert told(copy)[0].hits == whole.answers.hits


@contextmanager
def away(whole: Made) -> Iterator[None]:
    """The folder of the pictures, as if its disk were not mounted."""
    pictures = Path(whole.url).parent / "pictures"
    pictures.rename(pictures.with_name("away"))
    try:
        yield
    finally:
        pictures.with_name("away").rename(pictures)


def test_photos_whose_folder_is_away_are_kept_and_repaired_when_it_is_back(copy: Path, whole: Made) -> None:
    (copy / "g1" / "vectors-1.f32").write_bytes(bytes(7 * 4 * toy.DIMENSIONS))  # all are lost
    with away(whole):
        after = checked(str(copy), repair=True)
        assert len(after.missing) == after.images == len(whole.answers.records)
        assert (after.renewed, after.lost) == (0, [])
        with Collection(str(copy), toy_model()) as photos, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            stored = {image.id: image.metadata["caption"] for image in photos.get(list(whole.answers.records))}
        assert stored == {id: record[CAPTION] for id, record in whole.answers.records.items()}
        found, said = told(copy)
        assert (found.records, "left out of answers" in said) == ({}, True)
        (finding,) = checked(str(copy)).damage
        assert (finding.what, len(finding.ids)) == ("they have no vectors", after.images)
    back = checked(str(copy), repair=True)
    assert (back.renewed, back.missing, back.lost) == (len(whole.answers.records), [], [])
    assert not checked(str(copy)).findings
    again, said = told(copy)
    assert (again.hits, again.passing, said) == (whole.answers.hits, whole.answers.passing, "")
    assert {id: record[CAPTION] for id, record in again.records.items()} == stored


@pytest.mark.parametrize("text", ["003.png", "ID"])
def test_damaged_records_whose_files_are_away_are_kept_by_their_paths(copy: Path, whole: Made, text: str) -> None:
    database = copy / "g1" / "records.sqlite"
    wanted = text.replace("ID", next(iter(whole.answers.records)))
    change(database, database.read_bytes().find(wanted.encode()), 1)
    with away(whole):
        after = checked(str(copy), repair=True)
        assert (len(after.missing), after.lost, after.images) == (1, [], len(whole.answers.records))
    assert checked(str(copy), repair=True).missing == []
    assert told(copy)[0].records.keys() == whole.answers.records.keys()


def test_what_cannot_be_read_is_removed_where_that_is_asked_for(copy: Path, whole: Made) -> None:
    change(copy / "g1" / "vectors-1.f32", 4)
    with away(whole), Collection(str(copy), toy_model()) as photos:
        after = photos.check(repair=True, remove_missing=True)
        assert (after.missing, len(after.lost), after.renewed) == ([], 1, 0)
        assert after.images == len(whole.answers.records) - 1
    assert not checked(str(copy)).damage


def test_a_record_that_names_a_folder_or_another_image_is_not_read(copy: Path, whole: Made, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    toy.random_image(99, (24, 20)).save(other / "99.png")
    for path in (other, other / "99.png"):
        connection = sqlite3.connect(copy / "g1" / "records.sqlite")
        connection.execute(
            "UPDATE records SET path = ?, paths = ?, _checksum = NULL WHERE _position = 5",
            (str(path), json.dumps([str(path)])),
        )
        connection.commit()
        connection.close()
        vectors = next(copy.glob("g*/vectors-1.f32"))
        change(vectors, 5 * 4 * toy.DIMENSIONS + 2)
        copied = tmp_path / f"{path.name}.tandem"
        shutil.copytree(copy, copied)
        after = checked(str(copied), repair=True)
        assert (after.missing, after.images) == ([str(path)], len(whole.answers.records))
        change(vectors, 5 * 4 * toy.DIMENSIONS + 2)


@pytest.mark.parametrize("text", ["003.png", "picture 3", "ID"])
def test_a_damaged_record_is_left_out_and_repaired(copy: Path, whole: Made, text: str) -> None:
    """Of a path, a caption or an id: the record is not believed any more."""
    database = copy / "g1" / "records.sqlite"
    wanted = text.replace("ID", next(iter(whole.answers.records)))
    at = database.read_bytes().find(wanted.encode())
    assert at >= 0
    change(database, at, 1)
    found, said = told(copy)
    assert said
    assert all(whole.answers.records[id] == record for id, record in found.records.items())
    assert checked(str(copy)).damage
    assert checked(str(copy), repair=True).lost == []
    assert not checked(str(copy)).damage
    captions = {id: record[CAPTION] for id, record in answers(str(copy)).records.items()}
    assert captions == {id: record[CAPTION] for id, record in whole.answers.records.items()}


def test_damaged_thumbnails_are_made_again(copy: Path, whole: Made) -> None:
    database = copy / "g1" / "records.sqlite"
    at = database.read_bytes().find(b"JFIF")
    change(database, at)
    found, said = told(copy)
    assert "damaged thumbnails" in said
    assert [
        found.thumbnails[id] for id in found.thumbnails if found.thumbnails[id] != whole.answers.thumbnails[id]
    ] == [None]
    assert [finding.part for finding in checked(str(copy)).damage] == ["thumbnails"]
    checked(str(copy), repair=True)
    assert answers(str(copy)) == whole.answers


def test_a_file_cut_short_and_a_lost_name_are_repaired(copy: Path, whole: Made) -> None:
    vectors = copy / "g1" / "vectors-1.f32"
    vectors.write_bytes(vectors.read_bytes()[: 7 * 4 * toy.DIMENSIONS])
    (copy / "current").write_text("g0")
    with pytest.raises(StoreError):
        answers(str(copy))
    after = checked(str(copy), repair=True)
    assert after.lost == []
    assert after.renewed > IMAGES - 10
    assert told(copy)[0].hits == whole.answers.hits


def test_a_damaged_index_is_not_used_and_made_again(copy: Path, whole: Made) -> None:
    (index,) = (copy / "g1").glob("index-*.faiss")
    change(index, index.stat().st_size // 2)
    assert [finding.part for finding in checked(str(copy)).damage] == ["index"]
    assert answers(str(copy)).hits == whole.answers.hits
    checked(str(copy), repair=True)
    assert not checked(str(copy)).findings
    assert answers(str(copy)) == whole.answers


def test_notes_that_name_the_model_are_not_guessed(copy: Path) -> None:
    database = copy / "g1" / "records.sqlite"
    at = database.read_bytes().find(toy_model().fingerprint.encode())
    change(database, at, 1)
    with Collection(str(copy), toy_model()) as photos, pytest.raises(StoreError, match="notes are damaged"):
        photos.add([toy.random_image(1)])
    with pytest.raises(StoreError, match="restore the collection"):
        checked(str(copy), repair=True)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0, 1e20, 0.9])
def test_no_vector_is_stored_that_is_not_of_unit_length(copy: Path, bad: float) -> None:
    vector = np.zeros((1, toy.DIMENSIONS), np.float32)
    vector[0, 0] = bad
    with closing(backend(copy).open(write=True)) as store, pytest.raises(TandemError, match="vectors: expected"):
        store.upsert(Records(["x"], vector))


def test_vectors_of_an_earlier_version_are_judged_by_their_length(copy: Path, whole: Made) -> None:
    connection = sqlite3.connect(copy / "g1" / "records.sqlite")
    connection.execute("DELETE FROM vector_checksums")
    connection.commit()
    connection.close()
    vectors = copy / "g1" / "vectors-1.f32"
    content = bytearray(vectors.read_bytes())
    content[:4] = np.float32(np.nan).tobytes()
    vectors.write_bytes(content)
    found, said = told(copy)
    assert len(found.records) == len(whole.answers.records) - 1
    assert "vectors are damaged" in said


def test_any_changed_word_changes_the_checksum_of_its_row() -> None:
    for dimensions in (5, 8):
        rows = np.random.default_rng(0).standard_normal((3, dimensions)).astype(np.float32)
        before = checksums.of_vectors(rows)
        for word in range(dimensions):
            for bits in (1, 1 << 13, 1 << 31, 0xFFFFFFFF):
                changed = rows.copy()
                changed.view(np.uint32)[1, word] ^= np.uint32(bits)
                assert (checksums.of_vectors(changed) != before).tolist() == [False, True, False]
    swapped = rows[:, [1, 0, *range(2, dimensions)]].copy()
    assert (checksums.of_vectors(swapped) != before).all()
    assert checksums.of_vectors(np.ones((1, 4), np.float32)).tolist() == [16368158363403419648]  # stored: for ever


def test_rows_are_read_once_to_be_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.eye(8, dtype=np.float32)
    vector_file.append(tmp_path / "v.f32", 0, rows)
    sums = checksums.of_vectors(rows)
    file = vector_file.VectorFile(tmp_path / "v.f32", 8, lambda blocks: {0: sums})
    verified: list[int] = []
    original = checksums.of_vectors
    monkeypatch.setattr(checksums, "of_vectors", lambda rows: verified.append(len(rows)) or original(rows))
    np.testing.assert_array_equal(file.gather(np.array([1, 3])), rows[[1, 3]])
    np.testing.assert_array_equal(file.read(0, 8), rows)
    np.testing.assert_array_equal(file.gather(np.array([1, 3])), rows[[1, 3]])
    assert verified == [2, 6]


def test_sound_rows_stay_sound_while_another_thread_makes_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.eye(8, dtype=np.float32)[np.arange(600) % 8]
    vector_file.append(tmp_path / "v.f32", 0, rows)
    sums = checksums.of_vectors(rows)
    copied, grown, original = threading.Event(), threading.Event(), vector_file._grown

    def slowly(array: Any, length: int) -> Any:
        made = original(array, length)
        if threading.current_thread() is grower:
            copied.set()  # of checksums that are not there yet
            grown.wait(0.2)  # with the lock held, no one can write to the old arrays meanwhile
        return made

    def read(blocks: Sequence[int]) -> dict[int, Any]:
        if threading.current_thread() is not grower and not copied.is_set():
            grower.start()
            assert copied.wait(10)
        return {block: sums[block * checksums.ROWS : (block + 1) * checksums.ROWS] for block in blocks}

    file = vector_file.VectorFile(tmp_path / "v.f32", 8, read)
    grower = threading.Thread(target=lambda: file._grow(600))
    monkeypatch.setattr(vector_file, "_grown", slowly)
    file.gather(np.array([3, 400]))
    grower.join()
    assert len(file.sound(np.arange(300))) == 300


LEDGER_DAMAGE: dict[str, Any] = {
    "a path that is no text": "UPDATE files SET path = CAST(CAST(path AS BLOB) || x'ff' AS TEXT) WHERE id > ''",
    "a time that is no number": "UPDATE files SET mtime_ns = 'x' WHERE path LIKE '%001.png'",
    "a table gone": "DROP TABLE pending_removals",
}


@pytest.mark.parametrize("damage", LEDGER_DAMAGE)
def test_a_damaged_ledger_heals_itself(copy: Path, whole: Made, damage: str) -> None:
    ledger = copy / "g1" / "files.sqlite"
    connection = sqlite3.connect(ledger)
    connection.execute(LEDGER_DAMAGE[damage])
    connection.commit()
    connection.close()
    if "table" not in damage:
        assert problem_of(ledger) is not None
        assert [finding.part for finding in checked(str(copy)).damage] == ["ledger"]
    pictures = Path(whole.url).parent / "pictures"
    for _ in range(2):
        with Collection(str(copy), toy_model()) as photos, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            report = photos.add([pictures])
            assert (report.added, report.failures) == (0, [])
            assert photos.count() == len(whole.answers.records)
    assert problem_of(ledger) is None


@pytest.mark.parametrize("at", range(0, 100, 7))
def test_a_ledger_with_any_byte_of_its_first_page_changed_heals(tmp_path: Path, at: int) -> None:
    path = tmp_path / "l.sqlite"
    with Ledger.open(path):
        pass
    change(path, at)
    with Ledger.open(path) as ledger:
        ledger.set_about({"x": "y"})
        assert ledger.about("x") == "y"
