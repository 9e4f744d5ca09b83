"""Pages in which a script writes what stands between two marks."""

from collections.abc import Sequence
from typing import NamedTuple


class Marks(NamedTuple):
    """Two lines of a page, in HTML comments, that readers do not see."""

    begin: str
    end: str

    @classmethod
    def of(cls, script: str, arguments: str = "") -> "Marks":
        """`<!-- bench/mini.py --table -->` and `<!-- bench/mini.py: end -->`."""
        return cls(f"<!-- {' '.join((script, arguments)).rstrip()} -->", f"<!-- {script}: end -->")


def replaced(page: str, marks: Marks, lines: Sequence[str]) -> str:
    """The page with these lines between the marks. Raises `ValueError` for a page that has not both, once."""
    begin, end = marks
    before, _, rest = page.partition(begin)
    _, _, after = rest.partition(end)
    if page.count(begin) != 1 or page.count(end) != 1 or rest.count(end) != 1:
        raise ValueError(f"expected a line {begin} and after it a line {end}, once each")
    return "\n".join([before + begin, "", *lines, "", end]) + after
