"""What is named -> what is looked at: kinds of sources, what is left out, the order, and captions that come along."""

import io
import json
import os
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import toy
from support.tars import tar_of

from tandem.errors import DataError, TandemError
from tandem.image import Limits
from tandem.search.indexing import entries, shards, sources
from tandem.search.indexing.entries import Entry, Excluded, Item, Shard, SkippedFile
from tandem.search.indexing.preparing import DecodeOptions, InFlight, prepare


def items(*named: str | Path, **options: object) -> list[Item]:
    with sources.find(named, **options) as found:  # type: ignore[arg-type]
        return list(found.items())


def names(found: Sequence[Item], root: Path) -> list[str]:
    return [os.path.relpath(item.path, root) for item in found]


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def test_a_folder_is_searched_in_sorted_order_without_what_is_hidden(tmp_path: Path) -> None:
    kept = ["10.jpg", "2.JPG", "a/b/deep.webp", "a/x.png", "p.mov", "z.heic"]
    touch(*(tmp_path / name for name in kept))
    touch(*(tmp_path / name for name in (".hidden.jpg", ".cache/y.jpg", "a/.git/z.jpg", "notes.txt", "s.tar", "p.ts")))
    found = items(tmp_path)
    assert names(found, tmp_path) == kept
    assert isinstance(found[4], Shard)  # a film
    photos = [item for item in found if item != found[4]]
    assert all(isinstance(item, Entry) and item.path == item.file and os.path.isabs(item.path) for item in photos)
    assert names(items(tmp_path), tmp_path) == kept  # and again the same


def test_links_that_lead_out_are_not_followed(tmp_path: Path) -> None:
    touch(tmp_path / "in/a.jpg", tmp_path / "out/b.jpg")
    (tmp_path / "in/inner.jpg").symlink_to("a.jpg")
    (tmp_path / "in/outer.jpg").symlink_to(tmp_path / "out/b.jpg")
    (tmp_path / "in/folder").symlink_to(tmp_path / "out")
    (tmp_path / "in/loop").symlink_to(tmp_path / "in")
    (tmp_path / "in/broken.jpg").symlink_to("nowhere.jpg")
    broken = SkippedFile(str(tmp_path / "in/broken.jpg"), "a link to a file that is not there")
    assert items(tmp_path / "in")[1] == broken
    (tmp_path / "in-besides").mkdir()
    touch(tmp_path / "in-besides/c.jpg")
    (tmp_path / "in/neighbour.jpg").symlink_to(tmp_path / "in-besides/c.jpg")
    (tmp_path / "in/broken.jpg").unlink()
    assert names(items(tmp_path / "in"), tmp_path) == ["in/a.jpg", "in/inner.jpg"]
    (tmp_path / "link").symlink_to(tmp_path / "in")  # one that was named is followed
    assert names(items(tmp_path / "link"), tmp_path) == ["link/a.jpg", "link/inner.jpg"]


def test_a_collection_inside_a_source_is_left_alone(tmp_path: Path) -> None:
    touch(tmp_path / "a.jpg", tmp_path / "photos.tandem/current", tmp_path / "photos.tandem/g1/x.jpg")
    touch(tmp_path / "other/current", tmp_path / "other/b.jpg")
    found = items(tmp_path, is_collection=lambda folder, names: folder.endswith(".tandem"))
    assert names(found, tmp_path) == ["a.jpg", "other/b.jpg"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.jpg", ["a.jpg", "b.jpg"]),
        ("?.jpg", ["a.jpg", "b.jpg"]),
        ("[a]*", ["a.jpg", "a.tar"]),
        ("*", ["2023/x.jpg", "2023/y/x.png", "2024/x.jpg", "a.jpg", "a.tar", "b.jpg", "t.parquet"]),
        ("*.dat", ["odd.dat"]),
        ("*.tar", ["a.tar"]),
        ("2023*", ["2023/x.jpg", "2023/y/x.png"]),
        ("20*/*.jpg", ["2023/x.jpg", "2024/x.jpg"]),
        ("**/x.*", ["2023/x.jpg", "2023/y/x.png", "2024/x.jpg"]),
        ("**/*.jpg", ["2023/x.jpg", "2024/x.jpg", "a.jpg", "b.jpg"]),
        ("2023/**", ["2023/x.jpg", "2023/y/x.png"]),
        ("**/y/*", ["2023/y/x.png"]),
        ("2023/*/*", ["2023/y/x.png"]),
        ("**/y/**", ["2023/y/x.png"]),
        ("2023?x.jpg", []),  # no wildcard stands for a slash
        ("2023[!a]x.jpg", []),
        ("**/y?x.png", []),
        ("202[34]/[!a].jpg", ["2023/x.jpg", "2024/x.jpg"]),
    ],
)
def test_globs(tmp_path: Path, pattern: str, expected: list[str]) -> None:
    touch(*(tmp_path / name for name in ("a.jpg", "b.jpg", "a.tar", "t.parquet", "odd.dat", "n.txt", ".h.jpg")))
    touch(*(tmp_path / name for name in ("2023/x.jpg", "2023/y/x.png", "2024/x.jpg", "2024/.z/x.jpg")))
    if not expected:
        with pytest.raises(TandemError, match="no image, tar or Parquet file matches"):
            items(tmp_path / pattern)
        return
    assert names(items(tmp_path / pattern), tmp_path) == expected
    with sources.find([tmp_path / pattern]) as found:
        assert [name for name in expected if not found.covers(str(tmp_path / name))] == []
        assert not found.covers(str(tmp_path.parent / "a.jpg"))
        assert found.covers(str(tmp_path / "c.jpg")) == (pattern in ("*.jpg", "?.jpg", "*", "**/*.jpg"))


def test_rules_leave_files_and_folders_out_as_git_does(tmp_path: Path) -> None:
    touch(
        *(
            tmp_path / name
            for name in ("a.jpg", "b.png", "keep.png", "raw/x.jpg", "sub/b.png", "sub/c.jpg", "sub/d.jpg")
        )
    )
    touch(tmp_path / "sub/raw/y.jpg", tmp_path / "sub/notes.txt")
    (tmp_path / ".tandemignore").write_text("# rules\n*.png\n!keep.png\n/raw/\n")
    (tmp_path / "sub/.tandemignore").write_text("!b.png\nd.*\n")
    found = items(tmp_path)
    assert names([item for item in found if isinstance(item, Entry)], tmp_path) == [
        *("a.jpg", "keep.png", "sub/b.png", "sub/c.jpg", "sub/raw/y.jpg"),
    ]
    excluded = [item for item in found if isinstance(item, Excluded)]
    assert names(excluded, tmp_path) == ["b.png", "raw", "sub/d.jpg"]
    kept = items(tmp_path, exclude=["raw", "a.*"])
    assert names([item for item in kept if isinstance(item, Entry)], tmp_path) == ["keep.png", "sub/b.png", "sub/c.jpg"]
    globbed = items(tmp_path / "**/*.jpg", exclude=["sub/"])
    assert names([item for item in globbed if isinstance(item, Entry)], tmp_path) == ["a.jpg"]
    assert [type(item) for item in items(tmp_path / "b.png", exclude=["*.png"])] == [Entry]  # it was named


def test_rules_that_leave_nothing_or_cannot_be_parsed_are_reported(tmp_path: Path) -> None:
    touch(tmp_path / "a.jpg", tmp_path / "b.jpg")
    with pytest.raises(TandemError, match=r"no images in this folder .*; 2 excluded by rule"):
        items(tmp_path, exclude=["*.jpg"])
    with pytest.raises(TandemError, match=r"exclude: .*expected patterns as in a \.gitignore"):
        items(tmp_path, exclude=["!"])
    (tmp_path / ".tandemignore").write_text("!\n")
    (skipped,) = items(tmp_path)  # what the rules leave out is not known: nothing of it is taken, others go on
    assert isinstance(skipped, SkippedFile)
    assert "its .tandemignore cannot be used" in skipped.reason
    assert "expected patterns as in a .gitignore" in skipped.reason


def test_what_cannot_be_a_source_is_refused_in_one_line_before_anything(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    touch(tmp_path / "texts/a.txt", tmp_path / "a.jpg")
    for named, says in (
        (tmp_path / "nowhere", "no such file or folder"),
        (tmp_path / "empty", "no images in this folder (looked for .avif"),
        (tmp_path / "texts", "no images in this folder"),
        (tmp_path / "*.gif", "matches"),
        ("https://example.org/a.jpg", "fetch the file"),
    ):
        kind = sources.SourceNotFoundError if named == tmp_path / "nowhere" else TandemError
        with pytest.raises(kind) as raised:
            items(tmp_path / "a.jpg", named)
        assert says in str(raised.value)
        assert str(named) in str(raised.value)
        assert "\n" not in str(raised.value)
    with pytest.raises(TandemError, match="nothing to index"):
        items()


def test_a_named_file_may_have_any_suffix_and_a_missing_one_in_a_list_is_skipped(tmp_path: Path) -> None:
    touch(tmp_path / "photo.dat", tmp_path / "dir/b.jpg", tmp_path / "with space .jpg")
    assert isinstance(items(tmp_path / "photo.dat")[0], Entry)
    lines = [
        str(tmp_path / "photo.dat"),
        "",
        str(tmp_path / "gone.jpg"),
        str(tmp_path / "dir"),
        f"{tmp_path}/with space .jpg",
    ]
    for separator in ("\n", "\r\n", "\0"):
        found = items("-", standard_input=io.BytesIO(separator.join(lines).encode()))
        assert names(found, tmp_path) == ["photo.dat", "gone.jpg", "dir/b.jpg", "with space .jpg"]
        gone = found[1]
        assert isinstance(gone, SkippedFile)
        assert gone.missing
        assert gone.reason == "no such file"


def test_a_name_that_is_not_utf8_is_skipped(tmp_path: Path) -> None:
    touch(tmp_path / "a.jpg")
    with open(os.fsencode(tmp_path) + b"/b\xff.jpg", "wb"):
        pass
    found = items(tmp_path)
    assert [type(item) for item in found] == [Entry, SkippedFile]
    assert found[1].path == f"{tmp_path}/b\\xff.jpg"
    assert found[1].reason.startswith("its name is not UTF-8")  # type: ignore[union-attr]


def test_a_folder_that_cannot_be_read_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path / "a.jpg", tmp_path / "locked/b.jpg", tmp_path / "z.jpg")
    scan = os.scandir

    def locked(path: str) -> object:
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(os, "scandir", locked)
    found = items(tmp_path)
    assert names(found, tmp_path) == ["a.jpg", "locked", "z.jpg"]
    assert found[1] == SkippedFile(str(tmp_path / "locked"), "permission denied")


# --- captions ------------------------------------------------------------------------------------------------------


def captions(found: Sequence[Item], key: str | None = None) -> list[str | None]:
    config = toy.config()
    options = DecodeOptions(config.preprocessing, Limits(), True, False, key)
    prepared = [prepare(item, options, lambda id: False, InFlight()) for item in found if isinstance(item, Entry)]
    assert [one.reason for one in prepared] == [None] * len(found)
    return [one.caption for one in prepared]


def test_a_source_inside_another_is_recognised(tmp_path: Path) -> None:
    touch(*(tmp_path / name for name in ("a/1.png", "a/sub/2.png", "ab/3.png", "ab/4.png")))

    def found(*names: str) -> tuple[bool, list[str]]:
        with sources.find([tmp_path / name for name in names]) as there:
            return there.are_apart, [os.path.relpath(prefix, tmp_path) for prefix in there.prefixes()]

    assert found("a", "ab") == (True, ["a", "ab"])
    assert found("a/sub", "ab", "a") == (False, ["a", "ab"])
    assert found("a", "a/*") == (False, ["a"])
    assert found("a", "a/1.png")[0] is False
    assert found("ab/3.png", "ab/4.png")[0] is True


def test_captions_beside_images(tmp_path: Path) -> None:
    toy.write_images(tmp_path, 5)
    (tmp_path / "0.txt").write_text("a cat\n\na black cat\n", encoding="utf-8")
    (tmp_path / "1.json").write_text(json.dumps({"id": 7, "captions": ["a dog", "a dog "], "de": "ein Hund"}))
    (tmp_path / "2.json").write_text(json.dumps({"id": 7}))
    (tmp_path / "3.json").write_text('{"text": "lone \\ud800 half"}')
    found = items(tmp_path)
    assert captions(found) == ["a cat\na black cat", "a dog", None, "lone ? half", None]
    assert captions(items(tmp_path, caption="de"), "de") == [None, "ein Hund", None, None, None]
    stamp = found[1].signature  # type: ignore[union-attr]
    (tmp_path / "1.json").write_text(json.dumps({"captions": "another"}))
    assert items(tmp_path)[1].signature != stamp  # type: ignore[union-attr]
    stamp = found[0].signature  # type: ignore[union-attr]
    os.utime(tmp_path / "0.txt", ns=(0, 0))  # written again, as long as before
    assert items(tmp_path)[0].signature != stamp  # type: ignore[union-attr]


def test_a_named_image_is_not_its_own_caption(tmp_path: Path) -> None:
    (tmp_path / "photo.txt").write_bytes(encoded(1))
    (entry,) = items(tmp_path / "photo.txt")
    assert isinstance(entry, Entry)
    assert entry.caption_file is None
    assert captions([entry]) == [None]


def test_a_caption_that_cannot_be_read_does_not_lose_the_image(tmp_path: Path) -> None:
    (image,) = toy.write_images(tmp_path, 1)
    (tmp_path / "0.json").write_text("{broken")
    (entry,) = items(image)
    assert isinstance(entry, Entry)
    options = DecodeOptions(toy.config().preprocessing, Limits(), True, False, None)
    one = prepare(entry, options, lambda id: False, InFlight())
    assert one.pixels is not None
    assert one.reason is None
    assert "0.json" in str(one.caption_reason)


# --- shards --------------------------------------------------------------------------------------------------------


def inside(path: Path, key: str | None = None) -> list[Entry]:
    (shard,) = items(path)
    assert isinstance(shard, Shard)
    found = list(shards.entries(shard, key))
    assert all(isinstance(entry, Entry) for entry in found)
    return [entry for entry in found if isinstance(entry, Entry)]


def encoded(seed: int) -> bytes:
    file = io.BytesIO()
    toy.random_image(seed).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_tars(tmp_path: Path, mode: str) -> None:
    members = {
        "./a/000.png": encoded(0),
        "./a/000.json": b'{"caption": "zero", "title": "null"}',
        "001.png": encoded(1),
        "001.txt": b"one",
        "v1.2/IMG.2023.png": encoded(2),
        "v1.2/IMG.2023.txt": b"two",
        "readme.md": b"# not an image",
        ".hidden.png": b"x",
        "003.png": b"",
    }
    path = tar_of(tmp_path / "s.tar", members, mode)
    found = inside(path)
    assert [entry.path for entry in found] == [
        f"{path}/{name}" for name in ("a/000.png", "001.png", "v1.2/IMG.2023.png", "003.png")
    ]
    assert [entry.caption for entry in found] == ["zero", "one", "two", None]
    assert [entry.caption for entry in inside(path, "title")] == ["null", None, None, None]
    options = DecodeOptions(toy.config().preprocessing, Limits(), True, False, None)
    prepared = [prepare(entry, options, lambda id: False, InFlight()) for entry in found]
    assert [one.reason for one in prepared] == [None, None, None, "empty: it has no bytes"]
    assert (shards.length(items(path)[0])) == 4  # type: ignore[arg-type]
    assert all(entries.shard_of(entry.path) == str(path) for entry in found)


def test_a_truncated_tar_gives_what_precedes_the_damage(tmp_path: Path) -> None:
    path = tar_of(tmp_path / "s.tar", {f"{i}.png": encoded(i) for i in range(4)})
    path.write_bytes(path.read_bytes()[: 512 * 9])
    (shard,) = items(path)
    assert isinstance(shard, Shard)
    found = shards.entries(shard)
    assert isinstance(next(found), Entry)
    with pytest.raises(DataError, match=r"s\.tar"):
        list(found)


def test_parquet(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    images = [encoded(0), encoded(1), None]
    pq.write_table(pa.table({"n": [1, 2, 3], "image": images, "text": ["zero", "one", "two"]}), path)
    found = inside(path)
    assert [entry.path for entry in found] == [f"{path}#{row}" for row in range(3)]
    assert [entry.caption for entry in found] == ["zero", "one", None]
    assert (found[1].content, found[2].broken) == (encoded(1), "this row has no image")
    assert entries.shard_of(found[0].path) == str(path)

    touch(tmp_path / "a b.png")
    nested = [{"bytes": encoded(0), "path": None}, {"bytes": None, "path": "a b.png"}]
    pq.write_table(pa.table({"image": nested, "captions": [["a", "b"], []]}), path)
    found = inside(path)
    assert (found[0].content, found[0].caption) == (encoded(0), "a\nb")
    assert found[1].path == str(tmp_path / "a b.png")

    pq.write_table(pa.table({"file_name": ["a b.png", "gone.png"], "de": ["x", "y"]}), path)
    (shard,) = items(path)
    assert isinstance(shard, Shard)
    assert shards.holds_paths(shard)
    there, gone = shards.entries(shard, "de")
    assert isinstance(there, Entry)
    assert there.caption == "x"
    assert isinstance(gone, SkippedFile)
    with pytest.raises(DataError, match="no column fr; there are file_name, de"):
        list(shards.entries(shard, "fr"))
    pq.write_table(pa.table({"n": [1]}), path)
    with pytest.raises(DataError, match=r"expected a column of images .* found n"):
        inside(path)


def test_gone_is_only_what_is_certainly_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tar_of(tmp_path / "s.tar", {"a.png": b"x"})
    assert not entries.is_gone(str(path))
    assert not entries.is_gone(f"{path}/a.png")
    assert entries.is_gone(f"{tmp_path}/other.tar/a.png")
    assert entries.is_gone(f"{tmp_path}/x.jpg")

    def denied(path: str) -> object:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "lstat", denied)
    assert not entries.is_gone(f"{tmp_path}/x.jpg")


def test_a_vanished_or_empty_root_is_not_there(tmp_path: Path) -> None:
    touch(tmp_path / "disk/a.jpg")
    with sources.find([tmp_path / "disk"]) as found:
        path = str(tmp_path / "disk/a.jpg")
        assert found.covers(path)
        assert found.is_there(path)
        (tmp_path / "disk/a.jpg").unlink()
        assert found.covers(path)
        assert not found.is_there(path)
        (tmp_path / "disk").rmdir()
        assert not found.is_there(path)
