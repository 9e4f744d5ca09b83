"""A head from a few labelled images (`tandem.heads`) as a classifier of scikit-learn.

Shapes: n images, d the shared dimension, c classes.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from tandem.defaults import BATCH_SIZE
from tandem.engine import EngineName, Precision
from tandem.heads.fitting import fit_head
from tandem.image import Limits
from tandem.model import Model
from tandem.sklearn.named_classes import Classes, Floats, NamedClassifier, unit_length


class HeadClassifier(NamedClassifier):
    """Learns a linear head from a few labelled images, beginning at what the names of the classes say.

    `X` is several images, as for `TandemFeatures`, or a table of their vectors [n d] by the same model; vectors count
    as directions. Every class needs images.

    Parameters:
        model: a source that `tandem.load` takes, a loaded model, or None for the model that ships with Tandem.
        method: of `tandem.heads.fitting`: "clap", "zs_lp", "gda", "nearest_mean" or "linear_probe".
        alpha: the weight of "gda". None: the method's own way.
        C: of "linear_probe". None: the method's own way.
        seed: of the images by which "linear_probe" chooses its C.
        classes: as for `ZeroShotClassifier`, like `templates` and `language`.
        batch_size: images that are encoded at once.
        engine: as for `tandem.load`, like `device`, `precision`, `orient` and `limits`. A model that is loaded already
            has its own.
        verbose: show a progress bar for many images.

    Attributes:
        head_: the `Head`; `tandem.heads.head_file.write_head` writes the file that `tandem classify --head` reads.
        classes_: the values that `predict` gives, sorted [c].
        class_vectors_: the vector of each class's name, float32 [c d] of unit length.
        fingerprint_: of the model.
        n_features_in_: d, if it was fitted on vectors.
    """

    def __init__(
        self,
        model: "Model | str | Path | None" = None,
        *,
        method: str = "clap",
        alpha: float | None = None,
        C: float | None = None,
        seed: int | None = None,
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
        self.method = method
        self.alpha = alpha
        self.C = C
        self.seed = seed
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

    def fit(self, X: Any, y: Any) -> Self:
        """Fit the head. Raises `DataError` for classes with too few images, and `TandemError` for an unknown method."""
        table, labels, names = self._fit_names(X, y)
        if labels is None:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None")
        vectors = unit_length(self._embed(X) if table is None else table)
        settings = {"alpha": self.alpha, "C": self.C, "seed": self.seed}
        self.head_ = fit_head(
            self.method,
            vectors,
            np.searchsorted(self.classes_, labels),
            names,
            self.class_vectors_,
            logit_scale=self.logit_scale_,
            fingerprint=self.fingerprint_,
            **{name: value for name, value in settings.items() if value is not None},
        )
        return self

    def _of_directions(self, directions: Floats) -> Floats:
        return np.asarray(directions @ self.head_.weights.T.astype(np.float64) + self.head_.bias)
