"""Where rows to score come from: tables, text files beside images, file names, folders of source images."""

import io
import json
from pathlib import Path

import pytest

from tandem.clip_score import sources
from tandem.clip_score.sources import Table, prompt_beside, prompt_in_name
from tandem.errors import DataError, ImageError


def write(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_a_csv_with_usual_columns(tmp_path: Path) -> None:
    table = Table(write(tmp_path / "p.csv", "file,prompt\nb/a.png,a cat\nhttp://x.org/c.png,two\n"))
    assert table.metrics == ("clip_score",)
    rows = list(table.rows())
    assert [(row.image, row.prompt) for row in rows] == [
        (str(tmp_path / "b/a.png"), "a cat"),
        ("http://x.org/c.png", "two"),
    ]
    assert rows[1].place.endswith("p.csv, line 3")


def test_json_lines_with_references_and_sources(tmp_path: Path) -> None:
    row = {
        "image": "a.png",
        "prompt": "a",
        "references": ["b", " ", "c"],
        "source_image": "d.png",
        "source_prompt": "e",
    }
    table = Table(write(tmp_path / "p.jsonl", json.dumps(row) + "\n"))
    assert set(table.metrics) == {"clip_score", "ref_clip_score", "image_similarity", "directional_similarity"}
    assert table.metrics[0] == "directional_similarity"
    (found,) = table.rows()
    assert found.references == ("b", "c")
    assert found.source_image == str(tmp_path / "d.png")
    assert found.source_prompt == "e"


def test_columns_of_other_names_and_references_in_a_cell(tmp_path: Path) -> None:
    path = write(tmp_path / "p.tsv", "where\twords\treferences\na.png\ta cat\tone | two\n")
    (row,) = Table(path, {"image": "where", "prompt": "words"}).rows()
    assert (row.prompt, row.references) == ("a cat", ("one", "two"))
    with pytest.raises(DataError, match="no column 'text'; found where, words, references"):
        Table(path, {"prompt": "text"})
    with pytest.raises(DataError, match="expected image, prompt"):
        Table(path, {"picture": "where"})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("file,prompt\n", "no rows"),
        ("file,size\na.png,3\n", "expected a column of prompts"),
        ("prompt,size\na cat,3\n", "expected a column of paths"),
        ("file,prompt\n,x\n", "expected the path of an image"),
    ],
)
def test_tables_that_are_refused(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(DataError, match=says):
        list(Table(write(tmp_path / "p.csv", text)).rows())


def test_a_path_that_leads_out_leaves_its_row_out(tmp_path: Path) -> None:
    table = Table(write(tmp_path / "p.csv", "file,prompt\na.png,x\n../b.png,y\nc.png,z\n"))
    rows = list(table.rows())
    assert [(row.prompt, row.error is None) for row in rows] == [("x", True), ("y", False), ("z", True)]
    assert "line 3: the path '../b.png' leads out of" in str(rows[1].error)


def test_a_row_with_an_empty_text_stays_with_the_reason(tmp_path: Path) -> None:
    path = write(tmp_path / "p.csv", "file,prompt,references\na.png,x,y\nb.png, ,y\nc.png,z,\n")
    rows = list(Table(path).rows())
    reasons = [row.error.reason if row.error else None for row in rows]
    assert reasons == [None, "no prompt: prompt is empty", "no references: references is empty"]
    lines = write(tmp_path / "p.jsonl", '{"image": "a", "prompt": "b"}\n{"image": "a"}\n{"image": "a", "prompt": 1}\n')
    found = Table(lines).rows()
    assert [row.error is None for row in (next(found), next(found))] == [True, False]
    with pytest.raises(DataError, match="line 3: expected a text in prompt, found 1"):
        next(found)


def test_references_that_are_no_texts(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", json.dumps({"image": "a", "prompt": "b", "references": [1]}))
    with pytest.raises(DataError, match="line 1: expected references as a list of texts"):
        list(Table(path).rows())


def test_prompts_beside_images(tmp_path: Path) -> None:
    write(tmp_path / "a.txt", "a cat\n on a mat \n")
    write(tmp_path / "empty.txt", " \n")
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe")
    assert prompt_beside(str(tmp_path / "a.png")) == "a cat on a mat"
    for name, says in (("b", "there is no b.txt"), ("empty", "is empty"), ("bytes", "cannot be read")):
        with pytest.raises(ImageError, match=says):
            prompt_beside(str(tmp_path / f"{name}.png"))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a_red_ball.png", "a red ball"),
        ("00012-2931-a photo of 3 cats.png", "a photo of 3 cats"),
        ("dog-in+snow_0003.webp", "dog in snow"),
        ("3 birds_01.jpg", "birds"),
    ],
)
def test_prompts_in_file_names(name: str, words: str) -> None:
    assert prompt_in_name(f"/x/{name}") == words


def test_a_name_without_words() -> None:
    with pytest.raises(ImageError, match="its name has no words"):
        prompt_in_name("/x/00012.png")


def test_source_images_and_rows_that_are_left_out(tmp_path: Path) -> None:
    for folder, names in (("edited", ("a.png", "b.png")), ("originals", ("a.jpg",))):
        (tmp_path / folder).mkdir()
        for name in names:
            (tmp_path / folder / name).touch()
    images = [str(tmp_path / "edited" / name) for name in ("a.png", "b.png")]
    find = sources.source_in(str(tmp_path / "originals"), str(tmp_path / "edited"))
    rows = list(sources.file_rows(images, prompt=lambda image: "x", source_image=find))
    assert [row.source_image for row in rows] == [str(tmp_path / "originals" / "a.jpg"), None]
    assert [row.prompt for row in rows] == ["x", "x"]
    assert rows[1].error is not None
    assert rows[1].error.reason == f"no source image: there is no b.png in {tmp_path / 'originals'}"


def test_an_open_file_has_no_name_to_read_a_prompt_from() -> None:
    image = io.BytesIO(b"")
    (row,) = sources.file_rows([image], prompt=prompt_in_name)
    assert "it has no file name" in str(row.error)
    (row,) = sources.file_rows([image], prompt=lambda image: "a cat", takes_any=True)
    assert row.prompt == "a cat"


def test_a_later_row_with_more_keys_is_refused(tmp_path: Path) -> None:
    rows = ({"image": "a", "prompt": "b"}, {"image": "a", "prompt": "b", "references": ["c"]})
    path = write(tmp_path / "p.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError, match="line 2: it has references, which the first row has not"):
        list(Table(path).rows())
