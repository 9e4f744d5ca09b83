"""Prompts as rows of words: what each weighs, which chunk it is in, and which words were cut.

Knows words and numbers; the caller passes them in. Lengths are inches.
"""

from collections.abc import Sequence
from typing import NamedTuple

from tandem.errors import DataError
from tandem.plots.page import BEST, FOOT, INK, MARGIN, QUIET, TRACK, Page, Target, short

WIDTH, LINE, CHUNK_GAP = 8.0, 0.34, 0.16
CHARACTER, PADDING, SPACE = 0.088, 0.14, 0.06  # of a font of fixed width at 10 points
_HEAVIER, _LIGHTER, _CUT = BEST, "#c2571a", "#b03a5b"
_FULL = 0.6  # a weight so far from 1 has the whole colour
MOST_WORDS = 600  # more are no drawing that anybody reads


class PromptWord(NamedTuple):
    """A word, its weight, and its chunk; None where it was cut."""

    text: str
    weight: float
    chunk: int | None


def draw_prompts(prompts: Sequence[Sequence[PromptWord]], path: Target) -> Target:
    """Each prompt's words, a chunk below the other, the words that were cut last. Writes `path`.

    Raises `DataError` for no words, and for more than `MOST_WORDS`.
    """
    count = sum(map(len, prompts))
    if not 0 < count <= MOST_WORDS:
        raise DataError(f"expected 1 to {MOST_WORDS} words to draw, got {count}")
    places = [_lines(words) for words in prompts]
    height = sum(LINE * len(lines) + CHUNK_GAP for lines in places) + 2 * MARGIN + FOOT
    page = Page(WIDTH, height)
    top = MARGIN
    for lines in places:
        for label, row in lines:
            page.text(MARGIN, top + LINE / 2, label, size=8, color=QUIET)
            for left, width, word in row:
                _draw(page, left, top, width, word)
            top += LINE
        top += CHUNK_GAP
    page.foot("green: heavier than 1, orange: lighter, red and struck: cut", "tandem condition --plot")
    return page.finish(path)


_Line = tuple[str, list[tuple[float, float, PromptWord]]]


def _lines(words: Sequence[PromptWord]) -> list[_Line]:
    """What stands before each line, and its words with their places and widths."""
    lines: list[_Line] = []
    start = MARGIN + 0.75
    left = start
    chunk: int | None = -1
    for word in words:
        width = CHARACTER * len(_label(word)) + PADDING
        if word.chunk != chunk or left + width > WIDTH - MARGIN:
            label = "" if word.chunk == chunk else "cut" if word.chunk is None else f"chunk {word.chunk + 1}"
            lines.append((label, []))
            left, chunk = start, word.chunk
        lines[-1][1].append((left, width, word))
        left += width + SPACE
    return lines


def _label(word: PromptWord) -> str:
    text = short(word.text, 60)
    return text if abs(word.weight - 1) < 1e-6 else f"{text} {word.weight:.3g}"


def _draw(page: Page, left: float, top: float, width: float, word: PromptWord) -> None:
    distance = min(abs(word.weight - 1) / _FULL, 1.0)
    color = _mixed(TRACK, _HEAVIER if word.weight > 1 else _LIGHTER, distance)
    page.box(left, top + 0.04, width, LINE - 0.08, "#f7e3e8" if word.chunk is None else color)
    ink = _CUT if word.chunk is None else ("white" if distance > 0.5 else INK)
    page.text(left + PADDING / 2, top + LINE / 2, _label(word), size=10, color=ink, family="monospace")
    if word.chunk is None:
        page.box(left + PADDING / 2, top + LINE / 2 - 0.006, width - PADDING, 0.012, _CUT)


def _mixed(one: str, other: str, share: float) -> str:
    pairs = zip(*([int(color[i : i + 2], 16) for i in (1, 3, 5)] for color in (one, other)), strict=True)
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in pairs)
