"""Estimators for scikit-learn: they go into pipelines, searches over parameters and cross-validation.

Images are what `Model.embed_images` takes; vectors are its rows. As the protocol of scikit-learn has it, input that an
estimator does not take raises `ValueError`; a model that cannot be loaded, or an image that cannot be read, raises the
errors of Tandem.
"""

from tandem.errors import MissingExtraError

try:
    import sklearn as _sklearn  # noqa: F401
except ImportError:
    raise MissingExtraError("scikit-learn", "sklearn", "tandem.sklearn") from None

from tandem.sklearn.features import TandemFeatures
from tandem.sklearn.few_shot import HeadClassifier
from tandem.sklearn.zero_shot import ZeroShotClassifier

__all__ = ["HeadClassifier", "TandemFeatures", "ZeroShotClassifier"]
