"""What is scored, row by row, and what came of some rows. Knows no model and no files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from tandem.answer import Failure
from tandem.clip_score.formulas import METRICS, Floats, Metric
from tandem.errors import DataError
from tandem.image import ImageSource

Value: TypeAlias = str  # a name of `ScoredRows.values`


@dataclass(frozen=True, eq=False)
class ScoreRow:
    """One image to score, and what it is compared with."""

    image: ImageSource
    prompt: str | None = None
    references: tuple[str, ...] = ()  # for RefCLIPScore: what people wrote of the image
    source_image: ImageSource | None = None  # what the image was made from
    source_prompt: str | None = None  # a text for the source image, of which `prompt` is the edited form
    place: str = ""  # what to call the row in messages, such as `prompts.csv, line 3`


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

    def __len__(self) -> int:
        return len(self.rows)


def check_row(row: ScoreRow, index: int, metrics: Sequence[Metric]) -> None:
    """Raise `DataError` where the row lacks what a metric needs."""
    for metric in metrics:
        for need in METRICS[metric].needs:
            value = getattr(row, need)
            if value is None or (need != "source_image" and not value):
                place = row.place or f"row {index}"
                raise DataError(f"{place}: {METRICS[metric].title} needs a {need.rstrip('s').replace('_', ' ')}")
            texts = value if need == "references" else [value] if need != "source_image" else []
            if wrong := next((each for each in texts if not isinstance(each, str)), None):
                raise DataError(f"{row.place or f'row {index}'}: {need}: expected text, got {type(wrong).__name__}")
