"""What classifiers of images by named classes share: the names, what `X` is, and decisions from logits.

Shapes: n images, d the shared dimension, c classes.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin
from sklearn.utils import assert_all_finite, check_array, check_consistent_length, column_or_1d
from sklearn.utils.extmath import softmax
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from tandem.prompts import Labels
from tandem.sklearn.inputs import is_table
from tandem.sklearn.loading import ModelEstimator

Classes = Labels | Mapping[int, str] | Mapping[str, str]
Floats = NDArray[np.float64]


class NamedClassifier(ClassifierMixin, ModelEstimator):  # type: ignore[misc]
    """Compares the vectors of images with those of classes, which have names."""

    classes: Classes | None
    templates: str | Sequence[str] | None
    language: str | None

    classes_: NDArray[Any]
    class_vectors_: NDArray[np.float32]
    logit_scale_: float
    fingerprint_: str

    def _fit_names(self, X: Any, y: Any) -> tuple[NDArray[Any] | None, NDArray[Any] | None, list[str]]:
        """Embed the names of the classes.

        Returns `X` if it is a table [n d], `y` [n] if there is one, and the names in the order of `classes_` [c].
        """
        if y is not None:
            y = column_or_1d(y, warn=True)
            assert_all_finite(y, input_name="y")
            check_classification_targets(y)
            check_consistent_length(X, y)
        for name in ("n_features_in_", "feature_names_in_"):  # of an earlier fit
            if hasattr(self, name):
                delattr(self, name)
        model = self._loaded()
        table = validate_data(self, X) if is_table(X) else None
        values, names = self._named(y)
        if table is not None:
            table = self._vectors(table, model.config.embed_dim)
        vectors = model.class_vectors(names, self.templates, language=self.language)
        self.fingerprint_ = model.fingerprint
        self.classes_, self.class_vectors_, self.logit_scale_ = values, vectors, model.logit_scale
        return table, y, list(names)

    def decision_function(self, X: Any) -> Floats:
        """Cosines times the model's scale, float64 [n c]. Of two classes, the second's less the first's [n]."""
        logits = self._logits(X)
        return logits[:, 1] - logits[:, 0] if logits.shape[1] == 2 else logits

    def predict_proba(self, X: Any) -> Floats:
        """Softmax over `classes_`, float64 [n c]: which class fits best, not whether any fits."""
        return np.asarray(softmax(self._logits(X)))

    def predict(self, X: Any) -> NDArray[Any]:
        """The likeliest class of each image [n]."""
        best = self._logits(X).argmax(axis=1)
        return np.asarray(self.classes_[best])

    @abstractmethod
    def _of_directions(self, directions: Floats) -> Floats:
        """Vectors of unit length [n d] -> logits [n c]."""

    def _logits(self, X: Any) -> Floats:
        check_is_fitted(self)
        return self._of_directions(unit_length(self._table(X) if is_table(X) else self._embed(X)))

    def _table(self, X: Any) -> NDArray[Any]:
        """A table as an array [n d]."""
        # What was fitted on images has no number of features to compare with.
        array = validate_data(self, X, reset=False) if hasattr(self, "n_features_in_") else check_array(X)
        return self._vectors(array, self.class_vectors_.shape[1])

    def _vectors(self, table: NDArray[Any], dimensions: int) -> NDArray[Any]:
        """Return a table [n d]. Raises `ValueError` if d is not that of the model."""
        if table.shape[1] != dimensions:
            raise ValueError(
                f"expected images, or vectors of {dimensions} dimensions by this model, got {table.shape[1]}"
            )
        return table

    def _named(self, y: NDArray[Any] | None) -> tuple[NDArray[Any], Labels]:
        """The classes in their order, and the name of each."""
        if self.classes is None:
            if y is None:
                raise ValueError(
                    f"{type(self).__name__} requires y to be passed, but the target y is None; or give it `classes`"
                )
            values = np.unique(y)
            if not all(isinstance(value, str) for value in values):
                raise ValueError(
                    f"y: expected the names of classes, got {values[:1].tolist()[0]!r}; say what the values mean, "
                    "as in classes={0: 'cat', 1: 'dog'}"
                )
            return values, [str(value) for value in values]
        given = self.classes
        if isinstance(given, str) or not isinstance(given, Mapping | Sequence | np.ndarray) or not len(given):
            raise ValueError(f"classes: expected names in a list, or a mapping to names, got {given!r}")
        keys: list[Any] = list(given)
        if len({isinstance(key, str) for key in keys}) > 1:
            raise ValueError("classes: expected names, or a mapping from values of one type, got several types")
        values = np.unique(keys)
        if len(values) < len(keys):
            raise ValueError("classes: expected each name once")
        unknown = [] if y is None else [value for value in np.unique(y).tolist() if value not in values.tolist()]
        if unknown:
            hint = "; say what the values mean, as in classes={0: 'cat', 1: 'dog'}" if isinstance(keys[0], str) else ""
            raise ValueError(f"y: {unknown[0]!r} is not among the classes{hint}")
        if not isinstance(given, Mapping):
            return values, [str(value) for value in values]
        in_order = {value: given[value] for value in values.tolist()}
        if all(isinstance(name, Mapping) for name in in_order.values()):
            return values, in_order  # type: ignore[return-value]
        return values, list(in_order.values())  # type: ignore[arg-type]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        return tags


def unit_length(vectors: NDArray[Any]) -> Floats:
    """Rows of unit length, float64; one of zeros stays."""
    rows = np.asarray(vectors, dtype=np.float64)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(lengths > 0, lengths, 1))
