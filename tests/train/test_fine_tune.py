"""Fine-tuning as a task: what it trains on, what it measures on which images, and that it says so."""

import dataclasses
from collections import Counter
from hashlib import sha256
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from support import toy
from support.training_toys import COLOURS, colour_image

import tandem
from tandem.datasets import Dataset, open_dataset
from tandem.errors import DataError
from tandem.evaluate.model_checks import unseen
from tandem.evaluate.result import TaskResult
from tandem.train.fine_tune import fine_tune

TEMPLATES = ("a photo of a {}.", "a {}.")


def colours(path: Path, names: list[str], seeds: range) -> Dataset:
    for name in names:
        (path / name).mkdir(parents=True)
        for seed in seeds:
            (path / name / f"{seed}.png").write_bytes(colour_image(name, seed))
    return open_dataset(path)


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Dataset, Dataset]:
    """The classes of the training images are not used in the order of their names; one of the test set has no image."""
    root = tmp_path_factory.mktemp("fine-tune")
    toy.folder(root / "toy")
    train = colours(root / "train", list(COLOURS), range(10))
    test = colours(root / "test", ["white", "blue"], range(50, 56))
    return (
        root,
        train.take(range(39, -1, -1), "from the last to the first"),
        dataclasses.replace(test, classes=(*test.classes, "mauve")),
    )


@pytest.fixture(scope="module")
def elsewhere(sets: tuple[Path, Dataset, Dataset]) -> list[Dataset]:
    other = dataclasses.replace(sets[2], name="others")
    captions = tuple((f"a {key}", f"the {key}")[: 1 + place % 2] for place, key in enumerate(other.keys))
    return [other, dataclasses.replace(other, name="captions", classes=(), label_sets=(), captions=captions)]


@pytest.fixture(scope="module")
def found(sets: tuple[Path, Dataset, Dataset], elsewhere: list[Dataset]) -> TaskResult:
    root, train, test = sets
    return fine_tune(
        str(root / "toy"), train, test, folder=root / "run", steps=10, batch_size=12, learning_rate=1e-2,
        templates=TEMPLATES, elsewhere=elsewhere, alphas=(0.0, 0.4, 1.0), overrides={"workers": 0},
    )  # fmt: skip


@pytest.mark.slow
def test_figures_are_of_the_test_images(found: TaskResult, sets: tuple[Path, Dataset, Dataset]) -> None:
    assert found.task == "fine-tune"
    assert found.keys == sets[2].keys
    for name in ("zero_shot_top1", "fine_tuned_top1", "wise_ft_top1"):
        figure = found.figures[name]
        assert figure.n == 12
        assert figure.chance == 0.5  # of the classes that the test set names and the head has
        assert figure.value == pytest.approx(found.outcomes[name].mean())
        assert figure.low - 1e-9 <= figure.value <= figure.high + 1e-9
    assert found.figures["fine_tuned_top1"].value == 1
    gain = found.figures["fine_tuned_gain"]
    assert gain.unit == "difference"
    assert gain.value == pytest.approx(1 - found.figures["zero_shot_top1"].value)


def test_zero_shot_is_the_model_by_the_names_of_its_training_classes(
    found: TaskResult, sets: tuple[Path, Dataset, Dataset]
) -> None:
    root, train, test = sets
    model = tandem.load(root / "run" / "zero-shot", engine="torch")
    scores = model.embed_images(test.images()) @ model.class_vectors(train.classes, TEMPLATES).T
    of_test = scores[:, [train.classes.index(name) for name in test.classes[:2]]]
    assert found.outcomes["zero_shot_top1"].astype(bool).tolist() == (of_test.argmax(1) == test.labels).tolist()


def test_held_out_images_are_not_trained_on(found: TaskResult, sets: tuple[Path, Dataset, Dataset]) -> None:
    root, train, _ = sets
    images = {}
    for part in ("train", "validation"):
        rows = pq.read_table(root / "run" / "data" / f"{part}.parquet").to_pylist()
        images[part] = {sha256(row["image"]).digest(): row["names"] for row in rows}
    assert not images["train"].keys() & images["validation"].keys()
    labels = dict(zip(train.digests, (train.classes[label] for label in train.labels), strict=True))
    assert images["train"] | images["validation"] == labels
    assert Counter(images["validation"].values()) == dict.fromkeys(COLOURS, 2)  # a fifth of each class
    assert train.notes[-1] in found.notes


@pytest.mark.slow
def test_the_test_images_do_not_choose_alpha(found: TaskResult, sets: tuple[Path, Dataset, Dataset]) -> None:
    """With the labels of the test images swapped the zero-shot model is better than what was learnt."""
    root, train, test = sets
    swapped = dataclasses.replace(test, label_sets=tuple((1 - label,) for label in test.labels.tolist()))
    again = fine_tune(
        str(root / "toy"), train, swapped, folder=root / "run", steps=10, batch_size=12, learning_rate=1e-2,
        templates=TEMPLATES, alphas=(0.0, 0.4), overrides={"workers": 0},
    )  # fmt: skip
    rows = {row["alpha"]: row for row in again.tables["wise_ft"]}
    assert again.settings["alpha"] == found.settings["alpha"] > 0
    assert rows[0.0]["test"]["value"] > rows[again.settings["alpha"]]["test"]["value"]
    assert again.figures["wise_ft_top1"].value == rows[again.settings["alpha"]]["test"]["value"]
    best = max(row["validation"] for row in rows.values())
    assert again.settings["alpha"] == min(alpha for alpha, row in rows.items() if row["validation"] == best)


def test_recall_elsewhere_is_the_mean_over_the_captions_of_each_image(
    found: TaskResult, sets: tuple[Path, Dataset, Dataset], elsewhere: list[Dataset]
) -> None:
    root, other = sets[0], elsewhere[1]
    model = tandem.load(root / "run" / "zero-shot", engine="torch")
    images = model.embed_images(other.images())
    shares = []
    for place, captions in enumerate(other.captions):
        scores = model.embed_texts(captions) @ images.T
        shares.append(((scores >= scores[:, place, None]).sum(1) <= 10).mean())
    figure = found.figures["zero_shot on captions text_to_image_recall@10"]
    assert (figure.value, figure.n) == (pytest.approx(np.mean(shares), abs=1e-6), 12)


def test_the_curve_ends_at_both_models(found: TaskResult) -> None:
    rows = found.tables["wise_ft"]
    assert {0.0, 0.4, 1.0, found.settings["alpha"]} == {row["alpha"] for row in rows}
    for row, name in ((rows[0], "zero_shot"), (rows[-1], "fine_tuned")):
        assert row["test"]["value"] == found.figures[f"{name}_top1"].value
        assert row["validation"] is not None
        for key, each in row["elsewhere"].items():
            assert each["value"] == found.figures[f"{name} on {key}"].value
    assert rows[0]["elsewhere"].keys() == {
        "others zero_shot_top1", "captions text_to_image_recall@10", "captions image_to_text_recall@10",
    }  # fmt: skip
    assert found.figures["zero_shot on captions text_to_image_recall@10"].chance == pytest.approx(10 / 12)


def test_the_same_call_resumes_and_other_images_are_refused(
    found: TaskResult, sets: tuple[Path, Dataset, Dataset], capsys: pytest.CaptureFixture[str]
) -> None:
    root, train, test = sets
    settings = {"folder": root / "run", "steps": 10, "batch_size": 12, "learning_rate": 1e-2, "templates": TEMPLATES}
    again = fine_tune(str(root / "toy"), train, test, alphas=(), overrides={"workers": 0}, **settings)  # type: ignore[arg-type]
    assert "step 10 of 10, on 1 x cpu" in capsys.readouterr().err
    assert again.figures["wise_ft_top1"] == found.figures["wise_ft_top1"]
    with pytest.raises(DataError, match="a run on other images, or split in another way, lives here"):
        fine_tune(str(root / "toy"), train, test, seed=1, **settings)  # type: ignore[arg-type]


def test_a_test_class_without_training_images_is_refused(sets: tuple[Path, Dataset, Dataset]) -> None:
    root, train, test = sets
    with pytest.raises(DataError, match=r"expected classes that .* has images of, got 2 others, such as 'red'"):
        fine_tune(str(root / "toy"), test, train, folder=root / "refused")
    assert not (root / "refused").exists()


def test_images_that_are_measured_on_are_not_learnt_from(sets: tuple[Path, Dataset, Dataset]) -> None:
    _, train, _ = sets
    some = train.take(range(0, 40, 4))
    fresh, notes = unseen(train, some)
    rest = train.take(fresh)
    assert set(rest.keys) == set(train.keys) - set(some.keys)
    assert notes == ("10 of 40 images to learn from are also measured on: left out",)
    assert unseen(rest, some) == (list(range(30)), ())
