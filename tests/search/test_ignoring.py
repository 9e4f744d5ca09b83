"""Patterns that leave files out, by themselves: as git understands them, in bounded time, from regular files only."""

import os
import random
import warnings
from pathlib import Path

import pytest
from pathspec import GitIgnoreSpec

from tandem.errors import TandemError
from tandem.search.indexing.ignoring import IgnoreRules


@pytest.mark.slow
def test_wildcards_mean_what_they_mean_to_the_library() -> None:
    drawn = random.Random(0)
    parts = ("a", "b", "*", "*", "?", "[ab]", "\\*", "/", "/**/", "**/")
    for _ in range(3000):
        pattern = drawn.choice(("", "", "/", "**/")) + "".join(drawn.choices(parts, k=drawn.randint(1, 9)))
        try:
            spec, rules = GitIgnoreSpec.from_lines([pattern]), IgnoreRules.of([pattern])
        except (ValueError, TandemError):
            continue
        for _ in range(20):
            names = ["".join(drawn.choices("ab*", k=drawn.randint(1, 4))) for _ in range(drawn.randint(1, 6))]
            assert rules.excludes(names, is_folder=False) is spec.match_file("/".join(names)), (pattern, names)
            assert rules.excludes(names, is_folder=True) is spec.match_file("/".join(names) + "/"), (pattern, names)


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("a*" * 12 + "b", ["a" * 200]),
        ("/x*" + "?*a*" * 8 + "b", ["x" + "a" * 200]),
        ("**/a" * 12 + "/b", ["a"] * 300),
        ("a/**/" * 12 + "b", ["a"] * 300),
        ("a/**/*a*a*a*a*a*b/**/" * 4 + "c", ["a" * 100] * 20),
    ],
)
def test_a_dozen_wildcards_do_not_take_for_ever(pattern: str, names: list[str]) -> None:
    assert not IgnoreRules.of([pattern]).excludes(names, is_folder=False)
    assert IgnoreRules.of([pattern, "!x", "*a"]).excludes(names, is_folder=False)


@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "link to nothing"])
def test_rules_come_from_regular_files_only(tmp_path: Path, kind: str) -> None:
    place = tmp_path / ".tandemignore"
    if kind == "pipe":
        os.mkfifo(place)
    elif kind == "folder":
        place.mkdir()
    else:
        place.symlink_to("/dev/zero" if kind == "device" else tmp_path / "nothing")
    with pytest.warns(UserWarning, match="not a regular file: no rules are read from it"):
        assert IgnoreRules().inside(0, str(place)) == IgnoreRules()
    with warnings.catch_warnings(action="error"):  # once is enough, however often the folder is walked
        assert IgnoreRules().inside(0, str(place)) == IgnoreRules()


def test_a_file_of_rules_is_read_whole_or_refused(tmp_path: Path) -> None:
    place = tmp_path / ".tandemignore"
    place.write_text("#" * (2**20 - 5) + "\na.*\n")
    assert place.stat().st_size == 2**20
    assert IgnoreRules().inside(0, str(place)).excludes(["a.jpg"], is_folder=False)
    place.write_text("#" * 2**20 + "\na.*\n")
    with pytest.raises(TandemError, match=r"\.tandemignore: more than 1,048,576 bytes"):
        IgnoreRules().inside(0, str(place))
