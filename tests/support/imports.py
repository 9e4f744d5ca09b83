"""What the files of the package import and reach for, as their source says it."""

import ast
import functools
from collections.abc import Iterable
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2] / "src" / "tandem"


def modules() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


@functools.cache
def parsed(path: Path) -> tuple[ast.AST, ...]:
    """Every node of a file: each rule asks all of them."""
    return tuple(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


@functools.cache
def imports(path: Path) -> set[str]:
    """Dotted names that a module imports, anywhere in it: inside functions too."""
    names = set()
    for node in parsed(path):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: relative imports hide the arrow; write from tandem... import ..."
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def relative(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix()


def attributes(node: ast.expr) -> list[str]:
    """`PIL.Image.open` -> PIL, Image, open; what is no name at the beginning is empty."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return [node.id if isinstance(node, ast.Name) else "", *reversed(parts)]


def dotted_names(nodes: Iterable[ast.AST]) -> set[str]:
    """The attributes a module reaches for, as written: `PIL.Image.open` gives `Image.open` too; and what it imports."""
    names = set()
    for node in nodes:
        if isinstance(node, ast.Attribute):
            parts = attributes(node)
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{(node.module or '').rpartition('.')[2]}.{alias.name}" for alias in node.names}
            parts = (node.module or "").split(".")
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
            continue
        elif isinstance(node, ast.Name):
            parts = [node.id]
        else:
            continue
        names |= {".".join(parts[start:]) for start in range(len(parts))}
    return names
