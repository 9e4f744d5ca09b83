"""How well images fit their texts, other images, or an edit: CLIPScore and its relatives, for folders of any size.

The names here are imported on first use.
"""

from typing import TYPE_CHECKING

from tandem.lazy_names import lazy

if TYPE_CHECKING:
    from tandem.clip_score.results import Scores
    from tandem.clip_score.rows import ScoreRow
    from tandem.clip_score.scoring import (
        clip_score,
        directional_similarity,
        image_similarity,
        iter_scores,
        ref_clip_score,
    )

__all__ = [
    "ScoreRow",
    "Scores",
    "clip_score",
    "directional_similarity",
    "image_similarity",
    "iter_scores",
    "ref_clip_score",
]

_HOMES = dict.fromkeys(__all__, "tandem.clip_score.scoring") | {
    "ScoreRow": "tandem.clip_score.rows",
    "Scores": "tandem.clip_score.results",
}

__getattr__ = lazy(globals(), _HOMES)
