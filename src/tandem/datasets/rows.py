"""What a layout finds in a source: rows with labels and captions as they are written there. Knows no classes yet."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from tandem.datasets.data_files import in_line
from tandem.datasets.dataset import StoredVectors
from tandem.datasets.images import Images

Label: TypeAlias = str | int  # a name, or a number: the place of a name in a list
ClassNames: TypeAlias = Sequence[str] | Mapping[str, str]  # by number, or by what is written


@dataclass(frozen=True)
class Request:
    """What was asked of a source."""

    source: str
    split: str | None = None
    label: str | None = None  # the column, or key, of labels; None for the usual ones
    caption: str | None = None
    where: str | None = None  # a filter over the columns


@dataclass(frozen=True)
class Rows:
    """Images in a fixed order, with what was written about each."""

    name: str
    keys: Sequence[str]
    images: Images
    labels: Sequence[tuple[Label, ...] | None] | None = None  # None: no labels at all, or no label of this row
    captions: Sequence[tuple[str, ...]] | None = None
    split: str | None = None
    class_names: ClassNames | None = None  # that came with the source
    class_order: Sequence[str] | None = None  # the labels that a bare list of class names stands for, where known
    templates: tuple[str, ...] | None = None
    multi_label: bool = False
    places: Sequence[str] | None = None  # what to call rows in messages, where keys do not say it
    stored: StoredVectors | None = None  # of all rows
    notes: tuple[str, ...] = field(default=())

    def place(self, row: int) -> str:
        """What to call a row in a message."""
        return in_line(self.places[row] if self.places is not None else self.keys[row])
