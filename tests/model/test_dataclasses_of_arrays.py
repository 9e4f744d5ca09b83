"""Frozen values that hold arrays are not compared field by field: `==` of arrays is an array, and they have no hash."""

import ast
import re
from pathlib import Path

import tandem

SOURCE = Path(tandem.__file__).parent
ROOMS = ("guidance", "conditioning", "videos", "localization", "moderation")
ARRAYS = re.compile(r"\b(NDArray|Vectors|np\.ndarray)\b")


def compared_field_by_field(tree: ast.AST) -> list[str]:
    """The dataclasses with fields that are arrays, and without eq=False."""
    found = []
    for node in ast.walk(tree):
        made = [each for each in getattr(node, "decorator_list", ()) if "dataclass" in ast.unparse(each)]
        if isinstance(node, ast.ClassDef) and made and "eq=False" not in ast.unparse(made[0]):
            fields = [each.annotation for each in node.body if isinstance(each, ast.AnnAssign)]
            found += [node.name] if any(ARRAYS.search(ast.unparse(each)) for each in fields) else []
    return found


def test_values_with_arrays_are_equal_to_themselves_alone() -> None:
    files = [path for room in ROOMS for path in (SOURCE / room).rglob("*.py")]
    assert len(files) > 40
    wrong = [f"{path}: {name}" for path in files for name in compared_field_by_field(ast.parse(path.read_text()))]
    assert not wrong, "\n".join(wrong)


def test_the_rule_sees_what_it_forbids() -> None:
    text = "@dataclass(frozen=True)\nclass A:\n    x: Mapping[str, NDArray[np.float32]]\n"
    assert compared_field_by_field(ast.parse(text)) == ["A"]
    assert compared_field_by_field(ast.parse(text.replace("True)", "True, eq=False)"))) == []
