"""Pages in which a script writes what stands between two marks."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tandem.files import write_text


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


def check_pages(pages: Sequence[Path], marks: Marks) -> None:
    """Check that measured lines can be written. Raises `ValueError` that names the page, or `OSError`."""
    for page in pages:
        try:
            replaced(page.read_text(encoding="utf-8"), marks, [])
        except ValueError as error:
            raise ValueError(f"{page}: {error}") from None


def write_pages(pages: Sequence[Path], marks: Marks, lines: Sequence[str]) -> None:
    """Put the lines into the pages, and say so. Raises `ValueError` or `OSError`."""
    for page in pages:
        write_text(page, replaced(page.read_text(encoding="utf-8"), marks, lines))
        print(f"wrote {page}")
