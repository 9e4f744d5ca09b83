"""No file imports itself through others, inside functions neither; and no test is imported for another."""

from collections import Counter
from pathlib import Path

from support.imports import SOURCE, imports, relative


def target(dotted: str, source: Path = SOURCE) -> Path | None:
    """The file that a name leads to: `tandem.weights.names.rename` -> `weights/names.py`; None if not ours."""
    package, *parts = dotted.split(".")
    if package != "tandem":
        return None
    for length in range(len(parts), -1, -1):
        place = source.joinpath(*parts[:length])
        for file in (place.with_suffix(".py"), place / "__init__.py"):
            if file.is_file():
                return file
    return None


def arrows(source: Path = SOURCE) -> dict[Path, set[Path]]:
    """Each file and the files it imports, inside functions too."""
    return {
        path: {to for dotted in imports(path) if (to := target(dotted, source)) is not None and to != path}
        for path in sorted(source.rglob("*.py"))
    }


def circles(graph: dict[Path, set[Path]]) -> list[list[Path]]:
    """Files that lead back to themselves, with what they share a circle with (Tarjan 1972)."""
    number: dict[Path, int] = {}
    lowest: dict[Path, int] = {}
    stack: list[Path] = []
    found: list[list[Path]] = []

    def visit(file: Path) -> None:
        number[file] = lowest[file] = len(number)
        stack.append(file)
        for other in graph.get(file, ()):
            if other not in number:
                visit(other)
                lowest[file] = min(lowest[file], lowest[other])
            elif other in stack:
                lowest[file] = min(lowest[file], number[other])
        if lowest[file] == number[file]:
            circle = stack[stack.index(file) :]
            del stack[stack.index(file) :]
            if len(circle) > 1:
                found.append(sorted(circle))

    for file in graph:
        if file not in number:
            visit(file)
    return found


def test_no_file_imports_itself_through_others() -> None:
    found = [", ".join(relative(path) for path in circle) for circle in circles(arrows())]
    assert not found, "circles of imports: " + "; ".join(found)


def test_a_circle_is_found(tmp_path: Path) -> None:
    (tmp_path / "room").mkdir()
    (tmp_path / "room" / "__init__.py").write_text("")
    (tmp_path / "room" / "a.py").write_text("def f():\n    from tandem.room import b\n")
    (tmp_path / "room" / "b.py").write_text("from tandem.room.c import x\n")
    (tmp_path / "room" / "c.py").write_text("from tandem.room.a import f\n")
    (tmp_path / "d.py").write_text("from tandem.room import a\n")
    (circle,) = circles(arrows(tmp_path))
    assert [path.name for path in circle] == ["a.py", "b.py", "c.py"]


def test_no_two_files_of_tests_have_one_name() -> None:
    """pytest would import the first for both, and stop."""
    names = Counter(path.name for path in Path(__file__).parent.rglob("test_*.py"))
    assert [name for name, count in names.items() if count > 1] == []
