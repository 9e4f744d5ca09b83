"""Results -> pictures. Knows pictures, words and numbers; it has never heard of models or collections.

matplotlib is imported when something is drawn, and comes with the extra `plot`.
"""

from tandem.plots.answers import Ranking, Row, draw_answer, draw_rankings
from tandem.plots.page import BEST, OTHER, check_installed, check_target

__all__ = [
    "BEST",
    "OTHER",
    "Ranking",
    "Row",
    "check_installed",
    "check_target",
    "draw_answer",
    "draw_rankings",
]
