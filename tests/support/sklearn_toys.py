"""The estimators with the tables that scikit-learn's own checks give them, and which checks fail without that.

Importing scikit-learn takes more than a second: tests reach it here, by `lazy`.
"""

from typing import Any

import joblib
import numpy as np
import pandas as pd
from PIL import Image
from scipy.sparse import csr_array
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import NotFittedError, SkipTestWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.utils import check_array, estimator_checks

from tandem.sklearn import HeadClassifier, TandemFeatures, ZeroShotClassifier, loading

__all__ = [
    "EXPECTED_FAILED_CHECKS",
    "EXPECTED_OF_GDA",
    "ColumnTransformer",
    "GridSearchCV",
    "HeadClassifier",
    "HeadOfTables",
    "LogisticRegression",
    "NotFittedError",
    "Pipeline",
    "RowsAsImages",
    "SkipTestWarning",
    "TandemFeatures",
    "ZeroShotClassifier",
    "ZeroShotOfTables",
    "clone",
    "cross_val_predict",
    "cross_val_score",
    "csr_array",
    "estimator_checks",
    "joblib",
    "loading",
    "make_pipeline",
    "pd",
]


class RowsAsImages(TandemFeatures):
    """Takes the tables of the checks: each row becomes an image. The rest is the estimator as it is."""

    def _images(self, X: Any) -> list[Image.Image]:
        rows = np.abs(50 * check_array(X)) % 256
        return [Image.fromarray(np.tile(row.astype(np.uint8), (3, 1))).resize((8, 8)) for row in rows]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True  # or the checks are left out
        return tags


class AnyTable:
    """Takes the tables and numbers of the checks: rows are filled up to the model's dimensions, numbers get names."""

    def _vectors(self, table: np.ndarray, dimensions: int) -> np.ndarray:
        return np.pad(table, ((0, 0), (0, dimensions - table.shape[1])))

    def _named(self, y: np.ndarray | None) -> Any:
        if y is None:
            return super()._named(y)  # type: ignore[misc]
        values = np.unique(y)
        return values, [f"name {value}" for value in values]


class ZeroShotOfTables(AnyTable, ZeroShotClassifier):
    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.poor_score = True  # it learns nothing from the checks' tables
        return tags


class HeadOfTables(AnyTable, HeadClassifier):
    pass


# Of `ZeroShotClassifier` as it is, and why. `ZeroShotOfTables` differs in these two points alone, and passes them all.
NAMES = "the check's classes are numbers, and nothing says which names they stand for"
WIDTH = "the check's tables have 2 columns; vectors have the model's dimensions"
EXPECTED_FAILED_CHECKS = {
    "check_classifier_data_not_an_array": NAMES,
    "check_classifiers_train": NAMES,
    "check_decision_proba_consistency": NAMES,
    "check_dict_unchanged": NAMES,
    "check_dont_overwrite_parameters": NAMES,
    "check_dtype_object": NAMES,
    "check_estimators_dtypes": NAMES,
    "check_estimators_fit_returns_self": NAMES,
    "check_estimators_nan_inf": NAMES,
    "check_estimators_overwrite_params": NAMES,
    "check_estimators_pickle": NAMES,
    "check_f_contiguous_array_estimator": NAMES,
    "check_fit2d_1feature": NAMES,
    "check_fit2d_1sample": NAMES,
    "check_fit2d_predict1d": NAMES,
    "check_fit_check_is_fitted": NAMES,
    "check_fit_idempotent": NAMES,
    "check_fit_score_takes_y": NAMES,
    "check_methods_sample_order_invariance": NAMES,
    "check_methods_subset_invariance": NAMES,
    "check_n_features_in": NAMES,
    "check_n_features_in_after_fitting": NAMES,
    "check_pipeline_consistency": NAMES,
    "check_positive_only_tag_during_fit": NAMES,
    "check_readonly_memmap_input": NAMES,
    "check_supervised_y_2d": NAMES,
    "check_classifiers_classes": WIDTH,
}
# Of `HeadOfTables(method="gda")`; with "clap" it passes them all.
EXPECTED_OF_GDA = {
    "check_fit2d_1sample": "GDA needs two images of a class to see how images differ within it, and says so",
    "check_fit2d_1feature": "GDA needs images that differ within a class, and says so",
}
