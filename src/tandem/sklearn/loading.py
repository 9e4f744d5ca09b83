"""The model of an estimator: loaded once per process, never another than `fit` saw.

scikit-learn copies an estimator for each fold and each candidate, and joblib pickles it for each task: without a cache
every copy would load its model again.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from pathlib import Path
from typing import Any, Literal

from sklearn.base import BaseEstimator

from tandem.arrays import Vectors
from tandem.engine import EngineName, Precision
from tandem.errors import TandemError
from tandem.files import user_path
from tandem.image import ImageSource, Limits
from tandem.model import Model, load
from tandem.sklearn.inputs import images_in

CACHED_MODELS = 2  # a search that compares models goes through them one after another
# Parameters of `tandem.load`
_DEFAULTS: dict[str, Any] = {"engine": "auto", "device": None, "precision": "auto", "orient": True, "limits": None}
_FILES = "_model_files"

_models: "OrderedDict[Hashable, Model]" = OrderedDict()  # the one used last at the end
_lock = threading.Lock()


class ModelEstimator(BaseEstimator):  # type: ignore[misc]
    """What the estimators share: parameters of `tandem.load`, and the model that they lead to."""

    model: "Model | str | Path | None"
    engine: EngineName
    device: str | None
    precision: Precision
    orient: bool
    limits: Limits | None
    batch_size: int
    verbose: bool

    def _load(self) -> Model:
        """The model. Raises `TandemError` if it is another one than `fit` saw: vectors of two models do not compare."""
        model = self._loaded()
        fitted = getattr(self, "fingerprint_", None)
        if fitted is not None and model.fingerprint != fitted:
            raise TandemError(
                f"{type(self).__name__}: expected the model it was fitted with, of the fingerprint {fitted[:12]}; "
                f"{model.name} now has {model.fingerprint[:12]}; fit again"
            )
        return model

    def _loaded(self) -> Model:
        options: dict[str, Any] = {name: getattr(self, name) for name in _DEFAULTS}
        if isinstance(self.model, Model):
            for name, value in options.items():
                if value != _DEFAULTS[name]:
                    raise ValueError(
                        f"{name}={value!r}: expected none beside a loaded model, which has its own; give it to "
                        "tandem.load, or give the model's source"
                    )
            return self.model
        if self.model is not None and not isinstance(self.model, str | Path):
            raise ValueError(
                f"model: expected a source (a folder, a file or a name), a tandem.Model, or None, "
                f"got {type(self.model).__name__}"
            )
        source = self.model
        return _cached((source, files_state(source), *options.values()), lambda: load(source, **options))

    def _images(self, X: Any) -> Iterable[ImageSource]:
        """The images of `X`. Raises `ValueError` for anything else."""
        return images_in(X, type(self).__name__)

    def _embed(self, X: Any, on_error: Literal["raise", "nan"] = "raise") -> Vectors:
        """The vectors of images, float32 [n d]."""
        images, progress = self._images(X), None if self.verbose else False
        return self._load().embed_images(images, batch_size=self.batch_size, on_error=on_error, progress=progress)

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()
        if isinstance(self.model, Model):
            return {**state, "model": _Pickled(self.model)}
        # A pipeline's `memory` finds what it kept by the hash of a pickle: it should miss after a model was changed.
        return {**state, _FILES: files_state(self.model)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__({name: value for name, value in state.items() if name != _FILES})


class _Pickled:
    """Stands for a loaded model in a pickle: a process that unpickles it several times loads the model once."""

    def __init__(self, model: Model) -> None:
        self.model = model

    def __reduce__(self) -> tuple[Callable[..., Model], tuple[Any, ...]]:
        return _again, self.model.__reduce__()


def _again(make: Callable[..., Model], arguments: tuple[Any, ...]) -> Model:
    source, fingerprint, options = arguments
    return _cached((source, fingerprint, *options.values()), lambda: make(*arguments))


def _cached(key: Hashable, make: Callable[[], Model]) -> Model:
    with _lock:  # also while loading: threads that want the same model wait for it
        model = _models.pop(key, None) or make()
        _models[key] = model
        while len(_models) > CACHED_MODELS:
            _models.popitem(last=False)
    return model


def files_state(source: str | Path | None) -> tuple[tuple[str, int, int], ...]:
    """Name, size and time of a local model's files: one that was written again is loaded again."""
    if source is None:
        return ()
    path = user_path(source, strict=False)
    files = sorted(path.iterdir()) if path.is_dir() else [path] if path.is_file() else []
    return tuple((file.name, (status := file.stat()).st_size, status.st_mtime_ns) for file in files)
