"""Files of every kind give the same samples; an index is made once and again when its file changes."""

import gzip
import json
import os
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from support import toy
from support.training_toys import (
    CAPTIONED,
    COLOURS,
    NAMED,
    NAMES,
    add,
    all_images,
    recipe,
    write_folder,
    write_parquet,
    write_table,
    write_tar,
)

from tandem import samples
from tandem.errors import DataError
from tandem.tokenizer import Tokenizer
from tandem.train.data import rows
from tandem.train.data.decoding import Images, decodable
from tandem.train.data.loader import Loader
from tandem.train.data.paths import expand_braces, source_files
from tandem.train.data.samples import BrokenSample, Samples
from tandem.train.recipe import Source


def opened(root: Path, **source: Any) -> Samples:
    chosen = recipe(root, {"per_batch": 4, **source}).data[0]
    return Samples(chosen, root, root / "cache")


def content(samples: Samples) -> dict[bytes, tuple[str, ...]]:
    return {samples.image(i): samples.texts(i) for i in range(len(samples))}


def test_captions_come_from_tars_plain_and_compressed_and_from_tables(tmp_path: Path) -> None:
    write_tar(tmp_path / "captions.tar")
    (tmp_path / "captions.tar.gz").write_bytes(gzip.compress((tmp_path / "captions.tar").read_bytes()))
    write_table(tmp_path / "captions.csv")
    write_table(tmp_path / "captions.tsv", "\t")
    from_tar = content(opened(tmp_path, path="captions.tar", text="captions"))
    assert list(from_tar) == all_images()
    assert [texts[0] for texts in from_tar.values()] == [f"{name} image {i} number 0" for i, name in enumerate(NAMES)]
    assert content(opened(tmp_path, path="captions.tar.gz", text="captions")) == from_tar
    from_csv = content(opened(tmp_path, path="captions.csv", text="title", image="filepath"))
    assert from_csv == content(opened(tmp_path, path="captions.tsv", text="title", image="filepath"))
    assert list(from_csv) == all_images()
    assert list(from_csv.values())[25] == ("a blue one, 25", "the blue one, 25")  # two lines, one image


def test_names_come_from_parquet_and_folders(tmp_path: Path) -> None:
    write_parquet(tmp_path / "names.parquet")
    write_folder(tmp_path / "images")
    from_parquet = opened(tmp_path, path="names.parquet", text="names", kind="names")
    assert from_parquet.names == [(name, f"{name} thing") for name in COLOURS]
    assert [from_parquet.names[from_parquet.label(i)][0] for i in range(40)] == NAMES
    assert list(content(from_parquet)) == all_images()
    from_folder = opened(tmp_path, path="images", kind="names")
    assert from_folder.names == [(f"{name} thing",) for name in sorted(COLOURS)]
    assert {p: (w[1],) for p, w in content(from_parquet).items()} == content(from_folder)


def test_paths_are_globs_braces_and_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(8, 12):
        write_tar(tmp_path / f"part-{i:02d}.tar", captions=1)
    found = [f"part-{i:02d}.tar" for i in range(8, 12)]
    for path in ("part-*.tar", "part-{08..11}.tar", ["part-{08,09}.tar", str(tmp_path / "part-1?.tar"), "part-11.tar"]):
        assert [file.name for file in source_files(Source(path), tmp_path)] == found
    several = opened(tmp_path, path="part-{08..11}.tar", text="captions")
    assert len(several) == 160
    assert [several.key(i) for i in (0, 40, 159)] == ["part-08.tar/000", "part-09.tar/000", "part-11.tar/039"]
    assert expand_braces("{1..3}-{a,b}") == ["1-a", "1-b", "2-a", "2-b", "3-a", "3-b"]
    assert expand_braces("{9..11}") == ["9", "10", "11"]
    digits = "1" * 5000
    monkeypatch.setattr(samples, "_MAX_FILES", 1000)
    for many in ("{0..999}" * 20, "{a,b}" * 21, "{0..1000}", f"{{{digits}..2}}", f"{{2..{digits}}}"):
        with pytest.raises(DataError, match=r"over 1,000 files|pairs of braces|does not count up") as error:
            expand_braces(many)
        assert len(str(error.value)) < 1000


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("part-{00..02}.tar", r"no such file .*part-01\.tar"),
        ("other-*.tar", r"other-\*\.tar: no such file below .*; set data_root"),
        ("{3..1}.tar", "does not count up"),
        ("{1}.tar", "expected {0000..0099} or {a,b}"),
        ("{0..9}{0..9999999}.tar", "does not count up, or too far"),
        ("part.txt", r"part\.txt: expected a tar, \.parquet, \.csv, \.tsv or a folder"),
        ("names.parquet", r"expected the columns image and text, found no 'text'"),
        ("table.csv", r"expected the columns image and text, found no 'image' among filepath, split, title; name them"),
        ("part-00.tar", r"no sample with an image and texts; .*/000 no text in text"),
        ("noise.tar", r"no sample with an image and texts.*cannot read it as a WebDataset tar"),
    ],
)
def test_what_cannot_be_a_training_set_is_refused_in_one_line(tmp_path: Path, path: str, message: str) -> None:
    write_tar(tmp_path / "part-00.tar")
    write_parquet(tmp_path / "names.parquet")
    write_table(tmp_path / "table.csv")
    (tmp_path / "part.txt").write_text("x")
    (tmp_path / "noise.tar").write_bytes(b"noise" * 500)
    with pytest.raises(DataError, match=message) as error:
        opened(tmp_path, path=path, text="text")
    assert "\n" not in str(error.value)


def test_messages_name_the_folder_that_a_bare_point_stands_for(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    with pytest.raises(DataError) as error:
        opened(photos, path=".", kind="names")
    assert str(error.value) == f"no such file or folder {photos}; set data_root=FOLDER"
    photos.mkdir()
    layout = "expected the layout FOLDER/class/1.jpg"
    with pytest.raises(DataError) as error:
        opened(photos, path=".", kind="names")
    assert str(error.value) == f"{photos}: no photos in folders that name their class; {layout}"
    (photos / "loose.jpg").write_bytes(all_images()[0])
    with pytest.raises(DataError) as error:
        opened(photos, path=".", kind="names")
    assert str(error.value) == (f"{photos}: no photos in folders that name their class; 1 lie loose; {layout}")


def test_photos_beside_the_folders_of_classes_are_skipped_by_name(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "images")
    (folder / "loose.jpg").write_bytes(all_images()[0])
    (folder / "notes.txt").write_text("x")
    samples = opened(folder, path=".", kind="names")
    assert (len(samples), samples.label_of_source) == (40, str(folder))
    assert list(samples.skipped()) == [("loose.jpg", "not in a folder that names its class")]


def test_a_broader_word_of_names_that_are_not_there_is_warned_of(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "images")

    def warnings(broader: dict[str, list[str]]) -> list[str]:
        source = {"path": ".", "kind": "names", "per_batch": 4, "broader": broader}
        return Loader(recipe(folder, source), Tokenizer.clip()).warnings()

    assert warnings({"warm": ["red thing"], "thing": ["*"]}) == []
    slips = {"warm": ["red thing", "reed thing"], "cold": ["blue", "reed thing"]}
    assert warnings(slips) == [f"warning: {folder}: broader: no image is named 'reed thing' and 1 more"]


def test_one_class_alone_is_warned_of(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "images")
    chosen = recipe(folder, {"path": ".", "kind": "names", "per_batch": 4})
    loader = Loader(chosen, Tokenizer.clip())
    assert (loader.warnings(), loader.classes()) == ([], [f"{name} thing" for name in sorted(COLOURS)])
    for name in sorted(COLOURS)[1:]:
        shutil.rmtree(folder / f"{name}_thing")
    loader = Loader(chosen, Tokenizer.clip())
    assert loader.warnings() == [f"warning: {folder}: one class only, 'blue thing': nothing to tell apart"]
    assert loader.classes() == ["blue thing"]


def test_an_index_is_made_once_and_again_when_the_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    indexed = []
    for name in ("tar_rows", "parquet_rows_of"):
        reader = getattr(rows, name)
        monkeypatch.setitem(
            __import__("tandem.train.data.index", fromlist=["_READERS"])._READERS,
            "tar" if name == "tar_rows" else "parquet",
            lambda path, source, reader=reader: indexed.append(path.name) or reader(path, source),
        )
    tar, parquet = write_tar(tmp_path / "captions.tar"), write_parquet(tmp_path / "names.parquet")
    both = [(CAPTIONED, 0), (NAMED, 2)]
    for _ in range(2):
        for source, _ in both:
            opened(tmp_path, **source)
    assert indexed == ["captions.tar", "names.parquet"]
    os.utime(parquet, ns=(1, 1))
    assert len(content(opened(tmp_path, **NAMED))) == 40
    reversed_images = all_images()[::-1]
    write_tar(tar, reversed_images)
    assert list(content(opened(tmp_path, **CAPTIONED))) == reversed_images
    assert indexed == ["captions.tar", "names.parquet", "names.parquet", "captions.tar"]
    opened(tmp_path, **{**CAPTIONED, "text": "captions", "kind": "names"})  # read otherwise: an index of its own
    assert indexed[-1] == "captions.tar"
    assert len(indexed) == 5


def test_a_new_image_in_a_folder_is_found(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "images")
    assert len(opened(tmp_path, path="images", kind="names")) == 40
    os.utime(folder / "red_thing", ns=(1, 1))
    (folder / "red_thing" / "deep").mkdir()
    Image.new("RGB", (4, 4)).save(folder / "red_thing" / "deep" / "new.PNG")
    assert len(opened(tmp_path, path="images", kind="names")) == 41


def test_what_can_never_be_drawn_is_named(tmp_path: Path) -> None:
    write_tar(tmp_path / "captions.tar")
    with tarfile.open(tmp_path / "captions.tar", "a") as tar:
        add(tar, "alone.png", all_images()[0])
        add(tar, "odd.png", all_images()[0])
        add(tar, "odd.json", b"{")
        add(tar, "none.png", all_images()[0])
        add(tar, "none.json", json.dumps({"captions": [" "]}).encode())
    skipped = dict(opened(tmp_path, path="captions.tar", text="captions").skipped())
    assert list(skipped) == ["captions.tar/alone", "captions.tar/odd", "captions.tar/none"]
    assert skipped["captions.tar/alone"] == "no captions beside the image"
    assert skipped["captions.tar/odd"].startswith("cannot read odd.json")
    table = pa.table({"image": [*all_images()[:3], None], "text": ["a", None, "", "d"]})
    pq.write_table(table, tmp_path / "some.parquet")
    some = opened(tmp_path, path="some.parquet", text="text")
    assert [some.key(i) for i in range(len(some))] == ["some.parquet#0"]
    assert [key for key, _ in some.skipped()] == ["some.parquet#1", "some.parquet#2", "some.parquet#3"]


def test_a_tar_that_breaks_off_gives_what_is_before(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar")
    with tarfile.open(tmp_path / "a.tar") as tar:
        inside, behind = tar.getmember("025.png").offset_data + 100, tar.getmember("025.png").offset
    (tmp_path / "b.tar").write_bytes((tmp_path / "a.tar").read_bytes()[:inside])
    (tmp_path / "c.tar").write_bytes((tmp_path / "a.tar").read_bytes()[:behind])
    found = opened(tmp_path, path="{a,b,c}.tar", text="captions")
    assert len(found) == 40 + 25 + 25
    assert content(found) == content(opened(tmp_path, path="a.tar", text="captions"))
    said = [(Path(key).name, reason) for key, reason in found.skipped()]
    assert [name for name, _ in said] == ["025", "b.tar", "c.tar"]
    assert said[0][1] == "no captions beside the image"
    assert "unexpected end of data" in said[1][1]
    assert "it ends at byte" in said[2][1]


def test_a_file_that_has_gone_or_shrunk_since_is_a_broken_sample(tmp_path: Path) -> None:
    write_table(tmp_path / "t.csv")
    table = opened(tmp_path, path="t.csv", text="title", image="filepath")
    (tmp_path / "files" / "3.png").unlink()
    with pytest.raises(BrokenSample, match="no such file"):
        table.image(3)
    write_tar(tmp_path / "captions.tar")
    tar = opened(tmp_path, **CAPTIONED)
    os.truncate(tmp_path / "captions.tar", 3000)
    assert tar.image(0) == all_images()[0]
    with pytest.raises(BrokenSample, match=r"captions\.tar ends in the middle"):
        tar.image(30)


def test_file_system_errors_are_retried_and_then_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another sample in its place would make a batch that no other run of the recipe has."""
    write_tar(tmp_path / "captions.tar")
    samples = opened(tmp_path, **CAPTIONED)
    refusals, read = [1, 1], os.pread
    monkeypatch.setattr("time.sleep", lambda _: None)

    def pread(file: int, size: int, at: int) -> bytes:
        if refusals and refusals.pop():
            raise OSError(5, "Input/output error")
        return read(file, size, at)

    monkeypatch.setattr(os, "pread", pread)
    assert samples.image(5) == all_images()[5]
    refusals += [1] * 100
    with pytest.raises(DataError, match=r"captions\.tar: cannot be read any more: Input/output error; start again"):
        samples.image(6)


def test_odd_strings_of_names_and_captions_survive(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "odd.tar", "w") as tar:
        add(tar, "gr\u00fcn/\udce9.png", all_images()[0])
        add(tar, "gr\u00fcn/\udce9.json", b'{"captions": ["half \\ud83d of it", "\\ud83d\\ude00 \\u0000"]}')
    odd = opened(tmp_path, path="odd.tar", text="captions")
    assert odd.key(0) == "odd.tar/gr\u00fcn/\udce9"
    assert odd.texts(0) == ("half ? of it", "\U0001f600 \0")
    assert toy.tokenizer()(list(odd.texts(0))).shape[0] == 2


def test_which_images_are_sound_is_found_out_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = all_images()
    images[3], images[30] = b"no image", images[30][:80]
    write_parquet(tmp_path / "names.parquet", images)
    samples = opened(tmp_path, **NAMED)
    found = decodable(samples)
    assert [i for i in range(40) if not found[i]] == [3, 30]
    monkeypatch.setattr(Samples, "image", lambda *_: pytest.fail("looked at again"))
    assert (decodable(samples) == found).all()


def test_images_are_rgb_and_upright(tmp_path: Path) -> None:
    image = Image.new("RGB", (6, 4), "red")
    exif = Image.Exif()
    exif[0x0112] = 6
    folder = tmp_path / "all" / "x"
    folder.mkdir(parents=True)
    image.save(folder / "a.jpg", exif=exif)
    Image.new("I;16", (4, 4), 65535).save(folder / "b.png")
    Image.new("RGBA", (4, 4), (9, 9, 9, 0)).save(folder / "c.png")
    decoded = Images(opened(tmp_path, path="all", kind="names"), keep=False)
    upright, grey, clear = (decoded.image(i, 4) for i in range(3))
    assert upright.size == (4, 6)
    assert {image.mode for image in (upright, grey, clear)} == {"RGB"}
    assert grey.getpixel((0, 0)) == (255, 255, 255)
