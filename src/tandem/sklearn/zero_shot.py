"""Zero-shot classification (Radford et al. 2021) as a classifier of scikit-learn.

Shapes: n images, d the shared dimension, c classes.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from tandem.defaults import BATCH_SIZE
from tandem.engine import EngineName, Precision
from tandem.image import Limits
from tandem.model import Model
from tandem.sklearn.named_classes import Classes, Floats, NamedClassifier


class ZeroShotClassifier(NamedClassifier):
    """Classifies images by the names of classes. It learns nothing from images: `fit` needs the names alone.

    `X` is several images, as for `TandemFeatures`, or a table of their vectors [n d] by the same model, as
    `TandemFeatures` gives in a pipeline; `fit` does not look at it, and it may be None. Vectors count as directions:
    their lengths make no difference. Unreadable images raise `ImageError`.

    Parameters:
        model: a source that `tandem.load` takes, a loaded model, or None for the model that ships with Tandem.
        classes: the names of the classes. None: the values of `y` are the names. A sequence: these names, whether `y`
            has them all or not. A mapping: the values that `y` has and `predict` gives, with the name of each
            (`{0: "cat", 1: "dog"}`); or names with their texts by language, as for `Model.classify`.
        templates: prompts with `{}` for the name; several are averaged. None: that of the language.
        language: of the names ("de"); None for English.
        batch_size: images that are encoded at once.
        engine: as for `tandem.load`, like `device`, `precision`, `orient` and `limits`. A model that is loaded already
            has its own.
        verbose: show a progress bar for many images.

    Attributes:
        classes_: the values that `predict` gives, sorted as in all classifiers of scikit-learn [c].
        class_vectors_: the vector of each class, float32 [c d] of unit length.
        logit_scale_: the factor of cosines before softmax.
        fingerprint_: of the model.
        n_features_in_: d, if it was fitted on vectors.
    """

    def __init__(
        self,
        model: "Model | str | Path | None" = None,
        *,
        classes: Classes | None = None,
        templates: str | Sequence[str] | None = None,
        language: str | None = None,
        batch_size: int = BATCH_SIZE,
        engine: EngineName = "auto",
        device: str | None = None,
        precision: Precision = "auto",
        orient: bool = True,
        limits: Limits | None = None,
        verbose: bool = False,
    ) -> None:
        self.model = model
        self.classes = classes
        self.templates = templates
        self.language = language
        self.batch_size = batch_size
        self.engine = engine
        self.device = device
        self.precision = precision
        self.orient = orient
        self.limits = limits
        self.verbose = verbose

    def fit(self, X: Any = None, y: Any = None) -> Self:
        """Embed the names of the classes. `y` gives them where `classes` does not; with both, `y` is checked."""
        self._fit_names(X, y)
        return self

    def _of_directions(self, directions: Floats) -> Floats:
        cosines = directions @ self.class_vectors_.T.astype(np.float64)
        return np.asarray(self.logit_scale_ * cosines)  # a bias makes no difference among classes

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = self.classes is None
        return tags
