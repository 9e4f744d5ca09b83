"""The estimators for scikit-learn: pipelines, searches, copies, pickles and processes."""

import importlib
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import lazy, skip_without, toy

import tandem
from tandem import weights
from tandem.errors import DataError, ImageError, MissingExtraError, TandemError
from tandem.heads.fitting import fit_head
from tandem.heads.head_file import write_head
from tandem.image import Limits

skip_without("sklearn", "pandas")
sk = lazy("support.sklearn_toys")

NAMES = ["cat", "dog", "car"]
IMAGES = [toy.random_image(seed) for seed in range(12)]
LABELS = np.array(NAMES * 4)
NUMBERED = {0: "cat", 1: "dog", 2: "car"}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(toy.folder(tmp_path_factory.mktemp("model") / "toy"))


@pytest.fixture(scope="module")
def model(source: str) -> tandem.Model:
    return tandem.load(source)


@pytest.fixture(scope="module")
def vectors(model: tandem.Model) -> np.ndarray:
    return model.embed_images(IMAGES)


# --- features ---


def test_features_say_that_they_take_no_table(source: str, vectors: np.ndarray) -> None:
    with pytest.warns(sk.SkipTestWarning, match="Can't test estimator TandemFeatures which requires input"):
        sk.estimator_checks.check_estimator(sk.TandemFeatures(source))
    with pytest.raises(ValueError, match=r"several images .* got a table of numbers of shape \(12, 12\)"):
        sk.TandemFeatures(source).fit(vectors)
    with pytest.raises(TypeError, match="sparse input is not supported"):
        sk.TandemFeatures(source).transform(sk.csr_array(vectors))


def test_features_are_the_models_vectors_of_any_kind_of_images(
    source: str, vectors: np.ndarray, tmp_path: Path
) -> None:
    features = sk.TandemFeatures(source, batch_size=5)
    paths = [str(tmp_path / f"{i}.png") for i in range(12)]
    for image, path in zip(IMAGES, paths, strict=True):
        image.save(path)
    arrays = [np.asarray(image) for image in IMAGES]
    several = [
        IMAGES,
        paths,
        [Path(path) for path in paths],
        [Path(path).read_bytes() for path in paths],
        arrays,
        np.stack(arrays),
        np.array(paths),
        np.array(paths, dtype=object)[:, None],
        sk.pd.Series(paths),
        sk.pd.DataFrame({"path": paths}),
        (image for image in IMAGES),
    ]
    for images in several:
        found = features.transform(images)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, vectors, atol=1e-6)
    assert features.transform([]).shape == (0, 12)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ("cat.jpg", "for one image give a list of it"),
        (IMAGES[0], "for one image give a list of it"),
        (np.zeros((8, 8, 3), np.uint8), "for one image give a list of it"),
        (np.array([b"\x89PNG\0"]), "loses zeros"),
        ([[0.5, 1.0]], "a table of numbers"),
        (None, "got NoneType"),
    ],
    ids=["path", "image", "array", "bytes", "numbers", "none"],
)
@pytest.mark.parametrize("kind", ["features", "classifier"])
def test_what_is_not_several_images_is_refused(kind: str, images: Any, message: str, source: str) -> None:
    if kind == "features":
        use = sk.TandemFeatures(source).transform
    else:
        use = sk.ZeroShotClassifier(source, classes=NAMES).fit().predict
        message = message.replace("a table of numbers", "vectors of 12 dimensions")
    with pytest.raises(ValueError, match=message):
        use(images)


def test_unreadable_images_raise_or_leave_a_row_of_nan(source: str, vectors: np.ndarray) -> None:
    images = [IMAGES[0], "missing.png", IMAGES[2]]
    with pytest.raises(ImageError, match=r"missing\.png"):
        sk.TandemFeatures(source).transform(images)
    with pytest.warns(UserWarning, match=r"missing\.png"):
        found = sk.TandemFeatures(source, on_error="nan").transform(images)
    assert np.isnan(found[1]).all()
    np.testing.assert_allclose(found[[0, 2]], vectors[[0, 2]], atol=1e-6)
    with pytest.raises(ImageError, match="addresses are not fetched"):
        sk.TandemFeatures(source, limits=Limits(allow_urls=False)).transform(["http://127.0.0.1:9/cat.jpg"])


def test_data_frames_keep_their_index_beside_other_columns(source: str, vectors: np.ndarray, tmp_path: Path) -> None:
    paths = [str(path) for path in toy.write_images(tmp_path / "photos", 4)]
    frame = sk.pd.DataFrame({"path": paths, "width": [4, 5, 6, 7]}, index=[7, 3, 9, 1]).iloc[[2, 0, 1]]
    columns = sk.ColumnTransformer([("image", sk.TandemFeatures(source), "path"), ("rest", "passthrough", ["width"])])
    found = columns.set_output(transform="pandas").fit_transform(frame)
    assert list(found.index) == [9, 7, 3]
    assert list(found["rest__width"]) == [6, 4, 5]
    assert list(found.columns[:2]) == ["image__tandemfeatures0", "image__tandemfeatures1"]
    np.testing.assert_allclose(found.to_numpy()[:, :12], vectors[[2, 0, 1]], atol=1e-6)


# --- the model of an estimator ---


def test_copies_load_their_model_once(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[Any] = []
    monkeypatch.setattr(sk.loading, "load", lambda source, **_: loaded.append(source) or tandem.load(source))
    monkeypatch.setattr(sk.loading, "_models", type(sk.loading._models)())
    pipeline = sk.make_pipeline(sk.TandemFeatures(source), sk.LogisticRegression())
    sk.cross_val_score(pipeline, IMAGES, LABELS, cv=2)
    pickle.loads(pickle.dumps(sk.clone(pipeline))).fit(IMAGES, LABELS)
    assert loaded == [source]
    sk.TandemFeatures(source, orient=False).fit(IMAGES)
    assert len(loaded) == 2


def test_a_model_that_was_written_again_is_loaded_again_and_not_mixed_up(tmp_path: Path) -> None:
    source = str(toy.folder(tmp_path / "toy"))
    features = sk.TandemFeatures(source).fit(IMAGES)
    pickled, before = pickle.dumps(features), sk.joblib.hash(sk.clone(features))
    first = features.transform(IMAGES[:1])
    weights.write(toy.checkpoint(seed=1), tmp_path / "toy", "tandem", overwrite=True)
    assert np.abs(sk.clone(features).transform(IMAGES[:1]) - first).max() > 0.01
    for fitted in (features, pickle.loads(pickled)):
        with pytest.raises(TandemError, match="expected the model it was fitted with"):
            fitted.transform(IMAGES[:1])
    assert sk.joblib.hash(sk.clone(features)) != before  # else a pipeline's `memory` would find the old vectors
    features.fit(IMAGES).transform(IMAGES[:1])


def test_a_loaded_model_is_used_as_it_is_and_pickled_by_its_source(model: tandem.Model, vectors: np.ndarray) -> None:
    features = sk.TandemFeatures(model)
    assert sk.clone(features).fit(IMAGES)._load().engine is model.engine
    pickled = pickle.dumps(features)
    assert len(pickled) < 2000
    again, twice = pickle.loads(pickled), pickle.loads(pickled)
    assert again.model is twice.model
    np.testing.assert_array_equal(again.transform(IMAGES), vectors)
    with pytest.raises(ValueError, match="precision='bfloat16': expected none beside a loaded model"):
        sk.TandemFeatures(model, precision="bfloat16").fit(IMAGES)
    with pytest.raises(ValueError, match="model: expected a source"):
        sk.TandemFeatures(7).fit(IMAGES)


@pytest.mark.slow
def test_processes_of_joblib_give_the_same_scores(source: str, model: tandem.Model) -> None:
    pipeline = sk.Pipeline([("features", sk.TandemFeatures(model)), ("zero", sk.ZeroShotClassifier(source))])
    alone = sk.cross_val_score(pipeline, IMAGES, LABELS, cv=2)
    with sk.joblib.parallel_config("loky", n_jobs=2):
        np.testing.assert_array_equal(sk.cross_val_score(pipeline, IMAGES, LABELS, cv=2), alone)


def test_without_scikit_learn_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("tandem.sklearn")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(MissingExtraError, match=r"needs scikit-learn; .*tandem-clip\[sklearn\]"):
        importlib.import_module("tandem.sklearn")


# --- zero-shot classification ---


def test_probabilities_are_those_of_classify_from_images_and_from_vectors(
    source: str, model: tandem.Model, vectors: np.ndarray
) -> None:
    answer = model.classify(IMAGES, sorted(NAMES), templates=["a {}.", "the {}"], progress=False)
    classifier = sk.ZeroShotClassifier(source, templates=["a {}.", "the {}"]).fit(None, LABELS)
    assert classifier.classes_.tolist() == sorted(NAMES)
    assert classifier.fingerprint_ == model.fingerprint
    for images in (IMAGES, vectors, 3 * vectors, sk.pd.DataFrame(vectors), vectors.tolist()):
        np.testing.assert_allclose(classifier.predict_proba(images), answer.probabilities, atol=1e-5)
        assert classifier.predict(images).tolist() == answer.best
    np.testing.assert_allclose(classifier.decision_function(vectors), answer.logits, rtol=1e-4)
    assert classifier.score(vectors, answer.best) == 1


def test_two_classes_have_one_decision_and_one_class_has_no_choice(source: str, vectors: np.ndarray) -> None:
    two = sk.ZeroShotClassifier(source, classes=["dog", "cat"]).fit()
    decision = two.decision_function(vectors)
    assert decision.shape == (12,)
    assert two.predict(vectors).tolist() == np.where(decision > 0, "dog", "cat").tolist()
    np.testing.assert_allclose(two.predict_proba(vectors)[:, 1], 1 / (1 + np.exp(-decision)))
    one = sk.ZeroShotClassifier(source).fit(vectors[:3], ["cat"] * 3)
    assert one.predict(vectors).tolist() == ["cat"] * 12
    assert one.predict_proba(vectors).tolist() == [[1.0]] * 12


def test_classes_by_number_and_by_language(source: str, vectors: np.ndarray) -> None:
    named = sk.ZeroShotClassifier(source, classes=NAMES).fit()
    numbered = sk.ZeroShotClassifier(source, classes=NUMBERED).fit(vectors, [0, 1, 2, 2] * 3)
    assert [NUMBERED[number] for number in numbered.predict(vectors)] == named.predict(vectors).tolist()
    by_language = {"dog": {"de": "Hund"}, "cat": {"de": "Katze"}}
    german = sk.ZeroShotClassifier(source, classes=by_language, language="de").fit()
    plain = sk.ZeroShotClassifier(source, classes={"cat": "Katze", "dog": "Hund"}, language="de").fit()
    assert german.predict(vectors).tolist() == plain.predict(vectors).tolist()
    np.testing.assert_array_equal(german.class_vectors_, plain.class_vectors_)


@pytest.mark.parametrize(
    ("classes", "labels", "message"),
    [
        (None, None, "requires y to be passed"),
        (None, [0, 1], "expected the names of classes, got 0"),
        (NAMES, [0, 1], "0 is not among the classes; say what the values mean"),
        (NAMES, ["cat", "bird"], "'bird' is not among the classes"),
        (NUMBERED, ["cat", "dog"], "'cat' is not among the classes"),
        ("cat", None, "expected names in a list"),
        ([], None, "expected names in a list"),
        (["cat", "cat"], None, "each name once"),
        ({"cat": "cat", 1: "dog"}, None, "of one type"),
        (None, [0.5, 0.7], "continuous"),
    ],
)
def test_labels_without_a_meaning_are_refused(classes: Any, labels: Any, message: str, source: str) -> None:
    with pytest.raises(ValueError, match=message):
        sk.ZeroShotClassifier(source, classes=classes).fit(IMAGES[:2], labels)


def test_vectors_of_other_dimensions_are_refused(source: str, vectors: np.ndarray) -> None:
    with pytest.raises(ValueError, match="vectors of 12 dimensions by this model, got 5"):
        sk.ZeroShotClassifier(source, classes=NAMES).fit(vectors[:, :5])
    fitted = sk.ZeroShotClassifier(source, classes=NAMES).fit(IMAGES)
    with pytest.raises(ValueError, match="vectors of 12 dimensions by this model, got 5"):
        fitted.predict(vectors[:, :5])
    with pytest.raises(ValueError, match="NaN"):
        fitted.predict(np.where(vectors > 0, vectors, np.nan))
    assert not hasattr(fitted, "n_features_in_")
    assert fitted.fit(vectors).n_features_in_ == 12
    assert not hasattr(fitted.fit(IMAGES), "n_features_in_")
    with pytest.raises(sk.NotFittedError):
        sk.ZeroShotClassifier(source).predict(IMAGES)


def test_a_search_over_prompts_and_models(source: str, tmp_path: Path) -> None:
    other = str(toy.folder(tmp_path / "other", seed=1))
    grid = {"model": [source, other], "templates": [None, "a {}.", ("the {}", "one {}")]}
    search = sk.GridSearchCV(sk.ZeroShotClassifier(), grid, cv=2, scoring="neg_log_loss", error_score="raise")
    search.fit(IMAGES, LABELS)
    assert len(set(search.cv_results_["mean_test_score"])) == 6
    assert sk.ZeroShotClassifier().get_params() == sk.clone(sk.ZeroShotClassifier()).get_params()
    best = search.best_estimator_
    assert {name: best.get_params()[name] for name in grid} == search.best_params_


def test_a_pipeline_of_both_equals_the_classifier_on_images(source: str, tmp_path: Path) -> None:
    kept = sk.make_pipeline(sk.TandemFeatures(source), sk.ZeroShotClassifier(source), memory=str(tmp_path))
    direct = sk.ZeroShotClassifier(source).fit(IMAGES, LABELS)
    for _ in range(2):  # from images, and from the pipeline's memory
        kept.fit(IMAGES, LABELS)
        np.testing.assert_allclose(kept.predict_proba(IMAGES), direct.predict_proba(IMAGES), atol=1e-6)


def test_cross_validated_probabilities_are_in_the_order_of_the_classes(source: str) -> None:
    """`cross_val_predict` gives estimators numbers for `y`: only a mapping says which names they stand for."""
    in_order = dict(enumerate(sorted(NAMES)))
    found = sk.cross_val_predict(
        sk.ZeroShotClassifier(source, classes=in_order), IMAGES, LABELS, cv=2, method="predict_proba"
    )
    direct = sk.ZeroShotClassifier(source).fit(IMAGES, LABELS)
    np.testing.assert_allclose(found, direct.predict_proba(IMAGES), atol=1e-6)
    with pytest.raises(ValueError, match="0 is not among the classes"):
        sk.cross_val_predict(sk.ZeroShotClassifier(source, classes=NAMES), IMAGES, LABELS, cv=2, method="predict_proba")


# --- heads ---


def test_a_head_is_that_of_fit_head_and_answers_everywhere(
    source: str, model: tandem.Model, vectors: np.ndarray, tmp_path: Path
) -> None:
    classifier = sk.HeadClassifier(source, classes=NUMBERED).fit(3 * vectors, [0, 1, 2] * 4)
    assert (classifier.head_.method, classifier.head_.fingerprint) == ("clap", model.fingerprint)
    expected = fit_head(
        "clap", vectors, [0, 1, 2] * 4, NAMES, model.class_vectors(NAMES),
        logit_scale=model.logit_scale, fingerprint=model.fingerprint,
    )  # fmt: skip
    np.testing.assert_allclose(classifier.head_.weights, expected.weights, rtol=0.01, atol=0.05)
    answer = model.classify(IMAGES, head=write_head(classifier.head_, tmp_path / "toy.tandem-head"), progress=False)
    assert answer.labels == tuple(NAMES)
    assert [NUMBERED[number] for number in classifier.predict(IMAGES)] == answer.best
    for images in (IMAGES, vectors):
        np.testing.assert_allclose(classifier.predict_proba(images), answer.probabilities, atol=1e-5)
    again = pickle.loads(pickle.dumps(classifier))
    np.testing.assert_array_equal(again.predict_proba(vectors), classifier.predict_proba(vectors))


def test_a_head_has_its_bias_and_its_seed(source: str, model: tandem.Model) -> None:
    draw, numbers = np.random.default_rng(0), [0, 1, 2] * 12
    vectors = draw.standard_normal((3, 12))[numbers] + draw.standard_normal((36, 12))
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    given = (unit, numbers, NAMES, model.class_vectors(NAMES))
    whose: dict[str, Any] = {"logit_scale": model.logit_scale, "fingerprint": model.fingerprint}
    head = fit_head("gda", *given, alpha=1.0, **whose)
    assert np.ptp(head.bias) > 0.01  # else it would change nothing
    gda = sk.HeadClassifier(source, classes=NUMBERED, method="gda", alpha=1.0).fit(vectors, numbers)
    np.testing.assert_allclose(gda.decision_function(vectors), head.logits(unit), rtol=1e-3, atol=1e-2)
    heads = [fit_head("linear_probe", *given, seed=seed, **whose) for seed in range(4)]
    assert len({head.card["C"] for head in heads}) > 1
    for seed, head in enumerate(heads):
        probe = sk.HeadClassifier(source, classes=NUMBERED, method="linear_probe", seed=seed).fit(vectors, numbers)
        assert probe.head_.card["C"] == pytest.approx(head.card["C"])


def test_a_search_over_methods_of_heads(source: str, vectors: np.ndarray) -> None:
    pipeline = sk.make_pipeline(sk.TandemFeatures(source), sk.HeadClassifier(source))
    grid = [
        {"headclassifier__method": ["clap", "nearest_mean"]},
        {"headclassifier__method": ["gda"], "headclassifier__alpha": [0.1, 1.0]},
    ]
    search = sk.GridSearchCV(pipeline, grid, cv=2, scoring="neg_log_loss", error_score="raise").fit(IMAGES, LABELS)
    assert len(set(search.cv_results_["mean_test_score"])) == 4
    assert search.predict(IMAGES).shape == (12,)


def test_heads_refuse_what_they_cannot_learn_from(source: str, vectors: np.ndarray) -> None:
    with pytest.raises(ValueError, match="HeadClassifier requires y to be passed"):
        sk.HeadClassifier(source, classes=NAMES).fit(vectors, None)
    with pytest.raises(DataError, match="car"):
        sk.HeadClassifier(source, classes=NAMES).fit(vectors[:4], ["cat", "dog"] * 2)
    with pytest.raises(TandemError, match="clap has no setting 'alpha'"):
        sk.HeadClassifier(source, alpha=1.0).fit(vectors, LABELS)
    with pytest.raises(TandemError, match="unknown method 'clip'; did you mean 'clap'"):
        sk.HeadClassifier(source, method="clip").fit(vectors, LABELS)
