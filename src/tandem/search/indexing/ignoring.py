"""Which files and folders are left out of a walk by rule: patterns as in a .gitignore.

Rules come from `.tandemignore` files, each for its own folder and what is below it, and from patterns given for the
root. As in git, the last pattern that matches decides, `!` takes back, a deeper file goes before a higher one, and
nothing inside an excluded folder is looked at. Knows names; opens `.tandemignore` files only.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tandem.errors import TandemError
from tandem.search.indexing.entries import reason_of

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

IGNORE_FILE = ".tandemignore"
_MAX_IGNORE_BYTES = 2**20


@dataclass(frozen=True)
class IgnoreRules:
    """Rules, each with how many folders below the root it stands; the deepest last."""

    rules: "tuple[tuple[int, GitIgnoreSpec], ...]" = ()

    @classmethod
    def of(cls, patterns: Sequence[str]) -> "IgnoreRules":
        """Rules that hold from the root on. `TandemError` for a pattern that cannot be understood."""
        return cls(((0, _spec(patterns, "exclude")),)) if patterns else cls()

    def inside(self, depth: int, ignore_file: str) -> "IgnoreRules":
        """With the rules of a file in a folder so deep. `TandemError` where it cannot be read or understood."""
        try:
            with open(ignore_file, "rb") as file:
                lines = file.read(_MAX_IGNORE_BYTES).decode("utf-8-sig", "surrogateescape").splitlines()
        except OSError as error:
            raise TandemError(f"{ignore_file}: {reason_of(error)}") from None
        return replace(self, rules=(*self.rules, (depth, _spec(lines, ignore_file))))

    def excludes(self, names: Sequence[str], *, is_folder: bool) -> bool:
        """Whether the file or folder is left out; `names` are those of its path from the root on."""
        for depth, spec in reversed(self.rules):
            decided = spec.check_file("/".join(names[depth:]) + ("/" if is_folder else "")).include
            if decided is not None:
                return bool(decided)
        return False


def _spec(patterns: Sequence[str], source: str) -> "GitIgnoreSpec":
    from pathspec import GitIgnoreSpec  # here: few collections have rules

    try:
        return GitIgnoreSpec.from_lines(patterns)
    except ValueError as error:
        raise TandemError(f"{source}: {error}; expected patterns as in a .gitignore") from None
