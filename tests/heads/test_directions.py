"""Letters that turn the direction of text are in no class's name."""

import unicodedata

from tandem.heads import head_file


def test_every_letter_that_sets_a_direction_is_known() -> None:
    """Those whose bidirectional class says so, and the three marks."""
    kinds = {"LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI"}
    explicit = {chr(code) for code in range(0x3000) if unicodedata.bidirectional(chr(code)) in kinds}
    assert explicit | {"\u061c", "\u200e", "\u200f"} == head_file._DIRECTIONS
