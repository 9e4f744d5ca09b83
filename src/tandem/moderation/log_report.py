"""What a log says in sum: the images in each band, category by category, and with labels how often that was right.

Of an image that was decided several times by a policy, the last decision counts. Knows logs and labelled images; no
model.

Shapes: n images.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tandem.datasets.dataset import Dataset
from tandem.errors import DataError
from tandem.evaluate.figures import Figure
from tandem.moderation.category_fitting import band_figures
from tandem.moderation.decisions import BANDS, is_flagged
from tandem.moderation.labelled import classes_of
from tandem.search.indexing.image_record import digest_of_id, id_of_digest

HARDEST = 20  # images that are listed of each kind


@dataclass(frozen=True)
class Logged:
    """An image in a log, by one category: what was said of it."""

    image: str
    band: str
    score: float
    probability: float | None
    fitted_on: bool | None = None  # whether the fit was made from it; None where that is not known

    def as_dict(self) -> dict[str, Any]:
        return {"image": self.image, "band": self.band, "score": self.score, "probability": self.probability}


@dataclass(frozen=True)
class CategoryReport:
    """A category of a log. What needs labels is empty without them."""

    policy: str
    category: str
    bands: Mapping[str, int]
    mean_probability: float | None  # of the images that have one: about the base rate, where that was stated rightly
    labelled: int = 0
    # Of labelled images with a probability, for no others were judged, and that the fit was not made from.
    figures: Mapping[str, Figure] | None = None
    fitted_on: int = 0  # of the labelled: images that the fit was made from
    unknown: int = 0  # of the labelled with a probability: images of which that is not known
    hard_negatives: Sequence[Logged] = ()  # images without the category, the highest scores first
    missed: Sequence[Logged] = ()  # images with it that were allowed, the lowest scores first

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        found: dict[str, Any] = {
            "policy": self.policy,
            "category": self.category,
            "bands": dict(self.bands),
            "mean_probability": self.mean_probability,
        }
        if self.figures is not None:
            found |= {
                "labelled": self.labelled,
                "fitted_on": self.fitted_on,
                "unknown_whether_fitted_on": self.unknown,
                "figures": {name: figure.as_dict() for name, figure in self.figures.items()},
                "hard_negatives": [each.as_dict() for each in self.hard_negatives],
                "missed": [each.as_dict() for each in self.missed],
            }
        return found


def report(
    entries: Iterable[Mapping[str, Any]],
    labelled: Dataset | None = None,
    *,
    shows: Mapping[str, Sequence[str]] | None = None,
) -> list[CategoryReport]:
    """Every category of every policy in a log (`audit_log.read_entries`).

    `labelled` and `shows` as for `fit_policy`; images are found by their content. Raises `DataError` for entries that
    are none, and where no image of the log has a label.
    """
    last: dict[tuple[str, str], dict[str, tuple[str, Logged]]] = {}
    for entry in entries:
        try:
            key = str(entry.get("sha256") or entry.get("id") or entry["image"])
            for name, each in entry["categories"].items():
                probability = each["probability"]
                said = Logged(
                    str(entry["image"]),
                    str(each["band"]),
                    float(each["score"]),
                    None if probability is None else float(probability),
                    entry.get("fitted_on"),
                )
                last.setdefault((str(entry["policy"]["name"]), str(name)), {})[key] = key, said
        except (KeyError, TypeError, AttributeError, ValueError):
            raise DataError(f"line {entry.get('n')}: expected a decision as tandem moderate logs it") from None
    names = _names(labelled)
    reports = [
        _category(policy, name, list(found.values()), labelled, names, shows or {})
        for (policy, name), found in last.items()
    ]
    if labelled is not None and reports and not any(each.labelled for each in reports):
        raise DataError(
            f"{labelled.name}: none of its images with a class of the log's categories is in the log; images are found "
            "by their content, so the labelled files must be those that were moderated"
        )
    return reports


def _names(labelled: Dataset | None) -> dict[str, int]:
    """The places of labelled images, by what a log may call their content."""
    found: dict[str, int] = {}
    for place, digest in enumerate(labelled.digests if labelled is not None else ()):
        found[digest.hex()] = place
        found[id_of_digest(digest.hex())] = place  # the id of an indexed file
    return found


def _place(names: Mapping[str, int], key: str) -> int | None:
    """The labelled image of a file's digest, or of a collection's id, which begins as that does.

    Labelled collections know the digest of an image's id.
    """
    for known in (key, id_of_digest(key), digest_of_id(id_of_digest(key)).hex()):
        if known in names:
            return names[known]
    return None


def _category(
    policy: str,
    name: str,
    found: list[tuple[str, Logged]],
    labelled: Dataset | None,
    names: Mapping[str, int],
    shows: Mapping[str, Sequence[str]],
) -> CategoryReport:
    bands: dict[str, int] = {band: sum(said.band == band for _, said in found) for band in BANDS}
    stated = [said.probability for _, said in found if said.probability is not None]
    plain = CategoryReport(policy, name, bands, float(np.mean(stated)) if stated else None)
    matrix = None if labelled is None else classes_of([name], labelled, shows).get(name)
    if matrix is None:
        return plain
    pairs = [(said, bool(matrix[place])) for key, said in found if (place := _place(names, key)) is not None]
    if not pairs:
        return plain
    shown = np.array([each for _, each in pairs])
    scores = np.array([said.score for said, _ in pairs])
    judged = [(said, there) for said, there in pairs if said.probability is not None]
    fresh = [(said, there) for said, there in judged if not said.fitted_on]
    figures = _figures(fresh) if fresh else {}
    order = np.argsort(-scores, kind="stable").tolist()
    return CategoryReport(
        policy,
        name,
        bands,
        plain.mean_probability,
        len(pairs),
        figures,
        len(judged) - len(fresh),
        sum(said.fitted_on is None for said, _ in judged),
        [pairs[place][0] for place in order if not shown[place]][:HARDEST],
        [pairs[place][0] for place in reversed(order) if shown[place] and pairs[place][0].band == "allow"][:HARDEST],
    )


def _figures(judged: Sequence[tuple[Logged, bool]]) -> dict[str, Figure]:
    """How often the bands were right, of images with a probability and what they show."""
    shown = np.array([there for _, there in judged])
    blocked = np.array([said.band == "block" for said, _ in judged])
    flagged = np.array([is_flagged(said.band) for said, _ in judged])
    share = float(shown.mean())
    return band_figures(blocked, flagged, shown, share) if 0 < share < 1 else {}
