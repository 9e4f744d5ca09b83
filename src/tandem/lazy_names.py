"""Public names of a package that are imported on first use, so that importing the package costs nothing."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy(namespace: dict[str, Any], homes: Mapping[str, str]) -> Callable[[str], Any]:
    """`__getattr__` of a package, from its `globals()` and the home of each name, "module" or "module:attribute"."""

    def get(name: str) -> Any:
        if name not in homes:
            package, known = namespace["__name__"], ", ".join(namespace["__all__"])
            raise AttributeError(f"module {package!r} has no attribute {name!r}; its names are {known}")
        module, _, attribute = homes[name].partition(":")
        value = getattr(import_module(module), attribute or name)
        namespace[name] = value
        return value

    return get
