"""`tandem learn`, and `classify` and `label` with the head that it writes."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support import toy
from support.commands import Run, one_line

import tandem as library
from tandem import weights
from tandem.cli import learn_report
from tandem.datasets.labelled_collection import read_labels
from tandem.errors import DataError
from tandem.evaluate.figures import Figure
from tandem.evaluate.learning import Confusion, GainVerdict, Learned
from tandem.heads.head import Head
from tandem.heads.head_file import read_head, write_head
from tandem.precisions import remember_folder


def draw_classes(folder: Path, *, each: int = 4) -> Path:
    """Noise of a colour for each class: what even a random tower tells apart."""
    for number, name in enumerate(("golden_retriever", "owl")):
        (folder / name).mkdir(parents=True)
        for image in range(each):
            draw = np.random.default_rng(10 * number + image)
            pixels = draw.integers(0, 60, (40, 40, 3))
            pixels[:, :, 2 * number] += 190
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{image}.png")
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_classes(tmp_path_factory.mktemp("classes") / "animals")


@pytest.fixture
def animals(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "animals"))


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TANDEM_CACHE", str(tmp_path / "cache"))


def test_from_folders_to_answers(tandem: Run, animals: Path, model_folder: str, tmp_path: Path) -> None:
    head = tmp_path / "animals.tandem-head"
    learned = tandem("learn", animals, "--to", head, "--model", model_folder)
    assert learned.code == 0, learned.err
    rows = {row[0]: row[1:] for row in learned.rows}
    assert set(rows) == {"learned", "zero-shot", "gain", "golden retriever", "owl"}
    accuracy, low, high = map(float, rows["learned"])
    assert low <= accuracy <= high
    assert float(rows["gain"][0]) == pytest.approx(accuracy - float(rows["zero-shot"][0]), abs=1e-6)
    assert rows["owl"][0] == "4"
    assert f"--head {head} --model" in learned.err
    assert "tandem: zero-shot prompts: a photo of a {}." in learned.err.splitlines()
    assert "What was seen in training is not zero-shot" in learned.err
    answered = tandem("classify", animals / "owl" / "0.png", "--head", head, "--model", model_folder)
    assert next(row[1] for row in answered.rows) == "owl"
    assert {row[1] for row in answered.rows} == {"owl", "golden retriever"}


def test_json_is_the_card(tandem: Run, animals: Path, model_folder: str, tmp_path: Path) -> None:
    head = tmp_path / "animals.tandem-head"
    document = tandem("learn", animals, "--to", head, "--model", model_folder, "--method", "gda", "--json").json
    assert document["file"] == str(head)
    assert document["method"] == "gda"
    assert document["accuracy"] == read_head(head).card["accuracy"]
    assert [each["name"] for each in document["classes"]] == ["golden retriever", "owl"]
    assert document["verdict"] in ("gain", "loss", "no difference shown")


@pytest.mark.slow
def test_the_prompt_and_the_seed_reach_what_is_learned(
    tandem: Run, animals: Path, model_folder: str, tmp_path: Path
) -> None:
    """CLAP begins at the prompts; the seed draws the resamples."""
    given = {"plain": (), "drawn": ("--template", "a drawing of a {}", "--template", "{}"), "seeded": ("--seed", "9")}
    cards = {}
    for name, options in given.items():
        head = tmp_path / f"{name}.tandem-head"
        asked = ("learn", animals, "--to", head, "--model", model_folder, "--method", "clap")
        assert tandem(*asked, *options).code == 0
        cards[name] = read_head(head).card
    plain, drawn, seeded = cards.values()
    assert drawn["templates"] == ["a drawing of a {}", "{}"]
    assert drawn["penalty_mean"] != plain["penalty_mean"] == seeded["penalty_mean"]
    assert (plain["seed"], seeded["seed"]) == (0, 9)
    assert seeded["calibration_error"] != plain["calibration_error"]


@pytest.mark.parametrize(("value", "verdict", "said"), [
    (0.2, "gain", "better than the names"), (-0.2, "loss", "worse than the names"),
    (0.02, "no difference shown", "no gain shown"),
])  # fmt: skip
def test_a_loss_is_called_a_loss(value: float, verdict: GainVerdict, said: str) -> None:
    head = Head(("a", "b"), np.ones((2, 12), np.float32), np.zeros(2, np.float32), "e" * 64, "clap", {})
    figures = {"gain": Figure(value, 20, value - 0.1, value + 0.1, 0.0, "difference")}
    text = learn_report.verdict(Learned(head, figures, verdict, "leave-one-out", ()))
    assert text.startswith(said)
    assert f"{100 * value:+.1f} points" in text


@pytest.mark.parametrize(("more", "said"), [(1, "and 1 more pair"), (2, "and 2 more pairs")])
def test_confusions_beyond_those_shown_are_counted(more: int, said: str) -> None:
    head = Head(("a", "b"), np.ones((2, 12), np.float32), np.zeros(2, np.float32), "e" * 64, "clap", {})
    pairs = tuple(Confusion("a", "b", 1, 4) for _ in range(learn_report.CONFUSIONS_SHOWN + more))
    (text,) = learn_report._confused(Learned(head, {}, "not measured", "", (), pairs))
    assert text.endswith(said)


def test_names_for_folders(tandem: Run, animals: Path, model_folder: str, tmp_path: Path) -> None:
    (tmp_path / "names.csv").write_text("golden_retriever,dog\nowl,bird\n")
    head = tmp_path / "x.tandem-head"
    found = tandem("learn", animals, "--to", head, "--model", model_folder, "--classes", tmp_path / "names.csv")
    assert found.code == 0, found.err
    assert read_head(head).classes == ("dog", "bird")


def test_what_stands_in_the_way(tandem: Run, animals: Path, model_folder: str, tmp_path: Path) -> None:
    assert "no target" in one_line(tandem("learn", animals))
    assert "ends in .tandem-head" in one_line(tandem("learn", animals, "--to", tmp_path / "x.json"))
    head = tmp_path / "x.tandem-head"
    head.write_text("mine")
    assert "say --overwrite" in one_line(tandem("learn", animals, "--to", head))
    assert head.read_text() == "mine"
    assert tandem("learn", animals, "--to", head, "--overwrite", "--model", model_folder).code == 0
    other = tmp_path / "other.tandem-head"
    assert "auto, clap, gda" in one_line(tandem("learn", animals, "--to", other, "--method", "svm"))
    assert "a whole number from 0" in one_line(tandem("learn", animals, "--to", other, "--seed", "-1"))
    assert "no columns for label" in one_line(tandem("learn", animals, "--to", other, "--label", "kind"))
    beside = one_line(tandem("learn", "x.tandem", "--to", other, "--table", "x.csv", "--where", "width > 1"))
    assert "--table and --where cannot go together" in beside
    assert "no such file" in one_line(tandem("learn", tmp_path / "nothing", "--to", other))
    shutil.rmtree(animals / "owl")
    alone = one_line(tandem("learn", animals, "--to", other, "--model", model_folder))
    assert "add a class 'other'" in alone
    assert not other.exists()


def test_classes_are_not_lost_without_a_word(tandem: Run, animals: Path, model_folder: str, tmp_path: Path) -> None:
    """A head of a few corrections does not take the place of one that knows more classes."""
    head = tmp_path / "x.tandem-head"
    write_head(Head(("owl", "cat"), np.ones((2, 12), np.float32), np.zeros(2, np.float32), "e" * 64, "clap", {}), head)
    asked = ("learn", animals, "--to", head, "--overwrite", "--model", model_folder)
    refused = one_line(tandem(*asked))
    assert "the new head would not know cat" in refused
    assert "say --yes" in refused
    assert read_head(head).classes == ("owl", "cat")
    assert tandem(*asked, "--yes").code == 0
    assert read_head(head).classes == ("golden retriever", "owl")
    assert tandem(*asked).code == 0


def test_the_data_is_complained_of_before_the_target(tandem: Run, animals: Path, tmp_path: Path) -> None:
    assert "say what to learn from, and where to write the head" in one_line(tandem("learn"))
    assert "no data: say what to learn from" in one_line(tandem("learn", "--to", "x.tandem-head"))
    single = one_line(tandem("learn", animals / "owl" / "0.png", "--to", "x"))
    assert "0.png: not recognised as a data set" in single


def test_a_photo_that_cannot_be_read_is_left_out_and_named(
    tandem: Run, animals: Path, model_folder: str, tmp_path: Path
) -> None:
    (animals / "owl" / "bad.png").write_bytes(b"\x89PNG\r\n")
    found = tandem("learn", animals, "--to", tmp_path / "x.tandem-head", "--model", model_folder)
    assert found.code == 1
    assert "1 of 9 images cannot be read" in found.err
    assert "owl/bad.png" in found.err


def test_the_report_in_a_terminal(
    tandem: Run, animals: Path, model_folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "90")
    shown = tandem("learn", animals, "--to", tmp_path / "x.tandem-head", "--model", model_folder)
    assert "8 photos of 2 classes, learned by" in shown.out
    assert "measured on 8 photos left out in turn" in shown.out
    assert "chance is 50.0%" in shown.out
    assert "95% from" in shown.out
    said = " ".join(shown.err.split())
    assert f"next: tandem classify PHOTO --head {tmp_path / 'x.tandem-head'} --model {model_folder}" in said


def test_a_head_of_another_model(tandem: Run, photos: list[str], model_folder: str, tmp_path: Path) -> None:
    head = Head(("a", "b"), np.ones((2, 12), np.float32), np.zeros(2, np.float32), "e" * 64, "clap", {"model": "X"})
    file = write_head(head, tmp_path / "x.tandem-head")
    refused = one_line(tandem("classify", photos[0], "--head", file, "--model", model_folder))
    assert "the model X (fingerprint e" in refused
    assert "--model" not in refused  # nothing is known that X would load
    beside = one_line(tandem("classify", photos[0], "--head", file, "--labels", "a,b"))
    assert "--head and --labels cannot go together" in beside


def test_a_head_of_a_published_or_a_quantised_model(
    tandem: Run, photos: list[str], model_folder: str, tmp_path: Path
) -> None:
    source = weights.read(model_folder)
    made = weights.write(toy.quantized(source), tmp_path / "int8")
    remember_folder(weights.fingerprint(source), made)
    fingerprint = weights.fingerprint(weights.read(made))
    for name, whose, expected in (("ViT-B/32", "e" * 64, "ViT-B/32"), ("toy int8-weights", fingerprint, str(made))):
        head = Head(("a", "b"), np.ones((2, 12), np.float32), np.zeros(2, np.float32), whose, "clap", {"model": name})
        file = write_head(head, tmp_path / f"{whose[:9]}.tandem-head")
        refused = one_line(tandem("classify", photos[0], "--head", file, "--model", model_folder))
        assert refused.rstrip().endswith(f"; try --model {expected}")


# --- collections -----------------------------------------------------------------------------------------------------


def test_a_collection_and_a_table_of_labels(tandem: Run, collection: Path, tmp_path: Path) -> None:
    """No photo is read again: their files may be gone."""
    with library.open(collection) as photos:
        records = photos.store.get([hit.id for hit in photos.search("a", k=8)], columns=("path",))
        ids, paths = list(records.ids), [str(path) for path in records.columns["path"]]
    labels = tmp_path / "labels.csv"
    names = [ids[0], paths[1], Path(paths[2]).name, ids[3], ids[4], ids[5]]
    labels.write_text("id,label\n" + "".join(f'"{name}",{"ab"[at % 2]}\n' for at, name in enumerate(names)))
    head = tmp_path / "x.tandem-head"
    learned = tandem("learn", collection, "--table", labels, "--to", head, "--template", "a drawing of a {}")
    assert learned.code == 0, learned.err
    assert "without a label were left out: 2" in learned.err
    assert read_head(head).card["shots"] == {"a": 3, "b": 3}
    assert read_head(head).card["templates"] == ["a drawing of a {}"]
    by_label = tandem("label", collection, "--head", head, "--json").json
    assert by_label["scoring"] == "head"
    assert [each["label"] for each in by_label["labels"]] == ["a", "b"]
    by_image = tandem("label", collection, "--head", head, "--by", "image", "--json").json["images"]
    assert len(by_image) == 8
    for image in by_image:
        assert sum(label["probability"] for label in image["labels"]) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ("0.png,a\nnone.png,b\n", "line 2: no image 'none.png'"),
        ("0.png,a\n0.png,b\n", "line 2: '0.png' has two labels, 'a' and 'b'"),
        ("0.png\n", "line 1: expected two values"),
        ("path,label\n", "found none"),
    ],
)
def test_tables_that_do_not_fit(tandem: Run, collection: Path, tmp_path: Path, rows: str, expected: str) -> None:
    (tmp_path / "labels.csv").write_text(rows)
    found = tandem("learn", collection, "--table", tmp_path / "labels.csv", "--to", tmp_path / "x.tandem-head")
    assert expected in one_line(found)


def test_tables_of_labels(tmp_path: Path) -> None:
    file = tmp_path / "labels.tsv"
    file.write_bytes("\ufeffPath\tlabel\na, b.png\tcat\n\n x.png \t owl \n".encode())
    assert read_labels(file) == [(2, "a, b.png", "cat"), (4, "x.png", "owl")]
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="UTF-8"):
        read_labels(file)
