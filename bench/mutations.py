"""One small fault at a time: what of a module's syntax `bench/mutants.py` changes, and its text with the change.

Left alone are annotations, docstrings, messages of errors and logs, formatted strings, decorators, assertions and
`__repr__`: a change there is either none, or one of words.
"""

import ast
import copy
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.Div: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
}
OPPOSITES = {"min": "max", "max": "min", "any": "all", "all": "any", "floor": "ceil", "ceil": "floor"}
COPIES = ("copy", "astype", "tobytes")  # methods without which the same memory is used twice
COPYING = (
    "array",
    "ascontiguousarray",
    "deepcopy",
    "sorted",
    "list",
    "tuple",
    "set",
    "dict",
    "abs",
    "fspath",
    "realpath",
)
LOGS = (
    "debug",
    "info",
    "warning",
    "error",
    "exception",
    "log",
    "warn",
    "print",
    "note",
)  # calls that only say something
WITHOUT_ORDER = ("isinstance", "issubclass", "getattr", "hasattr", "TypeVar", "NamedTuple", "cast", "field")


@dataclass(frozen=True)
class Mutant:
    """A change of one piece of a file: from (line, column) to (line, column), as `ast` counts them."""

    file: str
    kind: str
    start: tuple[int, int]
    end: tuple[int, int]
    before: str
    after: str

    @property
    def name(self) -> str:
        return f"{self.file}:{self.start[0]}:{self.start[1]} {self.kind}"

    def apply(self, text: str) -> str:
        """The file's text with the change."""
        lines = text.encode().splitlines(keepends=True)
        first, last = self.start[0] - 1, self.end[0] - 1
        changed = lines[first][: self.start[1]] + self.after.encode() + lines[last][self.end[1] :]
        return b"".join([*lines[:first], changed, *lines[last + 1 :]]).decode()


def mutants(file: str, text: str) -> list[Mutant]:
    """Every change of a module's text, in the order of its lines."""
    found = []
    for node, kind, new in _changes(ast.parse(text)):
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        after = ast.unparse(new) if isinstance(new, ast.stmt) else f"({ast.unparse(new)})"
        place = ((node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset))
        found.append(Mutant(file, kind, *place, ast.unparse(node), after))
    return sorted(found, key=lambda mutant: (mutant.start, mutant.kind, mutant.after))


Located = ast.expr | ast.stmt
Change = tuple[Located, str, Located]


def _changes(tree: ast.AST) -> Iterator[Change]:
    """What is replaced, the kind of change, and what it is replaced with."""
    for node in _visited(tree):
        if isinstance(node, ast.ExceptHandler) and node.type is not None:
            yield node.type, "except", ast.Tuple([])
        if isinstance(node, ast.With):
            for item in node.items:
                if re.search("(?<![bc])lock", ast.unparse(item.context_expr).lower()) and item.optional_vars is None:
                    yield (
                        item.context_expr,
                        "lock",
                        ast.parse("__import__('contextlib').nullcontext()", mode="eval").body,
                    )
        if isinstance(node, ast.expr):
            for kind, change in EXPRESSIONS.items():
                yield from ((node, kind, new) for new in change(node))
        elif isinstance(node, ast.stmt):
            for kind, change in STATEMENTS.items():
                yield from ((node, kind, new) for new in change(node))


def _visited(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes whose change would be one of behaviour."""
    if isinstance(node, ast.FunctionDef) and node.name in ("__repr__", "__str__", "_repr_html_"):
        return
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        return
    yield node
    skipped: set[int] = set()
    for field in ("annotation", "returns", "decorator_list", "type_params"):
        value = getattr(node, field, None)
        skipped |= {id(each) for each in (value if isinstance(value, list) else [value])}
    if isinstance(node, ast.ClassDef):
        skipped |= {id(base) for base in node.bases}
    for child in ast.iter_child_nodes(node):
        quiet = isinstance(child, ast.Raise | ast.JoinedStr | ast.Assert | ast.Import | ast.ImportFrom)
        if id(child) in skipped or _says(child):
            continue
        if quiet:
            yield child  # a dropped check of an exception is a change of its statement
        else:
            yield from _visited(child)


def _says(node: ast.AST) -> bool:
    """Whether a statement only says something."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and _called(node.value) in LOGS


def _called(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _replaced(node: ast.AST, **fields: object) -> Located:
    new = copy.copy(node)
    for name, value in fields.items():
        setattr(new, name, value)
    return new  # type: ignore[return-value]


def _comparison(node: ast.expr) -> Iterator[Located]:
    if isinstance(node, ast.Compare):
        for place, operator in enumerate(node.ops):
            ops: list[ast.cmpop] = list(node.ops)
            ops[place] = COMPARISONS[type(operator)]()
            yield _replaced(node, ops=ops)


def _constant(node: ast.expr) -> Iterator[Located]:
    if isinstance(node, ast.Constant):
        if isinstance(node.value, bool):
            yield ast.Constant(not node.value)
        elif isinstance(node.value, int):
            yield ast.Constant(node.value + 1)
            yield ast.Constant(node.value - 1)
        elif isinstance(node.value, float):
            yield ast.Constant(node.value * 2 if node.value else 1.0)


def _arithmetic(node: ast.expr) -> Iterator[Located]:
    if not isinstance(node, ast.BinOp) or type(node.op) not in ARITHMETIC:
        return
    if not any(isinstance(side, ast.JoinedStr) for side in (node.left, node.right)):
        yield _replaced(node, op=ARITHMETIC[type(node.op)]())


def _connective(node: ast.expr) -> Iterator[Located]:
    if isinstance(node, ast.BoolOp):
        yield _replaced(node, op=ast.Or() if isinstance(node.op, ast.And) else ast.And())


def _negation(node: ast.expr) -> Iterator[Located]:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub):
        yield node.operand


def _axis(node: ast.expr) -> Iterator[Located]:
    if isinstance(node, ast.Call):
        for place, keyword in enumerate(node.keywords):
            if keyword.arg in ("axis", "dim") and not isinstance(keyword.value, ast.Tuple):
                axis = 1 if ast.unparse(keyword.value) == "0" else 0
                keywords = [*node.keywords]
                keywords[place] = ast.keyword(keyword.arg, ast.Constant(axis))
                yield _replaced(node, keywords=keywords)


def _copy(node: ast.expr) -> Iterator[Located]:
    if isinstance(node, ast.Call):
        if isinstance(node.func, ast.Attribute) and node.func.attr in COPIES and not node.args:
            yield node.func.value
        elif _called(node) in COPYING and len(node.args) == 1 and not isinstance(node.args[0], ast.GeneratorExp):
            yield node.args[0]


def _arguments(node: ast.expr) -> Iterator[Located]:
    if isinstance(node, ast.Call) and len(node.args) > 1 and _called(node) not in WITHOUT_ORDER:
        first, second, *rest = node.args
        if not isinstance(first, ast.Starred) and not isinstance(second, ast.Starred):
            yield _replaced(node, args=[second, first, *rest])


def _opposite(node: ast.expr) -> Iterator[Located]:
    if isinstance(node, ast.Call) and _called(node) in OPPOSITES:
        name = OPPOSITES[_called(node)]
        func = node.func
        yield _replaced(node, func=_replaced(func, attr=name) if isinstance(func, ast.Attribute) else ast.Name(name))


def _dropped_call(node: ast.stmt) -> Iterator[Located]:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        yield ast.Pass()


def _dropped_check(node: ast.stmt) -> Iterator[Located]:
    if isinstance(node, ast.Raise):
        yield ast.Pass()


def _nothing_returned(node: ast.stmt) -> Iterator[Located]:
    if isinstance(node, ast.Return) and node.value is not None and ast.unparse(node.value) != "None":
        yield ast.Return(ast.Constant(None))


EXPRESSIONS: dict[str, Callable[[ast.expr], Iterator[Located]]] = {
    "comparison": _comparison,
    "constant": _constant,
    "arithmetic": _arithmetic,
    "and, or": _connective,
    "not, minus": _negation,
    "axis": _axis,
    "copy": _copy,
    "arguments": _arguments,
    "opposite": _opposite,
}
STATEMENTS: dict[str, Callable[[ast.stmt], Iterator[Located]]] = {
    "call": _dropped_call,
    "check": _dropped_check,
    "return": _nothing_returned,
}
KINDS = (*EXPRESSIONS, *STATEMENTS, "except", "lock")
