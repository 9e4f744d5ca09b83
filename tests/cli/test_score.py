"""`tandem score`: figures, files, sheets, and what it refuses."""

import csv
import json
from pathlib import Path

import pytest
from support import toy
from support.commands import Run, one_line


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Four images in a table, and a row whose image is not there."""
    toy.write_images(tmp_path, 4)
    path = tmp_path / "prompts.csv"
    rows = "".join(f"{i}.png,a cat number {i}\n" for i in range(4))
    path.write_text(f"file,prompt\n{rows}gone.png,nothing\n")
    return path


def test_a_table_with_a_missing_image(tandem: Run, table: Path, model_folder: str, tmp_path: Path) -> None:
    target, sheet = tmp_path / "out" / "scores.csv", tmp_path / "sheet.html"
    done = tandem("score", table, "--out", target, "--sheet", sheet, "--json", "--model", model_folder)
    assert done.code == 1
    document = done.json
    assert document["formulas"]["clip_score"].startswith("2.5 max(cos, 0)")
    figure = document["figures"]["clip_score"]
    assert figure["n"] == 4
    assert figure["interval"][0] <= figure["value"] <= figure["interval"][1]
    assert document["figures"]["clip_score_100"]["value"] == pytest.approx(40 * figure["value"], rel=1e-5)
    assert [each["error"] for each in document["failures"]] == ["no such file or folder"]
    with target.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["row"] for row in rows] == list("01234")
    assert rows[4]["error"] == "no such file or folder"
    assert rows[4]["clip_score"] == ""
    mean = sum(float(row["clip_score"]) for row in rows[:4]) / 4
    assert mean == pytest.approx(figure["value"], abs=1e-6)
    lowest = document["lowest"][0]
    assert list(lowest) == ["row", "image", "prompt", "cosine", "clip_score", "cut_tokens"]
    same = rows[lowest["row"]]
    assert (float(same["clip_score"]), float(same["cosine"])) == (lowest["clip_score"], lowest["cosine"])
    page = sheet.read_text()
    assert page.count("<img") == 4  # those that are lowest are not repeated
    assert "a cat number 3" in page


def test_figures_for_people_and_programs(tandem: Run, table: Path, model_folder: str) -> None:
    done = tandem("score", table, "--top", "1", "--model", model_folder)
    assert [row[0] for row in done.rows] == ["clip_score", "clip_score_100", "lowest", "highest"]
    assert "fit their own prompt better than another row's" in done.err
    assert "guessing: 50%" in done.err
    assert "skipped 1 of 5" in done.err


def test_folders_with_text_files_names_or_one_prompt(tandem: Run, model_folder: str, tmp_path: Path) -> None:
    first, second = toy.write_images(tmp_path / "x", 2)
    first.with_suffix(".txt").write_text("a cat")
    second.rename(second.with_name("a_dog_02.png"))
    options = ("--json", "--top", "9", "--model", model_folder)
    beside = tandem("score", tmp_path / "x", "--prompts-from", "sidecars", *options)
    assert (beside.code, [each["prompt"] for each in beside.json["lowest"]]) == (1, ["a cat"])
    assert "there is no a_dog_02.txt" in beside.json["failures"][0]["error"]
    names = tandem("score", tmp_path / "x", "--prompts-from", "names", *options)
    assert [each["prompt"] for each in names.json["lowest"]] == ["a dog"]
    one = tandem("score", tmp_path / "x", "--prompt", "a bird", *options)
    assert (one.code, one.json["figures"]["clip_score"]["n"]) == (0, 2)


def test_one_image_has_no_interval(tandem: Run, model_folder: str, tmp_path: Path) -> None:
    (image,) = toy.write_images(tmp_path, 1)
    done = tandem("score", image, "--prompt", "a cat", "--model", model_folder)
    assert done.rows[0][2:4] == ["", "1"]
    assert done.rows[1][2:4] == ["", "1"]


def test_a_row_that_leads_out_is_listed(tandem: Run, table: Path, model_folder: str) -> None:
    with table.open("a") as file:
        file.write("../x.png,out\n3.png,again\n")
    target = table.parent / "scores.csv"
    done = tandem("score", table, "--json", "--out", target, "--model", model_folder)
    assert (done.code, done.json["figures"]["clip_score"]["n"]) == (1, 5)
    with target.open() as rows:
        found = [(row["row"], row["prompt"], bool(row["error"])) for row in csv.DictReader(rows)]
    assert found[-3:] == [("4", "nothing", True), ("5", "out", True), ("6", "again", False)]
    assert sorted("leads out of" in each["error"] for each in done.json["failures"]) == [False, True]


def test_an_empty_prompt_is_listed_and_the_others_are_scored(tandem: Run, table: Path, model_folder: str) -> None:
    with table.open("a") as file:
        file.write("3.png,\n")
    target = table.parent / "scores.jsonl"
    done = tandem("score", table, "--json", "--out", target, "--model", model_folder)
    assert (done.code, done.json["figures"]["clip_score"]["n"]) == (1, 4)
    rows = [json.loads(line) for line in target.read_text().splitlines()]
    assert [(row["prompt"], row["cut_tokens"], row["error"]) for row in rows[3:]] == [
        ("a cat number 3", 0, ""),
        ("nothing", None, "no such file or folder"),
        (None, None, "no prompt: prompt is empty"),
    ]


def test_images_without_a_text_file_stand_in_out(tandem: Run, model_folder: str, tmp_path: Path) -> None:
    first, _ = toy.write_images(tmp_path / "x", 2)
    first.with_suffix(".txt").write_text("a cat")
    target = tmp_path / "scores.jsonl"
    done = tandem("score", tmp_path / "x", "--prompts-from", "sidecars", "--out", target, "--model", model_folder)
    assert done.code == 1
    assert "skipped 1 of 2" in done.err
    rows = [json.loads(line) for line in target.read_text().splitlines()]
    assert [(row["row"], bool(row["error"])) for row in rows] == [(0, False), (1, True)]


def test_edits(tandem: Run, model_folder: str, tmp_path: Path) -> None:
    toy.write_images(tmp_path / "edited", 3)
    for i in range(3):
        (tmp_path / "originals").mkdir(exist_ok=True)
        toy.random_image(i + 7).save(tmp_path / "originals" / f"{i}.png")
    beside = ("--source-images", tmp_path / "originals", "--json", "--model", model_folder)
    done = tandem("score", tmp_path / "edited", *beside, "--prompt", "a dog", "--source-prompt", "a cat")
    assert set(done.json["figures"]) >= {"directional_similarity", "image_similarity", "clip_score"}
    alone = tandem("score", tmp_path / "edited", *beside)
    assert set(alone.json["figures"]) == {"image_similarity"}
    assert alone.json["figures"]["image_similarity"] == done.json["figures"]["image_similarity"]


def test_references_and_texts_that_are_cut(tandem: Run, model_folder: str, tmp_path: Path) -> None:
    toy.write_images(tmp_path, 2)
    rows = [
        {"image": "0.png", "prompt": "do " * 200, "references": ["a cat"]},
        {"image": "1.png", "prompt": "a dog", "references": ["a dog", "do " * 200]},
    ]
    path = tmp_path / "p.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = tandem("score", path, "--model", model_folder)
    assert done.rows[0][0] == "ref_clip_score"
    assert "2 texts cut to the 77 tokens" in done.err
    assert "row 0:" in done.err
    refused = tandem("score", path, "--long", "error", "--model", model_folder)
    assert "tokens" in one_line(refused)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "say what to score"),
        (("x",), "no prompts: give a table"),
        (("nothere.csv",), "nothere.csv: expected a table, there is no such file"),
        (("x", "--prompt", "a", "--prompts-from", "names"), "cannot go together"),
        (("x", "--prompt", " "), "expected a text"),
        (("x", "--prompt", "a", "--columns", "image=a"), "goes with a table"),
        (("x", "--prompt", "a", "--source-prompt", "b"), "goes with --source-images"),
        (("x", "--prompt", "a", "--source-images", "nowhere"), "expected a folder"),
        (("x", "--prompt", "a", "--out", "s.txt"), "expected a name ending in .csv"),
        (("x", "--prompt", "a", "--sheet", "s.txt"), "expected a name ending in .html"),
        (("p.csv", "--prompt", "a"), "a table has its own columns"),
        (("p.csv", "x"), "a table goes alone"),
        (("p.csv", "--columns", "image"), "expected image=file,prompt=text"),
    ],
)
def test_what_is_refused(
    tandem: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], says: str
) -> None:
    toy.write_images(tmp_path / "x", 1)
    (tmp_path / "p.csv").write_text("file,prompt\nx/0.png,a\n")
    monkeypatch.chdir(tmp_path)
    assert says in one_line(tandem("score", *arguments))


def test_a_table_that_is_no_utf_8_names_its_line(tandem: Run, tmp_path: Path) -> None:
    toy.write_images(tmp_path, 2)
    path = tmp_path / "p.csv"
    path.write_bytes(b'file,prompt\n0.png,"two\nlines"\n1.png,\xe9t\xe9\n')
    assert "p.csv, line 4: expected text in UTF-8, found the byte 0xE9" in one_line(tandem("score", path))
    lines = tmp_path / "p.jsonl"
    lines.write_bytes(b'{"image": "0.png", "prompt": "a"}\n{"image": "1.png", "prompt": "\xe9"}\n')
    assert "p.jsonl, line 2: expected text in UTF-8" in one_line(tandem("score", lines))


def test_a_sheet_replaces_no_photo_that_a_table_or_a_folder_of_sources_names(tandem: Run, tmp_path: Path) -> None:
    for folder in ("", "edited", "originals"):
        toy.write_images(tmp_path / folder, 1)
    (tmp_path / "p.csv").write_text("file,prompt\n0.png,a cat\n")
    before = (tmp_path / "0.png").read_bytes()
    refused = tandem("score", tmp_path / "p.csv", "--sheet", tmp_path / "0.png")
    assert "it is an input, and would be lost" in one_line(refused)
    original = tmp_path / "originals" / "0.png"
    edits = ("score", tmp_path / "edited", "--source-images", tmp_path / "originals", "--sheet", original)
    assert "it is an input, and would be lost" in one_line(tandem(*edits))
    assert (tmp_path / "0.png").read_bytes() == before == original.read_bytes()


def test_in_a_terminal_of_80_columns_no_figure_and_no_formula_is_cut(
    tandem: Run, table: Path, model_folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    shown = tandem("score", table, "--model", model_folder).out
    assert "…" not in shown[: shown.index("lowest")]
    assert "with other prompts" in shown
    assert "CLIPScore: 2.5 max(cos, 0), Hessel et al. 2021\n" in shown
    assert "CLIPScore x 40: 100 max(cos, 0), as torchmetrics\n" in shown
