"""How a model wants its texts, as one value: cleaned, and between which tokens."""

from dataclasses import dataclass

from tandem.config import Cleaning, TextTower


@dataclass(frozen=True)
class TextFormat:
    """The cleaning of texts, and the tokens that start, end and pad them. The defaults are CLIP's."""

    start_id: int | None = 49406  # None: texts begin without a token of their own
    end_id: int | None = 49407  # None: and end without one
    pad_id: int = 0
    cleaning: Cleaning = "clip"

    @classmethod
    def of(cls, text: TextTower) -> "TextFormat":
        """That of a text tower's description."""
        return cls(text.start_id, text.end_id, text.pad_id, text.cleaning)

    @property
    def added(self) -> int:
        """The number of tokens around each text: 0, 1 or 2."""
        return (self.start_id is not None) + (self.end_id is not None)
