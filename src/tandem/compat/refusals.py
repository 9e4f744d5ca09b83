"""What the interfaces of other libraries do not cover here: refused by name, with what to use instead.

Knows names and options; no model and no arrays.
"""

from collections.abc import Callable, Mapping
from typing import Any, NoReturn, cast

import numpy as np

from tandem.errors import TandemError, TextError


class NotCoveredError(TandemError):
    """A name, method or option of another library that Tandem does not offer; the message says what to use instead."""


class NotCoveredNameError(NotCoveredError, ImportError):
    """A name of a module. An `ImportError`, since Python would hide an `AttributeError`'s message behind its own."""


class NotCoveredMethodError(NotCoveredError, AttributeError):
    """A method or attribute of an object, so that `hasattr` is false."""


TRAIN = "train with `tandem train` (docs/train.md), or build on `tandem.nn`, whose modules are torch's"
GRADIENTS = f"gradients do not pass through Tandem's engine: {TRAIN}"
STATES = "tandem.load(...).text_states and image_states give the states of every layer"


def module_names(module: str, names: Mapping[str, str], instead: Mapping[str, str]) -> Callable[[str], Any]:
    """`__getattr__` of a module: `names` are imported from their homes on first use; others are refused.

    names: name -> "module:attribute". instead: name, or its beginning, of what is not covered -> what to use.
    """
    from importlib import import_module

    library = module.rpartition(".")[2]

    def get(name: str) -> Any:
        if name in names:
            home, _, attribute = names[name].partition(":")
            return getattr(import_module(home), attribute or name)
        if name.startswith("_"):  # what Python itself asks modules for
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        hint = next((hint for begins, hint in instead.items() if name.startswith(begins)), "")
        known = f"its names are {', '.join(sorted(names))}"
        raise NotCoveredNameError(f"{library}.{name}: not covered by {module}: {hint or f'{known}; docs/compat.md'}")

    return get


def refuse(what: str, instead: str) -> NoReturn:
    """Raise `NotCoveredError` for what was asked for."""
    raise NotCoveredError(f"{what}: not covered by tandem.compat: {instead}")


def refuse_method(owner: object, name: str, instead: Mapping[str, str]) -> NoReturn:
    """For the `__getattr__` of an object: raise for a name that it has not."""
    if name.startswith("__"):
        raise AttributeError(name)
    hint = instead.get(name, "docs/compat.md lists what is covered")
    raise NotCoveredMethodError(f"{type(owner).__name__}.{name}: not covered by tandem.compat: {hint}")


MOST_TOKENS = 2**16  # a row of a text, many times what any model reads


def check_length(name: str, value: object) -> None:
    """Raise `TextError` for a length that texts cannot be padded to."""
    number = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not (number and 1 <= cast(int, value) <= MOST_TOKENS):
        raise TextError(f"{name}: expected 1 to {MOST_TOKENS:,} tokens, got {value!r:.60}")


def check_options(call: str, given: Mapping[str, Any], harmless: Mapping[str, Any], instead: Mapping[str, str]) -> None:
    """Raise `NotCoveredError` for the first option that would have to change something here.

    harmless: options that are taken with these values, or with any for `...`. None means that an option is left out.
    """
    for name, value in given.items():
        if value is None:
            continue
        if name in harmless:
            allowed = harmless[name]
            if allowed is ... or value in (allowed if isinstance(allowed, tuple) else (allowed,)):
                continue
        hint = instead.get(name)
        if hint is None and name in harmless:
            hint = f"expected {harmless[name]!r}"
        refuse(f"{call}({name}={value!r:.60})", hint or "leave it out (docs/compat.md)")
