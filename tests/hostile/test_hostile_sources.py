"""What is indexed may come from anybody: captions, tars, Parquet and files that are none are bounded and confined."""

import gzip
import io
import json
import os
import tarfile
import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import toy
from support.collection_toys import ToyEngine, run
from support.tars import tar_of

from tandem import samples, tar_files
from tandem.cli.indexing_report import echo_failures
from tandem.errors import DataError, EngineError, FilterError
from tandem.model import Model
from tandem.search.indexing import preparing, shards
from tandem.search.stores.backends import open_store
from tandem.search.stores.embedded import snapshots
from tandem.search.stores.filter_parser import LONGEST_PIECE, parse
from tandem.search.stores.protocol import Schema


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(3):
        toy.random_image(number, (24, 20)).save(folder / f"{number}.png")
    return folder


def captions(folder: Path) -> dict[str, Any]:
    store = open_store(str(folder / "c.tandem"))
    try:
        return {
            Path(str(some.row(row)["path"])).name: some.row(row)["caption"]
            for some in store.scan(vectors=False)
            for row in range(len(some))
        }
    finally:
        store.close()


def test_a_caption_is_a_regular_file_under_the_root(tmp_path: Path, pictures: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("a secret")
    (pictures / "0.txt").symlink_to(secret)
    os.mkfifo(pictures / "1.txt")
    (pictures / "own.txt").write_text("mine")
    (pictures / "2.txt").symlink_to(pictures / "own.txt")  # inside: fine
    os.mkfifo(pictures / ".tandemignore")
    assert run(tmp_path, pictures).added == 3
    assert captions(tmp_path) == {"0.png": None, "1.png": None, "2.png": "mine"}


def test_captions_of_files_that_are_named_are_confined_too(tmp_path: Path, pictures: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("a secret")
    (pictures / "0.txt").symlink_to(secret)
    os.mkfifo(pictures / "1.json")
    assert run(tmp_path, pictures / "0.png", pictures / "1.png").added == 2
    assert captions(tmp_path) == {"0.png": None, "1.png": None}


def test_pipes_are_never_opened(tmp_path: Path, pictures: Path) -> None:
    for name in ("a.png", "b.tar", "c.parquet"):
        os.mkfifo(pictures / name)
    done: list[Any] = []
    named = [pictures, *(pictures / name for name in ("b.tar", "c.parquet"))]
    thread = threading.Thread(target=lambda: done.append(run(tmp_path, *named)), daemon=True)
    thread.start()
    thread.join(20)
    assert done
    assert done[0].added == 3
    assert {Path(one.path).name: one.reason for one in done[0].failures} == dict.fromkeys(
        ("a.png", "b.tar", "c.parquet"), "not a regular file"
    )


def test_hostile_captions_cost_the_caption_only(tmp_path: Path, pictures: Path) -> None:
    (pictures / "0.json").write_text("[" * 200_000)
    (pictures / "1.txt").write_bytes(b"a" * (tar_files.MAX_TEXT_BYTES + 1))
    (pictures / "2.json").write_text('{"caption": ' + "9" * 5000 + "}")
    report = run(tmp_path, pictures)
    assert report.added == 3
    reasons = {Path(one.path).name: one.reason for one in report.failures}
    assert "nested too deeply" in reasons["0.png"]
    assert "more bytes than the limit" in reasons["1.png"]


def test_whatever_goes_wrong_with_one_image_is_counted(
    tmp_path: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors: list[BaseException] = [RecursionError("too deep"), MemoryError(), AssertionError("odd")]
    original = preparing.image_id

    def failing(content: bytes) -> str:
        if errors:
            raise errors.pop()
        return original(content)

    monkeypatch.setattr(preparing, "image_id", failing)
    toy.random_image(9, (24, 20)).save(pictures / "9.png")
    report = run(tmp_path, pictures)
    assert (report.added, len(report.failures)) == (1, 3)
    assert all("cannot be read: " in one.reason for one in report.failures)


class Picky(ToyEngine):
    """An engine that cannot compute one of the images."""

    def __init__(self, marked: float) -> None:
        super().__init__()
        self.marked = marked

    def encode_images(self, pixels: np.ndarray) -> np.ndarray:
        rows = super().encode_images(pixels)
        rows[[float(each.mean()) > self.marked for each in pixels]] = np.nan
        return rows


def test_an_image_without_a_vector_is_skipped_by_name(tmp_path: Path, pictures: Path) -> None:
    from PIL import Image

    Image.new("RGB", (24, 20), "white").save(pictures / "white.png")
    model = Model(toy.checkpoint(), Picky(200))  # type: ignore[arg-type]
    report = run(tmp_path, pictures, model=model)
    assert report.added == 3
    assert [Path(one.path).name for one in report.failures] == ["white.png"]
    (tmp_path / "other").mkdir()
    with pytest.raises(EngineError):  # of a model that fails with all, the run says so
        run(tmp_path / "other", pictures, model=Model(toy.checkpoint(), Picky(0)))  # type: ignore[arg-type]


# --- tars ------------------------------------------------------------------------------------------------------------


def png() -> bytes:
    file = io.BytesIO()
    toy.random_image(1, (24, 20)).save(file, "PNG")
    return file.getvalue()


def test_members_of_a_compressed_tar_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(tar_files.tar_members.__kwdefaults__, "max_bytes", 10_000)
    members = {"a.png": png(), "b.png": bytes(20_000), "a.txt": b"x" * (tar_files.MAX_TEXT_BYTES + 1), "c.txt": b"y"}
    found = {
        member.name: member.content
        for member in tar_files.tar_members(
            tar_of(tmp_path / "x.tar.gz", members, "w:gz"), (".txt",), if_compressed=(".png",)
        )
    }
    assert found == {"a.png": png(), "b.png": None, "a.txt": None, "c.txt": b"y"}
    report = run(tmp_path, tmp_path / "x.tar.gz")
    assert report.added == 1
    assert ["more bytes than the limit" in one.reason for one in report.failures] == [True]


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz"])
def test_a_tar_that_unfolds_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(tar_files, "UNFOLDED_BYTES", 100_000)
    path = tar_of(
        tmp_path / f"x.tar.{kind}", {"a.png": png(), "zeros.bin": bytes(3_000_000), "b.png": png()}, f"w:{kind}"
    )
    seen = []
    with pytest.raises(DataError, match="unfolds to more than"):
        seen += [member.name for member in tar_files.tar_members(path, (".png",))]
    plain = tar_of(tmp_path / f"y.tar.{kind}", {"a.png": png(), "b.png": png()}, f"w:{kind}")
    assert [member.content for member in tar_files.tar_members(plain, (".png",))] == [png(), png()]


def test_headers_that_claim_gigabytes_or_follow_each_other_are_refused(tmp_path: Path) -> None:
    long_name = tarfile.TarInfo("././@LongLink")
    long_name.type, long_name.size = tarfile.GNUTYPE_LONGNAME, 5 * 2**30
    path = tmp_path / "long.tar.gz"
    path.write_bytes(gzip.compress(long_name.tobuf() + bytes(2_000_000)))
    with pytest.raises(DataError, match="a header in it says"):
        list(tar_files.tar_members(path))
    long_name.size = 1
    path.write_bytes(gzip.compress((long_name.tobuf() + b"a" + bytes(511)) * 3000))
    with pytest.raises(DataError, match="cannot read it"):
        list(tar_files.tar_members(path))


def test_a_sample_without_end_comes_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar_files, "MAX_GROUP", 3)
    monkeypatch.setattr(tar_files, "MAX_GROUP_BYTES", 100)
    tiny = [tar_files.TarMember(f"a.{number}", 0, 1, b"x") for number in range(7)]
    assert [len(group) for group in tar_files.tar_groups(tiny)] == [3, 3, 1]
    large = [tar_files.TarMember(f"a.{number}", 0, 1, b"x" * 101) for number in range(3)]
    assert [len(group) for group in tar_files.tar_groups(large)] == [1, 1, 1]


def test_a_tar_of_very_many_images_of_no_bytes_is_read_no_further(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "MOST_TINY", 3)
    empty = {f"{number}.png": b"" for number in range(9)}
    path = tar_of(tmp_path / "x.tar", {"first.png": png(), "a.txt": b"", **empty, "last.png": png()})
    report = run(tmp_path, path)
    assert report.added == 1
    assert [Path(one.path).name for one in report.failures] == ["0.png", "1.png", "x.tar"]
    assert "more than 3 of its images have fewer than 20 bytes" in report.failures[-1].reason
    again = tar_of(tmp_path / "y.tar", {"first.png": png(), **dict(list(empty.items())[:3]), "a.png": png()})
    assert run(tmp_path, again).failures[-1].path != str(again)


# --- Parquet ---------------------------------------------------------------------------------------------------------


def parquet(path: Path, columns: dict[str, list[Any]], **more: Any) -> Path:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table(columns), path, **more)
    return path


@pytest.mark.parametrize("options", [{"compression": "zstd"}, {"compression": "gzip", "use_dictionary": False}])
def test_parquet_pages_are_measured_before_they_are_unfolded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    monkeypatch.setattr("tandem.parquet_pages.SMALL_BYTES", 2**20)
    path = parquet(tmp_path / "bomb.parquet", {"image": [bytes(8 * 2**20)]}, **options)
    assert path.stat().st_size < 2**18
    with pytest.raises(DataError, match=r"bytes of its column image unfold to 8,\d\d\d,\d\d\d"):
        list(samples.parquet_rows(path, ["image"]))
    with pytest.raises(DataError, match="unfold to"):
        list(samples.parquet_cells(path, "image", [0]))


def test_one_value_of_many_rows_is_decoded_a_few_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow.parquet

    content = np.random.default_rng(0).bytes(3 * 2**20)
    path = parquet(tmp_path / "same.parquet", {"image": [content] * 40, "text": ["x"] * 40})
    asked: list[int] = []
    original = pyarrow.parquet.ParquetFile.iter_batches

    def watched(self: Any, rows: int, **more: Any) -> Any:
        asked.append(rows)
        return original(self, rows, **more)

    monkeypatch.setattr("tandem.parquet_pages.BATCH_BYTES", 10 * 2**20)
    monkeypatch.setattr(pyarrow.parquet.ParquetFile, "iter_batches", watched)
    assert sum(1 for _ in samples.parquet_rows(path, ["image", "text"])) == 40
    assert asked == [3]
    assert len(list(samples.parquet_rows(path, ["text"]))) == 40
    assert asked == [3, samples.ROWS_BATCH]


def test_more_rows_than_bytes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = parquet(tmp_path / "rows.parquet", {"text": ["x"] * 50_000})
    monkeypatch.setattr("tandem.parquet_pages.ROWS", 1000)
    with pytest.raises(DataError, match="says that it has 50,000 rows"):
        next(iter(samples.parquet_rows(path, ["text"])))


def test_parquet_with_pages_of_every_kind_is_read(tmp_path: Path) -> None:
    rows = {"image": [bytes([number % 7]) * 3000 for number in range(500)], "text": [str(i) for i in range(500)]}
    for number, options in enumerate(
        (
            {"data_page_version": "2.0"},
            {"compression": "none", "use_dictionary": False},
            {"row_group_size": 50, "write_statistics": True, "data_page_size": 1000},
            {"write_page_index": True, "compression": "brotli"},
        )
    ):
        path = parquet(tmp_path / f"{number}.parquet", rows, **options)
        assert [row["image"] for row in samples.parquet_rows(path, ["image", "text"])] == rows["image"]
        assert list(samples.parquet_cells(path, "text", [3, 499])) == ["3", "499"]


def test_a_folder_whose_rules_cannot_be_used_is_skipped_and_the_others_are_not(tmp_path: Path, pictures: Path) -> None:
    bad, deep = tmp_path / "bad", pictures / "deep"
    for number, folder in enumerate((bad, deep)):
        folder.mkdir()
        toy.random_image(10 + number, (24, 20)).save(folder / "0.png")
        (folder / ".tandemignore").write_text("a\n" * 600_000)
    report = run(tmp_path, bad, pictures)
    assert report.added == 3
    reason = "its .tandemignore cannot be used (more than 1,048,576 bytes of patterns)"
    assert [(one.path, one.reason) for one in report.failures] == [(str(bad), reason), (str(deep), reason)]


def test_a_photo_whose_caption_cannot_be_read_is_not_called_skipped(
    tmp_path: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (pictures / "1.json").write_text("[" * 5000)
    (pictures / "broken.png").write_bytes(b"x")
    for _ in range(2):
        report = run(tmp_path, pictures)
        echo_failures([one for one in report.failures if one.added])
        said = capsys.readouterr().err
        assert "1 photo without a caption" in said
        assert "skipped" not in said
        assert [Path(one.path).name for one in report.failures if not one.added] == ["broken.png"]


def test_a_page_header_with_a_list_without_end_is_refused(tmp_path: Path) -> None:
    import pyarrow.parquet

    path = parquet(tmp_path / "list.parquet", {"image": [b"a" * 2000] * 50}, compression="none", use_dictionary=False)
    with pyarrow.parquet.ParquetFile(path) as file:
        at = file.metadata.row_group(0).column(0).data_page_offset
    content = bytearray(path.read_bytes())
    header = b"\x19\xf3" + b"\x80" * 8 + b"\x40"  # a list of 2**62 bytes
    content[at : at + len(header)] = header
    path.write_bytes(content)
    with pytest.raises(DataError, match="has no header"):
        list(samples.parquet_rows(path, ["image"]))


def test_parquet_names_files_of_its_own_folder_only(tmp_path: Path, pictures: Path) -> None:
    outside = tmp_path / "outside.png"
    toy.random_image(7, (24, 20)).save(outside)
    (pictures / "link.png").symlink_to(outside)
    names = ["0.png", str(pictures / "1.png"), "../outside.png", str(outside), "link.png"]
    table = parquet(pictures / "t.parquet", {"path": names})
    report = run(tmp_path, table)
    assert report.added == 2
    assert [one.path.rpartition("#")[2] for one in report.failures] == ["2", "3", "4"]
    assert all("is outside of its folder: --any-path reads it" in one.reason for one in report.failures)
    (tmp_path / "b").mkdir()
    assert run(tmp_path / "b", table, any_path=True).added == 3


# --- filters ---------------------------------------------------------------------------------------------------------


def test_patterns_on_long_texts_are_bounded(tmp_path: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    schema = Schema(4, {"path": "text"})
    with pytest.raises(FilterError, match="401 characters after"):
        parse(f"path like '%{'a' * (LONGEST_PIECE + 1)}%'", schema)
    parse(f"path like '{'a' * 5000}%{'a' * LONGEST_PIECE}'", schema)
    for number in range(3):
        (pictures / f"{number}.txt").write_text("a" * 50_000)
    run(tmp_path, pictures)
    store = open_store(str(tmp_path / "c.tandem"))
    for pattern in ("%a%a%a%b", f"%{'a' * LONGEST_PIECE}b", f"%{'a_' * (LONGEST_PIECE // 2)}b", "%a%b%c%" * 50):
        for like in ("like", "ilike"):
            assert store.count(f"caption {like} '{pattern[: pattern.rfind('%') + LONGEST_PIECE + 1]}'") in (0, 3)
    monkeypatch.setattr(snapshots, "FILTER_S", -1)
    with pytest.raises(FilterError, match="takes longer than"):
        store.count("id in (" + ", ".join(f"'{number}'" for number in range(5000)) + ") or caption like '%zz%'")
    store.close()


def test_json_documents_of_captions_are_bounded() -> None:
    assert samples.captions_in(json.dumps({"caption": "x"}).encode(), ".json") == ("x",)
    for content in (b"[" * 100_000, b'{"a":' * 100_000, b" " * (tar_files.MAX_TEXT_BYTES + 1)):
        with pytest.raises(ValueError, match=r"nested too deeply|more bytes than the limit"):
            samples.captions_in(content, ".json")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert samples.captions_in(b'{"caption": NaN}', ".json") == ()
