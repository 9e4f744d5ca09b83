"""Classifiers on frozen features: fitted from a few labelled vectors, kept in small files. Knows no images.

The names here are imported on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tandem.heads.head import Head
    from tandem.heads.head_file import read_head, write_head

__all__ = ["Head", "read_head", "write_head"]

_HOMES = {"Head": "tandem.heads.head", "read_head": "tandem.heads.head_file", "write_head": "tandem.heads.head_file"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'tandem.heads' has no attribute {name!r}; its names are {', '.join(__all__)}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
