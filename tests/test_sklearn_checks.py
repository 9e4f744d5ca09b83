"""The estimators for scikit-learn under its own checks."""

import warnings
from typing import Any

import pytest
from support import lazy, skip_without, toy

skip_without("sklearn", "pandas")
sk = lazy("support.sklearn_toys")

# What it needs to run is set before SciPy is imported.
SKIPPED = {"check_array_api_input"}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(toy.folder(tmp_path_factory.mktemp("model") / "toy"))


def results(estimator: Any, expected: dict[str, str] | None = None) -> dict[str, set[str]]:
    """Names of the checks by how they ended. Raises what failed although it was not expected to."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = sk.estimator_checks.check_estimator(estimator, expected_failed_checks=expected, on_skip=None)
    assert len(found) > 30
    ended: dict[str, set[str]] = {"passed": set(), "xfail": set(), "skipped": set()}
    for result in found:
        ended[result["status"]].add(result["check_name"])
    assert ended["skipped"] <= SKIPPED
    return ended


@pytest.mark.slow
def test_features_pass_every_check_once_rows_are_images(source: str) -> None:
    assert not results(sk.RowsAsImages(source))["xfail"]
    for check in (
        sk.estimator_checks.check_transformer_get_feature_names_out,
        sk.estimator_checks.check_transformer_get_feature_names_out_pandas,
        sk.estimator_checks.check_set_output_transform,
        sk.estimator_checks.check_set_output_transform_pandas,
        sk.estimator_checks.check_global_output_transform_pandas,
    ):
        check("RowsAsImages", sk.RowsAsImages(source))


@pytest.mark.slow
def test_the_classifier_passes_every_check_once_numbers_have_names(source: str) -> None:
    assert not results(sk.ZeroShotOfTables(source))["xfail"]


def test_the_classifier_fails_the_checks_that_are_named_and_no_other(source: str) -> None:
    ended = results(sk.ZeroShotClassifier(source), sk.EXPECTED_FAILED_CHECKS)
    # Some are run several times, with different data.
    assert ended["xfail"] == set(sk.EXPECTED_FAILED_CHECKS)


@pytest.mark.slow
def test_heads_pass_the_checks(source: str) -> None:
    assert not results(sk.HeadOfTables(source))["xfail"]
    assert results(sk.HeadOfTables(source, method="gda"), sk.EXPECTED_OF_GDA)["xfail"] == set(sk.EXPECTED_OF_GDA)
