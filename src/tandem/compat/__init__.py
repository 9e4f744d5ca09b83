"""The interfaces of other libraries over Tandem's engine: scripts that people have run with only the import changed.

`tandem.compat.transformers`, `clip`, `open_clip` and `sentence_transformers` cover what such scripts call to encode
and compare; the rest is refused by name, with what to use instead (docs/compat.md).
"""

from tandem.compat.refusals import NotCoveredError

__all__ = ["NotCoveredError"]
