"""What a pickle says, looked at instruction by instruction before any is run.

A pickle of a few megabytes can nest a thousand containers, or hold one a thousand times in the next: taking the hash of
such a key never ends, or overflows the stack of the interpreter. Knows pickle's instructions; not what they are for.
"""

import pickletools
from collections.abc import Callable
from typing import Any

MAX_BYTES = 16 * 2**20  # of a description of tensors; the largest published one has 0.3 MB
MAX_OPCODES = 500_000  # some 45 a tensor
_MAX_DEPTH = 50  # containers inside each other; a state dict of a checkpoint has 4
_MAX_UNFOLDED = 5_000_000  # values of a container, counted again wherever one inside it comes again
_MAX_HASHED = 20_000_000  # values in the keys of all mappings and sets, and in what functions are called with

_Cell = list[int]  # of a container: its values when all inside it are unfolded, and its depth
_MARK: _Cell = []


def check(program: bytes, check_name: Callable[[str], None]) -> None:
    """Raises `ValueError` for what would take more than tensors do; `check_name` sees every global name."""
    if len(program) > MAX_BYTES:
        raise ValueError(f"a description of {len(program):,} bytes: expected at most {MAX_BYTES:,}")
    stack: list[_Cell] = []
    memo: dict[int, _Cell] = {}
    plain: _Cell = [1, 0]  # every value that is no container
    hashed = 0
    for count, (opcode, argument, _) in enumerate(pickletools.genops(program)):
        if count >= MAX_OPCODES:
            raise ValueError(f"more than {MAX_OPCODES:,} instructions")
        name = opcode.name
        if name in _PUSHES:
            stack.append(plain)
        elif name in ("BINPUT", "LONG_BINPUT", "PUT", "MEMOIZE"):
            at = len(memo) if argument is None else int(argument)
            if at > min(MAX_OPCODES, len(program)):
                raise ValueError(f"memo slot {at}")
            memo[at] = _top(stack)
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            stack.append(memo.get(int(argument or 0), plain))
        elif name == "MARK":
            stack.append(_MARK)
        elif name in ("GLOBAL", "INST"):
            check_name(str(argument).replace(" ", ".", 1))
            if name == "INST":
                _popped(stack, None)
            stack.append(plain)
        elif name in _BUILDS:
            parts = _popped(stack, _BUILDS[name])
            hashed += _hashed(name, parts)
            stack.append(_container(parts))
        elif name in _ADDS:
            parts = _popped(stack, _ADDS[name])
            hashed += _hashed(name, parts)
            grown, target = _container(parts), _top(stack)
            if target is not plain:
                target[0], target[1] = target[0] + grown[0], max(target[1], grown[1])
                _bounded(target)
        elif name in ("EMPTY_DICT", "EMPTY_LIST", "EMPTY_SET"):
            stack.append([1, 1])
        elif name == "POP":
            _popped(stack, 1)
        elif name == "POP_MARK":
            _popped(stack, None)
        elif name == "DUP":
            stack.append(_top(stack))
        elif name in ("EXT1", "EXT2", "EXT4"):
            check_name(f"extension {argument}")
        elif name not in ("PROTO", "FRAME", "STOP"):
            raise ValueError(f"the instruction {name}, which describes no tensor")
        if hashed > _MAX_HASHED:
            raise ValueError(f"keys of more than {_MAX_HASHED:,} values")


_PUSHES = frozenset(
    {
        "INT",
        "BININT",
        "BININT1",
        "BININT2",
        "LONG",
        "LONG1",
        "LONG4",
        "FLOAT",
        "BINFLOAT",
        "NONE",
        "NEWTRUE",
        "NEWFALSE",
    }
    | {"STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"}
    | {"BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8", "PERSID"}
)
# What replaces so many values by one that holds them; None: all since the mark
_BUILDS: dict[str, int | None] = {
    "TUPLE": None,
    "LIST": None,
    "DICT": None,
    "FROZENSET": None,
    "OBJ": None,
    "EMPTY_TUPLE": 0,
    "TUPLE1": 1,
    "TUPLE2": 2,
    "TUPLE3": 3,
    "REDUCE": 2,
    "NEWOBJ": 2,
    "NEWOBJ_EX": 3,
    "STACK_GLOBAL": 2,
    "BINPERSID": 1,
}
# What adds so many values to the container below them
_ADDS: dict[str, int | None] = {
    "APPEND": 1,
    "APPENDS": None,
    "SETITEM": 2,
    "SETITEMS": None,
    "ADDITEMS": None,
    "BUILD": 1,
}


def _hashed(name: str, parts: list[_Cell]) -> int:
    """Values that the instruction takes the hash of; called functions may do so with all they get."""
    if name in ("SETITEM", "SETITEMS", "DICT"):
        parts = parts[::2]
    elif name not in ("ADDITEMS", "FROZENSET", "REDUCE", "OBJ", "NEWOBJ", "NEWOBJ_EX"):
        return 0
    return sum(part[0] for part in parts)


def _container(parts: list[_Cell]) -> _Cell:
    return _bounded([1 + sum(part[0] for part in parts), 1 + max((part[1] for part in parts), default=0)])


def _bounded(cell: _Cell) -> _Cell:
    if cell[1] > _MAX_DEPTH:
        raise ValueError(f"more than {_MAX_DEPTH} containers inside each other")
    if cell[0] > _MAX_UNFOLDED and cell[1] > 0:
        raise ValueError(f"a container of more than {_MAX_UNFOLDED:,} values")
    return cell


def _top(stack: list[_Cell]) -> Any:
    if not stack or stack[-1] is _MARK:
        raise ValueError("an instruction without its values")
    return stack[-1]


def _popped(stack: list[_Cell], count: int | None) -> list[_Cell]:
    """So many values off the stack, or all down to the mark, which goes too."""
    if count is None:
        try:
            at = len(stack) - 1 - next(i for i, cell in enumerate(reversed(stack)) if cell is _MARK)
        except StopIteration:
            raise ValueError("an instruction without its mark") from None
        parts = stack[at + 1 :]
        del stack[at:]
        return parts
    if len(stack) < count or any(cell is _MARK for cell in (stack[-count:] if count else ())):
        raise ValueError("an instruction without its values")
    parts = stack[len(stack) - count :]
    del stack[len(stack) - count :]
    return parts
