"""What is scored, row by row, and what came of some rows. Knows no model and no files."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from tandem.answer import Failure
from tandem.clip_score.formulas import Floats
from tandem.errors import ImageError
from tandem.files import display_name
from tandem.image import ImageSource

Value: TypeAlias = str  # a name of `ScoredRows.values`
DIGITS = 7  # float32 has no more


@dataclass(frozen=True, eq=False)
class ScoreRow:
    """One image to score, and what it is compared with."""

    image: ImageSource
    prompt: str | None = None
    references: tuple[str, ...] = ()  # for RefCLIPScore: what people wrote of the image
    source_image: ImageSource | None = None  # what the image was made from
    source_prompt: str | None = None  # a text for the source image, of which `prompt` is the edited form
    place: str = ""  # what to call the row in messages, such as `prompts.csv, line 3`
    error: ImageError | None = None  # why no image of it is opened


@dataclass(frozen=True)
class Cut:
    """A text of more tokens than the model reads, and how many of them were not read."""

    row: int  # among the rows given
    text: str
    tokens: int  # of the whole text, without start and end
    cut: int


@dataclass(frozen=True, eq=False)
class ScoredRows:
    """The scores of some rows, in order: those whose images could be read."""

    rows: Sequence[int]  # [b], among the rows given
    sources: Sequence[str]  # names of the images
    prompts: Sequence[str]
    # By name, each float32 [b]: the metrics; `cosine` of image and prompt; and of `other`, the same for the prompt of
    # another row, NaN where there is none.
    values: Mapping[Value, Floats]
    failures: Sequence[Failure] = field(default=())
    cut: Sequence[Cut] = field(default=())
    images: Sequence[ImageSource] = field(default=())
    failed_prompts: Mapping[int, str] = field(default_factory=dict)  # of rows in `failures` that have one

    def __len__(self) -> int:
        return len(self.rows)

    def as_dicts(self) -> list[dict[str, Any]]:
        """Plain values of each row, in order: its place among the rows given, the image, the prompt where it has one,
        the scores by name, and the tokens of its texts that were not read.
        """
        cut: Counter[int] = Counter()
        for each in self.cut:
            cut[each.row] += each.cut
        return [
            {
                "row": row,
                "image": display_name(self.sources[place]),
                **({"prompt": self.prompts[place]} if "cosine" in self.values else {}),
                **{name: plain(column[place]) for name, column in self.values.items() if name != "other"},
                "cut_tokens": cut[row],
            }
            for place, row in enumerate(self.rows)
        ]


def plain(value: float | np.floating[Any]) -> float:
    """A float32 as the shortest number of its precision."""
    return float(f"{value:.{DIGITS}g}")
