"""Moderating and fitting with a model: what is shown is measured, and nothing is changed."""

import dataclasses
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from support.moderation_toys import POLICY, draw, draw_labelled

import tandem
from tandem.datasets.opening import open_dataset
from tandem.errors import DataError, ImageError
from tandem.evaluate.features import Features, embed_dataset
from tandem.model import Model
from tandem.moderation import Fit, Moderator, fit_policy, open_policy, read_fit, write_fit
from tandem.moderation.decisions import worst
from tandem.moderation.fit_file import fit_path


@pytest.fixture(scope="module")
def features(model: Model, labelled: Path) -> Features:
    return embed_dataset(model, open_dataset(labelled), cache=False)


@pytest.fixture
def fit(model: Model, policy: Path, features: Features) -> Fit:
    return fit_policy(model, open_policy(policy), features)


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    return [draw(tmp_path / "new" / f"{i}.png", red=i < 2, seed=500 + i) for i in range(4)]


def state(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {str(each): (each.read_bytes(), each.stat().st_mtime_ns) for each in folder.rglob("*") if each.is_file()}


def test_without_a_fit_there_is_no_probability(model: Model, policy: Path, images: list[Path]) -> None:
    moderator = Moderator(policy, model)
    assert moderator.fit is None
    found = moderator.moderate(images)
    assert [each.band for each in found] == ["not fitted"] * 4
    one = found[0].categories["red"]
    assert one.probability is None
    assert one.interval is None
    assert one.as_dict()["probability"] is None
    assert set(one.nearest) == {"for", "against"}
    assert one.nearest["against"].text == "a blue thing"
    assert one.nearest["for"].text in ("a red thing", "red")
    assert one.nearest["for"].example is None


def test_a_fit_gives_probabilities_and_bands_and_changes_no_image(
    model: Model, policy: Path, fit: Fit, labelled: Path, images: list[Path]
) -> None:
    before = state(labelled) | state(images[0].parent)
    write_fit(fit, fit_path(open_policy(policy)))
    assert fit_path(open_policy(policy)) == policy.with_name("red.fit.json")
    moderator = Moderator(policy, model)
    assert moderator.fit == fit
    assert moderator.is_fitted
    found = moderator.moderate(images, digests=True)
    red, blue = found[0], found[3]
    assert red.band in ("review", "block")
    assert blue.band == "allow"
    probability, interval = red.categories["red"].probability, red.categories["red"].interval
    assert probability is not None
    assert interval is not None
    assert interval[0] < probability < interval[1]
    assert red.digest is not None
    assert len(red.digest) == 64
    assert [each.categories for each in moderator.moderate(images)] == [each.categories for each in found]
    assert before == state(labelled) | state(images[0].parent)


def test_the_head_is_taken_where_texts_say_nothing(fit: Fit) -> None:
    """A random model's texts have no meaning; its pictures differ by colour."""
    found = fit.categories["red"]
    assert found.score_kind == "learned"
    assert found.figures["auc"].value > 0.9
    assert found.positives == found.negatives == 26
    assert found.fitted_base_rate == 0.5
    assert found.base_rate == 0.25


def test_a_fit_is_read_as_it_was_written(fit: Fit, tmp_path: Path) -> None:
    write_fit(fit, tmp_path / "x.json")
    assert read_fit(tmp_path / "x.json") == fit
    assert read_fit(tmp_path / "x.json").fingerprint == fit.fingerprint
    text = (tmp_path / "x.json").read_text()
    for wrong, said in (
        ("nothing", "no fit of a policy"),
        ("[]", "no fit of a policy"),
        (text.replace('"version": 1', '"version": 2'), "expected version 1"),
        (text.replace('"center"', '"centre"'), "categories.red.centre: unknown key"),
        (text.replace('"spread": ', '"spread": -'), "categories.red.spread"),
        (text.replace('"slope": ', '"slope": NaN, "x": '), "no fit of a policy"),
    ):
        (tmp_path / "x.json").write_text(wrong)
        with pytest.raises(DataError, match=r"x\.json") as error:
            read_fit(tmp_path / "x.json")
        assert said in str(error.value)


def test_another_policy_or_model_invalidates_a_fit_by_name(
    model: Model, policy: Path, fit: Fit, images: list[Path]
) -> None:
    write_fit(fit, fit_path(open_policy(policy)))
    policy.write_text(POLICY.replace("0.25", "0.3"))
    with pytest.raises(DataError, match=r"red.fit.json: fitted with an earlier version of the policy \(red things"):
        Moderator(policy, model)
    assert Moderator(policy, model, fit=False).moderate(images[:1])[0].band == "not fitted"
    policy.write_text(POLICY.replace('"red things"', '"other"'))
    with pytest.raises(DataError, match="fitted with another policy"):
        Moderator(policy, model)
    policy.write_text(POLICY)
    other = dataclasses.replace(fit, model_fingerprint="0" * 64, model="ViT-B/32")
    with pytest.raises(DataError, match=r"fitted with another model \(ViT-B/32, 000000000000\), but this is toy"):
        Moderator(policy, model, fit=other)


def test_too_few_are_refused_with_how_many_are_needed(model: Model, policy: Path, features: Features) -> None:
    opened = open_policy(policy)
    with pytest.raises(DataError, match=r"red: a recall of 0.95 needs at least 67 .* with it .* got 26 and 26"):
        fit_policy(model, opened, features, review_recall=0.95)
    with pytest.raises(DataError, match=r"red: a precision of 0.95 at a base rate of 0.25 needs at least"):
        fit_policy(model, opened, features, block_precision=0.95)
    few = features.take([*range(10), *range(26, 52)])
    with pytest.raises(DataError, match="red: a probability needs at least 20 labelled images with it and 20 without"):
        fit_policy(model, opened, few)
    with pytest.raises(DataError, match="precision: expected a share between 0 and 1, got 95"):
        fit_policy(model, opened, features, block_precision=95)


def test_classes_that_are_none_of_the_policy_are_named(model: Model, policy: Path, features: Features) -> None:
    opened = open_policy(policy)
    other = dataclasses.replace(features, dataset=dataclasses.replace(features.dataset, classes=("blue", "crimson")))
    with pytest.raises(DataError, match=r"no class is called as a category of the policy \(red\)"):
        fit_policy(model, opened, other)
    assert fit_policy(model, opened, other, shows={"red": ["Crimson"]}).categories["red"].positives == 26
    with pytest.raises(DataError, match="no class 'crimsn'; did you mean 'crimson'"):
        fit_policy(model, opened, other, shows={"red": ["crimsn"]})
    with pytest.raises(DataError, match="no category 'rde'; did you mean 'red'"):
        fit_policy(model, opened, other, shows={"rde": ["crimson"]})


def test_corrections_teach_the_head_and_are_not_measured(
    model: Model, policy: Path, features: Features, tmp_path: Path
) -> None:
    more = embed_dataset(model, open_dataset(draw_labelled(tmp_path / "more", 3, seed=8)), cache=False)
    plain = fit_policy(model, open_policy(policy), features)
    taught = fit_policy(model, open_policy(policy), features, corrections=more)
    assert (plain.data.corrections, taught.data.corrections) == (0, 6)
    assert plain.categories["red"].weights != taught.categories["red"].weights
    assert taught.categories["red"].positives == 26
    again = fit_policy(model, open_policy(policy), features, corrections=features)
    assert again.data.corrections == 0  # they are among the labelled images already
    assert again.categories["red"].weights == plain.categories["red"].weights


def test_examples_order_images_before_a_fit_and_are_named(model: Model, policy: Path, images: list[Path]) -> None:
    folder = draw_labelled(policy.parent / "examples", 3, seed=4)
    given = 'examples_for = ["examples/red"]\nexamples_against = ["examples/blue"]\nbase_rate'
    policy.write_text(POLICY.replace("base_rate", given, 1))
    found = [each.categories["red"] for each in Moderator(policy, model).moderate(images)]
    assert min(each.score for each in found[:2]) > max(each.score for each in found[2:])
    nearest = found[0].nearest["for"]
    assert nearest.example is not None
    assert (policy.parent / nearest.example).parent == folder / "red"
    assert nearest.example_cosine == pytest.approx(1, abs=0.2)


def test_an_image_that_cannot_be_read_stands_in_its_place(model: Model, policy: Path, images: list[Path]) -> None:
    images[1].write_bytes(b"no image")
    for digests in (False, True):
        (batch,) = Moderator(policy, model).iter_moderate([*images, "gone.png"], digests=digests)
        assert [isinstance(each.result, ImageError) for each in batch] == [False, True, False, False, True]
        assert isinstance(batch[1].result, ImageError)
        assert batch[1].result.source == str(images[1])
    with pytest.raises(ImageError):
        Moderator(policy, model).moderate(images)


def test_what_is_in_memory_is_moderated_too(model: Model, policy: Path, images: list[Path]) -> None:
    from PIL import Image

    opened = Image.open(images[0]).convert("RGB")
    sources = [images[0].read_bytes(), opened, np.asarray(opened)]
    found = Moderator(policy, model).moderate(sources, digests=True)
    assert len({each.categories["red"].score for each in found}) == 1
    assert found[1].digest == found[2].digest != found[0].digest


def test_a_collection_is_judged_by_the_vectors_it_holds(
    model: Model, model_folder: Path, policy: Path, fit: Fit, images: list[Path], tmp_path: Path
) -> None:
    collection = tandem.open(tmp_path / "photos.tandem", model_folder)
    collection.add(images[0].parent)
    moderator = Moderator(policy, model, fit=fit)
    direct = {each.image: each.categories["red"] for each in moderator.moderate(images)}
    for path in images:
        os.unlink(path)
    found = [each for part in moderator.iter_store(collection.store) for each in part]
    assert {each.image: each.categories["red"].band for each in found} == {
        str(path): direct[str(path)].band for path in images
    }
    assert all(each.id for each in found)
    other = SimpleNamespace(notes={"model_fingerprint": "0" * 64}, url="other.tandem")
    with pytest.raises(DataError, match=r"vectors of another model \(000000000000\), not of toy"):
        list(moderator.iter_store(other))  # type: ignore[arg-type]


def test_what_the_score_is_of_is_said(model: Model, policy: Path, fit: Fit, images: list[Path]) -> None:
    assert Moderator(policy, model).moderate(images)[0].categories["red"].score_kind == "texts"
    assert Moderator(policy, model, fit=fit).moderate(images)[0].categories["red"].score_kind == "learned"


def test_a_fit_whose_weights_do_not_fit_is_refused(model: Model, policy: Path, fit: Fit) -> None:
    wrong = dataclasses.replace(fit.categories["red"], weights=(1.0, 2.0))
    with pytest.raises(DataError, match=r"categories.red.weights: expected 12 numbers, got 2"):
        Moderator(policy, model, fit=dataclasses.replace(fit, categories={"red": wrong}))


def test_a_wide_interval_cannot_tell(model: Model, policy: Path, fit: Fit, images: list[Path]) -> None:
    one = fit.categories["red"]
    unsure = dataclasses.replace(fit, categories={"red": dataclasses.replace(one, covariance=(25.0, 0.0, 25.0))})
    found = Moderator(policy, model, fit=unsure).moderate(images)
    assert {each.band for each in found} == {"cannot tell"}
    chance = dataclasses.replace(fit, categories={"red": dataclasses.replace(one, cannot_tell="noise")})
    (red,) = {each.categories["red"].probability for each in Moderator(policy, model, fit=chance).moderate(images)}
    assert red is None


def test_corrections_of_a_labelled_collection_are_known_by_their_ids(
    model: Model, model_folder: Path, labelled: Path, features: Features, tmp_path: Path
) -> None:
    """A collection's digests are not those of files: a photo that is in both must not be learnt and measured."""
    from tandem.moderation.labelled import without

    with tandem.open(tmp_path / "c.tandem", model_folder) as collection:
        collection.add(labelled)
    stored = embed_dataset(model, open_dataset(tmp_path / "c.tandem", label="folder"))
    assert len(without(features, stored)) == 0


TWO = """
[categories.blue]
texts_for = ["a blue thing"]
texts_against = ["red"]
base_rate = 0.5

[categories.green]
texts_for = ["a green thing"]
texts_against = ["red"]
base_rate = 0.5
"""


def test_the_most_severe_category_decides_and_what_is_not_fitted_allows_nothing(
    model: Model, policy: Path, features: Features, images: list[Path]
) -> None:
    policy.write_text(POLICY + TWO)
    opened = open_policy(policy)
    fit = fit_policy(model, opened, features)
    assert set(fit.categories) == {"red", "blue"}
    assert "green: no class of the labelled images shows it: not fitted" in fit.notes
    moderator = Moderator(opened, model, fit=fit)
    assert not moderator.is_fitted
    for image, decision in zip(images, moderator.moderate(images), strict=True):
        bands = {name: each.band for name, each in decision.categories.items()}
        assert bands["green"] == "not fitted"
        shown, other = ("red", "blue") if int(image.stem) < 2 else ("blue", "red")
        assert bands[shown] != "allow"
        assert decision.band == worst(bands.values()) != "allow"
        assert moderator.moderate(image)[0].categories[other].probability < 0.5  # type: ignore[operator]
    only = dataclasses.replace(fit, categories={"red": fit.categories["red"]})
    assert Moderator(opened, model, fit=only).moderate(images[3])[0].band == "not fitted"  # red allows it


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"spread": 1e-320}, "red.spread: expected "),
        ({"slope": 1e308}, "red.spread: expected numbers"),
        ({"covariance": (1e308, 0.0, 1e308)}, "red.spread: expected numbers"),
        ({"covariance": (1.0, 5.0, 1.0)}, "red.covariance: expected that of two numbers"),
        ({"slope": -1.0}, "red.slope: expected a number above 0"),
        ({"low": 10.0, "high": -10.0}, "red.high: expected at least low"),
        ({"low": -10.0, "high": 10.0, "review_score": 5.0, "block_score": -5.0}, "review_score: expected low, review_"),
        ({"review_score": -1e6}, "review_score: expected low, review_"),
        ({"base_rate": 0.9}, "red.base_rate: expected that of the policy"),
    ],
)
def test_a_fit_that_contradicts_itself_is_refused(
    model: Model, policy: Path, fit: Fit, tmp_path: Path, changes: dict[str, float], said: str
) -> None:
    one = dataclasses.replace(fit.categories["red"], **changes)  # type: ignore[arg-type]
    write_fit(dataclasses.replace(fit, categories={"red": one}), tmp_path / "edited.json")
    with pytest.raises(DataError, match=r"edited\.json: categories\.") as error:
        Moderator(policy, model, fit=tmp_path / "edited.json")
    assert said in str(error.value)


def test_pixels_of_another_shape_are_another_image(model: Model, policy: Path) -> None:
    wide, high = np.zeros((8, 16, 3), np.uint8), np.zeros((16, 8, 3), np.uint8)
    found = Moderator(policy, model).moderate([wide, high], digests=True)
    assert found[0].digest != found[1].digest
