"""`fit_head`: labelled vectors to a head, by one of the methods in the table.

Shapes: n images, d the shared dimension, c classes.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import ArrayLike

from tandem.arrays import Vectors
from tandem.errors import TandemError, did_you_mean
from tandem.heads import gda, nearest_mean
from tandem.heads.clap import fit_clap, fit_zs_lp
from tandem.heads.gda import fit_gda
from tandem.heads.head import Head
from tandem.heads.linear import LinearFit
from tandem.heads.nearest_mean import fit_nearest_mean
from tandem.heads.shots import Shots, check_shots
from tandem.heads.sweep import fit_linear_probe


@dataclass(frozen=True)
class Method:
    """A method, and all that others know of it."""

    title: str
    fit: Callable[..., LinearFit]  # of shots and the settings
    settings: tuple[str, ...] = ()  # what it takes beside the shots
    least_images: int = 1  # of every class, from which it can choose its own settings
    leave_one_out: Callable[[Shots], Vectors] | None = None  # in closed form, from two images of every class
    learned_from: int | None = None  # images of every class from which `learn` takes it unasked; None: not offered


METHODS = {
    "clap": Method("CLAP", fit_clap, learned_from=1),
    "zs_lp": Method("ZS-LP", fit_zs_lp),
    "gda": Method("GDA", fit_gda, ("alpha",), 2, gda.leave_one_out, learned_from=8),  # ahead of CLAP (docs/log.md)
    "nearest_mean": Method("nearest mean", fit_nearest_mean, leave_one_out=nearest_mean.leave_one_out),
    "linear_probe": Method("linear probe", fit_linear_probe, ("C", "seed"), 2),
}
AUTO = "auto"


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
    return head_of(method, shots, fingerprint=fingerprint, **settings)


def head_of(method: str, shots: Shots, *, fingerprint: str, **settings: Any) -> Head:
    """What `fit_head` does with shots that are checked."""
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
    """Weights and biases alone."""
    if method not in METHODS:
        raise TandemError(f"unknown method {method!r}{did_you_mean(method, METHODS)}; expected one of {_list(METHODS)}")
    taken = METHODS[method].settings
    for name in settings:
        if name not in taken:
            raise TandemError(f"{method} has no setting {name!r}: it takes {_list(taken) or 'none'}")
    return METHODS[method].fit(shots, **settings)


def check_learned(method: str) -> None:
    """Raise `TandemError` for a method that `learn` does not offer."""
    offered = [AUTO, *(name for name, each in METHODS.items() if each.learned_from is not None)]
    if method not in offered:
        raise TandemError(f"method: expected one of {_list(offered)}, got {method!r}{did_you_mean(method, offered)}")


def automatic(least: int) -> str:
    """The method that `learn` takes unasked where every class has at least so many images."""
    fit = {name: each.learned_from for name, each in METHODS.items() if each.learned_from is not None}
    return max((name for name, images in fit.items() if images <= least), key=fit.__getitem__)


def _list(names: Iterable[str]) -> str:
    return ", ".join(names)
