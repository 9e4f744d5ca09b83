"""How a model locates: by which method, in which windows, and what its scores mean there.

What was measured for a model is kept in `location.json` in its folder, or among the user's own files; every other model
has the settings of its architecture, and no probabilities.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tandem.config import ImageTower
from tandem.errors import ConfigError, TandemError
from tandem.fields import read
from tandem.localization.baseline import Baseline
from tandem.localization.methods import METHODS, Method
from tandem.scores.measured_files import MeasuredFile, MeasuredModel, Read

FILE = "location.json"
_VERSION = 1


@dataclass(frozen=True)
class Presence:
    """The log-odds that a text is there: intercept + best * (the logit of its best places) + whole * (of the image)."""

    intercept: float
    best: float
    whole: float

    def log_odds(self, logits: NDArray[np.float32], whole: NDArray[np.float32]) -> NDArray[np.float32]:
        """Of logits at places, and of the whole image, in shapes that broadcast."""
        return np.asarray(self.intercept + self.best * logits + self.whole * whole, np.float32)


@dataclass(frozen=True)
class LocateSettings:
    """How to look, and what was measured of it."""

    method: Method
    scales: tuple[float, ...]  # windows' sides, over the shorter side of the image
    stride: float  # between windows, over a window's side
    bandwidth: float  # of the Gaussian that spreads a place's score, over the place's side
    level: float  # of a box's edge: how far up from the map's lowest tenth to its peak
    best: int  # places, over whose logits a text's score is the mean
    baseline: Baseline | None = None  # what texts get where nobody looked for them; None: not measured
    presence: Presence | None = None  # None: not measured
    figures: Mapping[str, Any] = field(default_factory=dict)  # how it was measured, and what came out


# By architecture, where nothing was measured. Patches: windows of the size the model was trained at, over an image
# whose shorter side is 1.5 times as long, half a window apart (Hajimiri et al. 2024, 4.1: 336, 224 and 112 pixels).
_PATCHES = LocateSettings("naclip", (2 / 3,), 0.5, 0.5, 0.6, best=5)
_WINDOWS = LocateSettings("windows", (0.35, 0.25), 1 / 3, 0.25, 0.6, best=5)
_LEAST_GRID = 7  # positions along a side, from which a grid tells places apart better than windows do


def by_architecture(vision: ImageTower, method: Method | None = None) -> LocateSettings:
    """The settings of an image tower of which nothing was measured; of one method, where it is given.

    Raises `TandemError` for a method that the tower does not have.
    """
    dense = vision.dense_method
    if method is None:
        method = dense if dense is not None and vision.grid >= _LEAST_GRID else "windows"
    if method not in ("windows", dense):
        has = "windows" if dense is None else f"windows or {dense}"
        raise TandemError(f"method: this image tower has {has}, got {method!r}")
    return _WINDOWS if method == "windows" else replace(_PATCHES, method=method)


def load_settings(model: MeasuredModel) -> LocateSettings | None:
    """What was measured for this model: the user's own file, else the one in its folder, else None.

    Settings of other weights are ignored with a warning. Raises `TandemError` for an invalid file.
    """
    return _FILE.load(model)


def shipped_path(model: MeasuredModel) -> Path:
    """Where settings that came with the model would be: in its folder."""
    return _FILE.shipped_path(model)


def save_settings(settings: LocateSettings, fingerprint: str, path: Path | None = None) -> Path:
    """Keep settings where `load_settings` finds them, or at `path`."""
    return _FILE.save(to_json(settings, fingerprint), fingerprint, path)


def to_json(settings: LocateSettings, fingerprint: str) -> str:
    """As text that `from_json` reads."""
    baseline = None if settings.baseline is None else settings.baseline.to_dict()
    plain = {
        "version": _VERSION,
        "fingerprint": fingerprint,
        "settings": {**asdict(replace(settings, baseline=None)), "baseline": baseline},
    }
    return json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def from_json(text: str, source: str = FILE) -> tuple[str, LocateSettings]:
    """The fingerprint and the settings. Raises `TandemError`, naming `source`, for what `to_json` does not write."""
    try:
        plain = json.loads(text)
        if plain["version"] != _VERSION:
            raise ValueError(plain["version"])
        settings = plain["settings"]
        presence, baseline = settings.pop("presence"), settings.pop("baseline")
        found = LocateSettings(
            **{**settings, "scales": tuple(settings["scales"])},
            presence=None if presence is None else read(Presence, presence),
            baseline=None if baseline is None else Baseline.from_dict(baseline),
        )
        _check(found)
        return str(plain["fingerprint"]), found
    except (ConfigError, ValueError, TypeError, KeyError, AttributeError):
        raise TandemError(
            f"{source}: expected settings of locating, version {_VERSION}; delete it, "
            "and the model locates as others of its architecture do"
        ) from None


def _check(settings: LocateSettings) -> None:
    shares = (*settings.scales, settings.stride, settings.level)
    if settings.method not in METHODS or not settings.scales or not all(0 < share <= 1 for share in shares):
        raise ValueError("expected a method, and shares in 0..1")
    if not (
        isinstance(settings.bandwidth, float)
        and settings.bandwidth > 0
        and len(settings.scales) <= 8
        and settings.best >= 1
    ):
        raise ValueError("expected a bandwidth above 0")


def _read(text: str, source: str) -> Read[LocateSettings]:
    fingerprint, settings = from_json(text, source)
    return Read(settings, fingerprint)


_FILE = MeasuredFile(FILE, "location", _read)
