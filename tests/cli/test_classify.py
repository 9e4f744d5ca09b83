"""`tandem classify`, and what the photos and labels of a command line mean."""

import errno
import os
import shlex
from pathlib import Path

import pytest
from support import toy
from support.commands import COMMAND, Run, one_line, run_in_terminal, widest

from tandem import prompts
from tandem.cli.options.images import find_images
from tandem.errors import TandemError
from tandem.model import load
from tandem.scores.scoring import digits


def test_classify_json_is_the_answer(tandem: Run, model_folder: str, photos: list[str]) -> None:
    outcome = tandem("classify", *photos, "--labels", "cat,dog,car", "--model", model_folder, "--json")
    assert outcome.code == 0
    assert outcome.json == load(model_folder).classify(photos, ["cat", "dog", "car"]).as_dict()


@pytest.mark.slow
def test_classify_by_labels_in_a_language(tandem: Run, model_folder: str, photos: list[str], tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    table.write_text("en,de\ndog,Hund\ncat,Katze\n", encoding="utf-8")
    command = ("classify", *photos, "--model", model_folder, "--json", "--labels-file", table)
    model = load(model_folder)
    german = tandem(*command, "--language", "de").json
    assert german["labels"] == ["dog", "cat"]
    expected = model.classify(photos, ["Hund", "Katze"], templates="ein Foto von {}.")
    assert [list(row["logits"].values()) for row in german["results"]] == [
        list(row["logits"].values()) for row in expected.as_dict()["results"]
    ]
    assert tandem(*command).json == model.classify(photos, ["dog", "cat"]).as_dict()
    assert "'dog' has no text in the language 'fr'" in one_line(tandem(*command, "--language", "fr"))
    assert "goes alone" in one_line(tandem(*command, "--labels", "bird"))
    ensemble = tandem(
        "classify",
        *photos,
        "--model",
        model_folder,
        "--json",
        "--labels",
        "Hund,Katze",
        "--language",
        "de",
        "--ensemble",
    )
    assert ensemble.json == model.classify(photos, ["Hund", "Katze"], templates=prompts.templates("de")).as_dict()


def test_classify_skips_failures_and_goes_on(tandem: Run, model_folder: str, photos: list[str], tmp_path: Path) -> None:
    note = tmp_path / "note.jpg"
    note.write_text("hello")
    command = ("classify", photos[0], note, "gone.jpg", photos[1], "--labels", "cat,dog", "--model", model_folder)
    outcome = tandem(*command)
    assert outcome.code == 1
    assert photos[0] in outcome.out
    assert photos[1] in outcome.out
    assert "skipped 2 of 4" in outcome.err
    assert str(note) in outcome.err
    assert "gone.jpg" in outcome.err
    document = tandem(*command, "--json")
    assert document.code == 1
    assert [result["image"] for result in document.json["results"]] == photos[:2]
    assert [failure["image"] for failure in document.json["failures"]] == [str(note), "gone.jpg"]


def test_one_bad_photo_is_one_line(tandem: Run, model_folder: str) -> None:
    assert "gone.jpg" in one_line(tandem("classify", "gone.jpg", "--labels", "cat,dog", "--model", model_folder))


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_classify_shows_bars_for_a_few_and_lines_for_many(model_folder: str, tmp_path: Path, columns: int) -> None:
    labels = ["cat", "寿司の写真がたくさんある図書館の本棚", "a very long label about a car in the street at night"]
    options = ("--labels", ",".join(labels), "--model", model_folder)
    few = toy.write_images(tmp_path / "少ない写真", 2)
    shown = run_in_terminal("classify", *few, *options, "--top", "2", columns=columns).out
    assert widest(shown) <= columns
    assert shown.count("%") == 4
    answer = load(model_folder).classify(few, labels)
    for source, best in zip(answer.sources, answer.top(2), strict=True):
        after = shown[shown.index(Path(source).name) :]
        assert after.index(f"{best[0][1]:.1%}") < after.index(f"{best[1][1]:.1%}")
    many = toy.write_images(tmp_path / "many" / ("長い名前" * 10), 12)
    shown = run_in_terminal("classify", tmp_path / "many", *options, columns=columns).out
    assert widest(shown) <= columns
    lines = [line for line in shown.splitlines() if "%" in line]
    assert len(lines) == len(many)
    assert all(Path(photo).name in line for photo, line in zip(sorted(many, key=str), lines, strict=True))


def test_piped_a_line_is_photo_label_and_probability(tandem: Run, model_folder: str, photos: list[str]) -> None:
    rows = tandem("classify", *photos, "--labels", "cat,a dog", "--top", "2", "--model", model_folder).rows
    answer = load(model_folder).classify(photos, ["cat", "a dog"])
    expected = [
        [photo, label, digits(probability)]
        for photo, best in zip(photos, answer.top(2), strict=True)
        for label, probability in best
    ]
    assert rows == expected


def test_a_single_label_with_other_separators_is_told_of_commas(
    tandem: Run, model_folder: str, photos: list[str]
) -> None:
    command = ("classify", *photos, "--model", model_folder, "--labels")
    assert "labels are separated by commas" in tandem(*command, "Hund;Katze").err
    one = tandem(*command, "Hund").err
    assert "single label" in one
    assert "commas" not in one


@pytest.mark.slow
def test_labels_by_themselves(tandem: Run, model_folder: str, photos: list[str], tmp_path: Path) -> None:
    """A single one is enough then; a model that cannot is refused in one line."""
    model = toy.folder(tmp_path / "pairs", logit_bias=True)
    command = ("classify", *photos, "--labels", "cat", "--model", model)
    alone = tandem(*command, "--independent")
    assert "single label" not in alone.err
    expected = load(model).classify(photos, ["cat"], independent=True)
    assert [row[1:] for row in alone.rows] == [["cat", digits(share)] for share in expected.probabilities[:, 0]]
    assert tandem(*command, "--independent", "--json").json["scoring"] == "sigmoid"
    assert tandem(*command, "--json").json["scoring"] == "softmax"
    refused = one_line(tandem("classify", *photos, "--labels", "a,b", "--model", model_folder, "--independent"))
    assert "cannot judge a label by itself" in refused
    assert f"tandem calibrate captions.parquet --model {shlex.quote(model_folder)}" in refused
    assert "%" in run_in_terminal(*command, "--independent", columns=80).out


@pytest.mark.slow
def test_notes_are_as_wide_as_the_terminal_though_results_are_piped(model_folder: str, photos: list[str]) -> None:
    gone = [f"photos/that/are/not/there/and/have/long/names-{n}.jpg" for n in range(2)]
    command = [*COMMAND, "classify", *photos, *gone, "--labels", "cat,dog", "--model", model_folder]
    shown = run_in_terminal(*("-c", f"{shlex.join(command)} | cat > /dev/null"), columns=60, program=["bash"]).out
    assert "names-1.jpg:" in shown
    assert widest(shown) <= 60


def test_an_unreadable_folder_is_skipped_by_name(
    tandem: Run, model_folder: str, photos: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    locked = Path(photos[0]).parent / "locked"
    locked.mkdir()
    scandir = os.scandir

    def forbidden(path: str | int = ".") -> object:  # root may read every folder
        if not isinstance(path, int) and os.fspath(path) == str(locked):
            raise PermissionError(errno.EACCES, "Permission denied", str(locked))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", forbidden)
    outcome = tandem("classify", locked.parent, "--labels", "cat,dog", "--model", model_folder)
    assert outcome.code == 1
    assert "skipped 1 of 4" in outcome.err
    assert f"{locked}: permission denied" in outcome.err
    command = ("classify", locked.parent, "--labels", "cat,dog", "--model", model_folder, "--json")
    assert [failure["image"] for failure in tandem(*command).json["failures"]] == [str(locked)]
    assert f"{locked}: permission denied" in one_line(tandem("classify", locked, *command[2:]))


def test_labels_from_a_file_and_templates(tandem: Run, model_folder: str, photos: list[str], tmp_path: Path) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("cat\n\n dog, or wolf \n")
    command = ("classify", photos[0], "--labels-file", labels, "--model", model_folder, "--json")
    model = load(model_folder)
    plain = tandem(*command).json
    assert plain["labels"] == ["cat", "dog, or wolf"]
    two = tandem(*command, "--template", "a {}", "--template", "{} there").json
    expected = model.classify(photos[0], ["cat", "dog, or wolf"], templates=["a {}", "{} there"]).as_dict()
    assert two == expected
    assert two["results"] != plain["results"]
    ensemble = tandem(*command, "--ensemble").json
    assert ensemble["results"] not in (plain["results"], two["results"])


def test_labels_that_cannot_be(tandem: Run, model_folder: str, photos: list[str], tmp_path: Path) -> None:
    start = ("classify", photos[0], "--model", model_folder)
    assert "no labels" in one_line(tandem(*start))
    assert "twice" in one_line(tandem(*start, "--labels", "cat,dog,cat"))
    assert "gone.txt" in one_line(tandem(*start, "--labels-file", tmp_path / "gone.txt"))
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    assert "UTF-8" in one_line(tandem(*start, "--labels-file", tmp_path / "binary"))
    assert "{}" in one_line(tandem(*start, "--labels", "a,b", "--template", "no slot"))


def test_classify_plot(tandem: Run, model_folder: str, photos: list[str], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    image = tmp_path / "answer.png"
    outcome = tandem("classify", *photos, "gone.jpg", "--labels", "a,b", "--model", model_folder, "--plot", image)
    assert outcome.code == 1
    assert image.read_bytes().startswith(b"\x89PNG")
    one_line(tandem("classify", *photos, "--labels", "a,b", "--model", model_folder, "--plot", "answer.txt"))


@pytest.mark.parametrize("between", ["\n", "\n\n", "\0", "\r\n"])
def test_photos_from_standard_input(tandem: Run, model_folder: str, photos: list[str], between: str) -> None:
    listed = f"{photos[1]}{between}{photos[0]}{between}".encode()
    outcome = tandem("classify", "-", "--labels", "a,b", "--model", model_folder, "--json", stdin=listed)
    assert [result["image"] for result in outcome.json["results"]] == [photos[1], photos[0]]


@pytest.mark.parametrize("listed", [b"", b"\n \n", b"\0"])
@pytest.mark.parametrize("command", ["classify", "embed"])
def test_an_empty_list_is_one_line(tandem: Run, model_folder: str, listed: bytes, command: str) -> None:
    options = {"classify": ("--labels", "a,b"), "embed": ("--json",)}[command]
    assert "empty" in one_line(tandem(command, "-", *options, "--model", model_folder, stdin=listed))


def test_a_photo_on_standard_input_is_read(tandem: Run, model_folder: str, photos: list[str], tmp_path: Path) -> None:
    content = Path(photos[0]).read_bytes()
    command = ("classify", "-", "--labels", "a,b", "--model", model_folder)
    document = tandem(*command, "--json", stdin=content).json
    expected = load(model_folder).classify(photos[:1], ["a", "b"]).as_dict()["results"][0]
    assert document["results"] == [expected | {"image": "<stdin>"}]
    assert "<stdin>" in one_line(tandem(*command, stdin=b"\x89PNG\r\n\x1a\n and no more"))
    drawn = tmp_path / "answer.png"
    assert tandem(*command, "--plot", drawn, stdin=content).code == 0
    assert drawn.read_bytes().startswith(b"\x89PNG")


def test_labels_from_standard_input(tandem: Run, model_folder: str, photos: list[str]) -> None:
    command = ("classify", photos[0], "--labels-file", "-", "--model", model_folder, "--json")
    assert tandem(*command, stdin="cat\0図書館\0".encode()).json["labels"] == ["cat", "図書館"]


def images_of(arguments: list[str]) -> list[object]:
    return list(find_images(arguments).images)


def test_what_a_folder_and_a_glob_mean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy.write_images(tmp_path / "deep" / "er", 1)
    toy.write_images(tmp_path / ".hidden", 1)
    (tmp_path / "UPPER.JPG").write_bytes(b"")
    (tmp_path / "notes.txt").write_bytes(b"")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    assert images_of(["."]) == ["./UPPER.JPG", "./deep/er/0.png"]
    assert images_of(["deep/**/*.png", "deep/er/0.png"]) == ["deep/er/0.png"]
    assert images_of(["notes.txt", "gone.jpg", "https://example.org/a?b=[1]"]) == [
        "notes.txt",
        "gone.jpg",
        "https://example.org/a?b=[1]",
    ]
    (tmp_path / "a[1].png").write_bytes(b"")
    assert images_of(["a[1].png"]) == ["a[1].png"]
    for nothing in ("empty", "*.tiff"):
        with pytest.raises(TandemError, match=nothing.replace("*", r"\*")):
            images_of([nothing])


@pytest.mark.slow
def test_what_a_rule_excludes_is_left_out_and_counted(tandem: Run, model_folder: str, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    for name in (".", "thumbs", "deep/thumbs", "deep"):
        toy.write_images(folder / name, 2)
    options = ("--labels", "a,b", "--model", model_folder, "--json")
    outcome = tandem("classify", folder, "--exclude", "thumbs/", "--exclude", "/0.png", *options)
    found = [str(Path(result["image"]).relative_to(folder)) for result in outcome.json["results"]]
    assert found == ["1.png", "deep/0.png", "deep/1.png"]
    assert "3 files and folders excluded by rule" in outcome.err
    (folder / "deep" / ".tandemignore").write_text("*.png\n!1.png\nthumbs\n")
    embedded = tandem("embed", folder, "--json", "--model", model_folder, "--exclude", "/thumbs").json
    assert [str(Path(each["id"]).relative_to(folder)) for each in embedded["results"]] == [
        "0.png",
        "1.png",
        "deep/1.png",
    ]
    indexed = tandem("index", folder, "--to", tmp_path / "c.tandem", "--model", model_folder, "--exclude", "/thumbs")
    assert "2 photos; 2 added, 1 duplicate" in indexed.out
    assert "excluded by rule" in indexed.out
    assert "excluded by rule" in one_line(tandem("classify", folder, "--exclude", "*", *options))


@pytest.mark.parametrize("labels", [["cat,", "dog"], ["cat", "dog"], ["cat,", "polar bear"]])
def test_labels_separated_by_spaces_get_a_suggestion(
    tandem: Run, model_folder: str, photos: list[str], labels: list[str]
) -> None:
    message = one_line(tandem("classify", photos[0], "--labels", *labels, "--model", model_folder))
    assert "commas without spaces, or quotes" in message
    assert shlex.quote(f"cat,{labels[1]}") in message


def test_top_one_shows_one_label_in_lines_too(model_folder: str, tmp_path: Path) -> None:
    toy.write_images(tmp_path / "many", 12)
    options = ("--labels", "cat,dog", "--top", "1", "--model", model_folder)
    lines = run_in_terminal("classify", tmp_path / "many", *options, columns=80).out.splitlines()
    assert [line.count("%") for line in lines if "%" in line] == [1] * 12
