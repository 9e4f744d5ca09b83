"""Images to vectors, as a transformer of scikit-learn."""

from pathlib import Path
from typing import Any, Literal, Self

from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin

from tandem.arrays import Vectors
from tandem.defaults import BATCH_SIZE
from tandem.engine import EngineName, Precision
from tandem.image import Limits
from tandem.model import Model
from tandem.sklearn.loading import ModelEstimator


class TandemFeatures(ClassNamePrefixFeaturesOutMixin, TransformerMixin, ModelEstimator):  # type: ignore[misc]
    """A model's vectors as features: several images -> float32 [n d], of unit length.

    `X` is a list, a column of a data frame or an array of paths, or of http(s) URLs, PIL images, bytes or arrays
    [h w 3]; or an array [n h w 3]. A table of numbers is refused: it holds no images.

    Nothing is learnt: `fit` notes which model it was, and `transform` works without it. The model is loaded once per
    process for all copies with the same parameters. A fitted transformer, unpickled too, refuses to go on with another
    model.

    Parameters:
        model: a source that `tandem.load` takes, a loaded model, or None for the model that ships with Tandem.
        batch_size: images that are encoded at once.
        on_error: "raise" raises the `ImageError` of the first image that cannot be read; "nan" warns, and fills its row
            with NaN.
        engine: as for `tandem.load`, like `device`, `precision`, `orient` and `limits` (which may forbid URLs). A model
            that is loaded already has its own.
        verbose: show a progress bar for many images.

    Attributes:
        fingerprint_: of the model, once fitted.
    """

    def __init__(
        self,
        model: "Model | str | Path | None" = None,
        *,
        batch_size: int = BATCH_SIZE,
        on_error: Literal["raise", "nan"] = "raise",
        engine: EngineName = "auto",
        device: str | None = None,
        precision: Precision = "auto",
        orient: bool = True,
        limits: Limits | None = None,
        verbose: bool = False,
    ) -> None:
        self.model = model
        self.batch_size = batch_size
        self.on_error = on_error
        self.engine = engine
        self.device = device
        self.precision = precision
        self.orient = orient
        self.limits = limits
        self.verbose = verbose

    def fit(self, X: Any = None, y: Any = None) -> Self:
        """Load the model and note its fingerprint. No image is read; `X` may be None, and `y` is ignored."""
        if X is not None:
            self._images(X)
        self.fingerprint_ = self._loaded().fingerprint
        return self

    def transform(self, X: Any) -> Vectors:
        """The vectors of images, float32 [n d], in their order; a data frame where `set_output` says so."""
        return self._embed(X, self.on_error)

    @property
    def _n_features_out(self) -> int:  # what the names of the features are made from
        return self._load().config.embed_dim

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.no_validation = True  # images have no number of features, and no NaN
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        tags.transformer_tags.preserves_dtype = []
        return tags
