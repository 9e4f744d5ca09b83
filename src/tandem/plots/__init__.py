"""Results -> drawings. Knows images, words and numbers; it has never heard of models or collections.

matplotlib is imported when something is drawn, and comes with the extra `plot`.
"""

from tandem.plots.answers import Ranking, Row, draw_answer, draw_rankings
from tandem.plots.curves import Run, draw_curves
from tandem.plots.map import Pin, Region, draw_map
from tandem.plots.page import BEST, OTHER, TRACK, check_installed, check_target, is_installed
from tandem.plots.places import Found, draw_locations
from tandem.plots.prompts import PromptWord, draw_prompts
from tandem.plots.sheet import Cell, draw_contact_sheet

__all__ = [
    "BEST",
    "OTHER",
    "TRACK",
    "Cell",
    "Found",
    "Pin",
    "PromptWord",
    "Ranking",
    "Region",
    "Row",
    "Run",
    "check_installed",
    "check_target",
    "draw_answer",
    "draw_contact_sheet",
    "draw_curves",
    "draw_locations",
    "draw_map",
    "draw_prompts",
    "draw_rankings",
    "is_installed",
]
