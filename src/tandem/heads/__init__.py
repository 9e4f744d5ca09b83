"""Classifiers on frozen features: fitted from a few labelled vectors, kept in small files. Knows no images.

The names here are imported on first use.
"""

from typing import TYPE_CHECKING

from tandem.lazy_names import lazy

if TYPE_CHECKING:
    from tandem.heads.head import Head
    from tandem.heads.head_file import read_head, write_head

__all__ = ["Head", "read_head", "write_head"]

_HOMES = {"Head": "tandem.heads.head", "read_head": "tandem.heads.head_file", "write_head": "tandem.heads.head_file"}

__getattr__ = lazy(globals(), _HOMES)
