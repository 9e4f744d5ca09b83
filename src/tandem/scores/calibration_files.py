"""Stores calibrations: in a model's folder, and the user's own for each model.

A user's own takes precedence over the one in the model's folder. Files of earlier versions stay readable.
Knows files; the arithmetic is in `relevance`, the fitting in `calibration`.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from shlex import quote
from typing import Any, Protocol, get_args

from tandem.errors import ConfigError, TandemError
from tandem.fields import read, renamed
from tandem.scores.measured_files import MeasuredFile, MeasuredModel, Read
from tandem.scores.query_prior import QueryPrior
from tandem.scores.relevance import MEASURED, Calibration, Coefficients, MeasuredKind, QueryKind
from tandem.scores.scoring import LabelCoefficients

FILE = "relevance.json"  # in a model's folder
_VERSION = 4
_READABLE = (2, 3, _VERSION)
# Version 2 had other names for the same numbers.
_V2_KINDS = {"words": "text", "picture": "image", "experience": "query_prior"}
_V2_COEFFICIENTS = {
    "constant": "intercept",
    "score": "score_coef",
    "standing": "z_score_coef",
    "size": "size_coef",
    "freely": "mean_coef",
    "spread": "std_coef",
    "largest": "max_size",
    "mean": "baseline_mean",
    "deviation": "baseline_std",
    "length": "length_coef",
    "experience": "prior_coef",
    "experience_size": "prior_size_coef",
}
_V2_PRIOR = {"right": "precision"}
_AREA = "auc_present_emptied"  # in the report of versions 2 and 3, which had no areas of their own


class CalibratedModel(MeasuredModel, Protocol):
    """What is asked of a model."""

    @property
    def hides_source(self) -> bool: ...


def load_calibration(model: CalibratedModel) -> Calibration | None:
    """The calibration of this model: the user's own, else the one in the model's folder, else None.

    A calibration of other weights is ignored with a warning. Raises `TandemError` for an invalid file.
    """
    return _FILE.load(model)


def save_calibration(calibration: Calibration, path: Path | None = None) -> Path:
    """Keep a calibration where `load_calibration` finds it, or at `path`. The file is written whole or not at all.

    It replaces the user's own earlier one, and is used instead of the one in the model's folder (`replaced_by_own`).
    """
    return _FILE.save(to_json(calibration), calibration.fingerprint, path)


def how_to_calibrate(model: CalibratedModel) -> str:
    """The command that makes a calibration, as the rest of a sentence.

    A server says this to others, who are not to learn where its files are (`hides_source`).
    """
    source = model.checkpoint.source
    name = "FOLDER, the model's folder" if model.hides_source and Path(source).exists() else quote(source)
    return f"to make one from images with captions: tandem calibrate captions.parquet --model {name}"


def own_path(fingerprint: str) -> Path:
    """Where the user's own calibration of a model is kept."""
    return _FILE.own_path(fingerprint)


def shipped_path(model: CalibratedModel) -> Path:
    """Where a calibration that came with the model would be: in its folder."""
    return _FILE.shipped_path(model)


def replaced_by_own(model: CalibratedModel) -> Path | None:
    """The calibration file that a new one of the user would replace: the user's earlier one, else the model's."""
    return next(iter(_FILE.existing(model)), None)


def reset_calibration(fingerprint: str) -> bool:
    """Remove the user's own calibration of a model, so that the one in its folder is used again.

    Returns whether there was one.
    """
    path = own_path(fingerprint)
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise TandemError(f"{path}: cannot be removed: {error.strerror or error}") from None
    return True


# --- as text ---------------------------------------------------------------------------------------------------------


def to_json(calibration: Calibration) -> str:
    """As text that `from_json` reads."""
    plain = {
        "version": _VERSION,
        "fingerprint": calibration.fingerprint,
        "model": calibration.model,
        **{kind: asdict(calibration.coefficients(kind)) for kind in get_args(QueryKind)},
        "query_prior": calibration.query_prior.to_dict(),
        "labels": None if calibration.labels is None else asdict(calibration.labels),
        "areas": {kind: {str(size): area for size, area in each.items()} for kind, each in calibration.areas.items()},
        "figures": dict(calibration.figures),
    }
    return json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def from_json(text: str, source: str = FILE) -> Calibration:
    """Raises `TandemError`, naming `source`, for anything but what `to_json` writes, now or in versions 2 and 3."""
    try:
        plain = json.loads(text)
        version = plain.pop("version")
        if version not in _READABLE:
            raise ValueError(version)
        if version == 2:
            plain = _from_version_2(plain)
        if version < _VERSION:
            plain = _from_version_3(plain)
        kinds: dict[str, Coefficients] = {kind: read(Coefficients, plain.pop(kind)) for kind in get_args(QueryKind)}
        prior = QueryPrior.from_dict(plain.pop("query_prior"))
        labels, areas = plain.pop("labels"), plain.pop("areas")
        calibration = Calibration(
            text=kinds["text"],
            image=kinds["image"],
            mixed=kinds["mixed"],
            query_prior=prior,
            labels=None if labels is None else read(LabelCoefficients, labels),
            areas=_areas(areas),
            **plain,
        )
    except (ConfigError, ValueError, TypeError, KeyError, AttributeError):
        raise TandemError(
            f"{source}: expected a calibration of version {_VERSION}; run tandem calibrate again"
        ) from None
    return calibration


def _read(text: str, source: str) -> Read[Calibration]:
    found = from_json(text, source)
    return Read(found, found.fingerprint, found.model)


_FILE = MeasuredFile(FILE, "relevance", _read, "; calibrate this model with tandem calibrate")


def _areas(plain: Mapping[str, Mapping[str, Any]]) -> dict[MeasuredKind, dict[int, float]]:
    """Areas by kind of query and number of images. Raises ValueError or TypeError."""
    found: dict[MeasuredKind, dict[int, float]] = {
        kind: {int(size): float(area) for size, area in plain[kind].items()} for kind in MEASURED if kind in plain
    }
    each = [pair for sizes in found.values() for pair in sizes.items()]
    if len(found) < len(plain) or not all(size > 0 and 0 <= area <= 1 for size, area in each):
        raise ValueError("expected areas in 0..1, by kind of query and number of images")
    return found


def _from_version_3(plain: Mapping[str, Any]) -> dict[str, Any]:
    """The areas are in the report, where there is one."""
    queries = plain["figures"].get("queries", {})
    areas: dict[str, dict[str, Any]] = {}
    for kind, report in queries.items():
        for size, found in report.get("collections", {}).items():
            if found.get(_AREA) is not None:
                areas.setdefault(kind, {})[size] = found[_AREA]
    return {**plain, "labels": None, "areas": {kind: areas[kind] for kind in MEASURED if kind in areas}}


def _from_version_2(plain: Mapping[str, Any]) -> dict[str, Any]:
    plain = renamed(plain, _V2_KINDS)
    for kind in get_args(QueryKind):
        plain[kind] = renamed(plain[kind], _V2_COEFFICIENTS)
    plain["query_prior"] = renamed(plain["query_prior"], _V2_PRIOR)
    return plain
