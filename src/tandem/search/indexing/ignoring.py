"""Which files and folders are left out of a walk by rule: patterns as in a .gitignore.

Rules come from `.tandemignore` files, each for its own folder and what is below it, and from patterns given for the
root. As in git, the last pattern that matches decides, `!` takes back, a deeper file goes before a higher one, and
nothing inside an excluded folder is looked at. Knows names; opens `.tandemignore` files only.
"""

import functools
import os
import re
import stat
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tandem.errors import TandemError
from tandem.search.indexing.entries import reason_of

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

IGNORE_FILE = ".tandemignore"
_MAX_IGNORE_BYTES = 2**20
_NO_WAITING = getattr(os, "O_NONBLOCK", 0)  # Windows has no such flag


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
        content = _read(ignore_file)
        if content is None:
            return self
        lines = content.decode("utf-8-sig", "surrogateescape").splitlines()
        return replace(self, rules=(*self.rules, (depth, _spec(lines, ignore_file))))

    def excludes(self, names: Sequence[str], *, is_folder: bool) -> bool:
        """Whether the file or folder is left out; `names` are those of its path from the root on."""
        for depth, spec in reversed(self.rules):
            decided = spec.check_file("/".join(names[depth:]) + ("/" if is_folder else "")).include
            if decided is not None:
                return bool(decided)
        return False


def _read(ignore_file: str) -> bytes | None:
    """The file's content; None for what is no regular file, such as a folder or a pipe, which might never end."""
    try:
        if not os.path.exists(ignore_file) or not stat.S_ISREG(os.stat(ignore_file).st_mode):
            _warn_once(f"{ignore_file}: not a regular file: no rules are read from it")
            return None
        # Without waiting, should a pipe have taken its place meanwhile
        with open(ignore_file, "rb", opener=lambda path, flags: os.open(path, flags | _NO_WAITING)) as file:
            content = file.read(_MAX_IGNORE_BYTES + 1)
    except OSError as error:
        raise TandemError(f"{ignore_file}: {reason_of(error)}") from None
    if len(content) > _MAX_IGNORE_BYTES:
        raise TandemError(f"{ignore_file}: more than {_MAX_IGNORE_BYTES:,} bytes of patterns")
    return content


@functools.cache
def _warn_once(message: str) -> None:
    """Warn once in a process: a folder is walked several times, each with other filters of warnings."""
    warnings.warn(message, stacklevel=3)


def _spec(patterns: Sequence[str], source: str) -> "GitIgnoreSpec":
    from pathspec import GitIgnoreSpec  # here: few collections have rules

    try:
        spec = GitIgnoreSpec.from_lines(patterns, backend="simple")
        for pattern in spec.patterns:
            if pattern.regex is not None:
                pattern.regex = re.compile(_without_backtracking(pattern.regex.pattern))
    except ValueError as error:
        raise TandemError(f"{source}: {error}; expected patterns as in a .gitignore") from None
    return spec


# What pathspec writes for wildcards: `*` in a name, `**` at the start, and `**` between folders.
_STAR, _LEADING, _FOLDERS = "[^/]*", "^(?:.+/)?", "(?:/.+)?"


def _without_backtracking(regex: str) -> str:
    """The regular expression of a pattern, so that a dozen wildcards in it cannot take for ever.

    What stands between two wildcards may be matched at the first place where it fits: a later one finds nothing more.
    """
    first, *others = regex.split(_FOLDERS)
    if others:
        *between, last = others
        if first.startswith(_LEADING):
            first = f"^(?>(?:.+?/)??{_names(first.removeprefix(_LEADING))}(?=/))"
        else:
            first = _names(first)
        return first + "".join(f"(?>(?:/.+?)??{_names(some)}(?=/))" for some in between) + _FOLDERS + _names(last)
    return _names(first)


def _names(regex: str) -> str:
    """The same for the `*` in each name."""
    first, *others = regex.split(_STAR)
    joined = first
    for index, some in enumerate(others):
        ends_its_name = index == len(others) - 1 or "/" in some.replace("[^/]", "")
        joined += f"{_STAR}{some}" if ends_its_name else f"(?>[^/]*?{some})"
    return joined
