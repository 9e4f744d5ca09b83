"""`fit_head`: labelled vectors to a head, by one of the methods in the table.

Shapes: n images, d the shared dimension, c classes.
"""

from collections.abc import Callable, Sequence
from typing import Any

from numpy.typing import ArrayLike

from tandem.errors import TandemError, did_you_mean
from tandem.heads.clap import fit_clap, fit_zs_lp
from tandem.heads.gda import fit_gda
from tandem.heads.head import Head
from tandem.heads.linear import LinearFit
from tandem.heads.nearest_mean import fit_nearest_mean
from tandem.heads.shots import Shots, check_shots
from tandem.heads.sweep import fit_linear_probe

METHODS: dict[str, Callable[..., LinearFit]] = {
    "clap": fit_clap,
    "zs_lp": fit_zs_lp,
    "gda": fit_gda,
    "nearest_mean": fit_nearest_mean,
    "linear_probe": fit_linear_probe,
}
SETTINGS: dict[str, tuple[str, ...]] = {
    "gda": ("alpha",),
    "linear_probe": ("C", "seed"),
}  # what `fit_head` takes beside the shots


def fit_head(
    method: str,
    vectors: ArrayLike,
    labels: ArrayLike,
    classes: Sequence[str],
    class_vectors: ArrayLike,
    *,
    logit_scale: float,
    fingerprint: str,
    **settings: Any,
) -> Head:
    """A head for `classes` from vectors [n d] of unit length and their labels [n].

    `class_vectors` [c d] and `logit_scale` (exp of the checkpoint's: 100 for the original CLIP) are what zero-shot
    classifies with. `settings` are those of the method: `alpha` of "gda", `C` of "linear_probe" and
    the `seed` of the images that choose it. Its card has the
    method, the shots of each class and what the method found. Raises `TandemError` for an unknown method or setting
    and `DataError` for arrays that do not fit and for classes with too few images, by name.
    """
    shots = check_shots(vectors, labels, tuple(classes), class_vectors, logit_scale)
    fit = fit_shots(method, shots, **settings)
    card = {
        "method": method,
        "images": len(shots.labels),
        "shots": dict(zip(shots.classes, shots.counts.tolist(), strict=True)),
        "logit_scale": shots.logit_scale,
        **fit.facts,
    }
    return Head(shots.classes, fit.weights, fit.bias, fingerprint, method, card)


def fit_shots(method: str, shots: Shots, **settings: Any) -> LinearFit:
    """What `fit_head` does with shots that are checked."""
    if method not in METHODS:
        raise TandemError(f"unknown method {method!r}{did_you_mean(method, METHODS)}; expected one of {_list(METHODS)}")
    taken = SETTINGS.get(method, ())
    for name in settings:
        if name not in taken:
            raise TandemError(f"{method} has no setting {name!r}: it takes {_list(taken) or 'none'}")
    return METHODS[method](shots, **settings)


def _list(names: Sequence[str] | dict[str, Any]) -> str:
    return ", ".join(names)
