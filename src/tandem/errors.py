"""The tree of errors.

Every message says what was expected, what came, and what to do next. The command line shows a `TandemError` as one
line with exit code 2 (`--debug` shows the trace); anything else that escapes is a bug of ours.
"""

from collections.abc import Mapping
from typing import Any


class TandemError(Exception):
    """The root: catch this to catch all that Tandem raises on purpose."""


class ConfigError(TandemError):
    """A model description or a recipe that does not make sense: an unknown architecture, field or value."""


class WeightsError(TandemError):
    """A checkpoint that cannot be used: truncated, hostile, or with missing, surplus or misshapen tensors."""


class HubError(TandemError):
    """A name that leads to no local files: unknown, not reachable, not cached, or with a wrong checksum."""


class ImageError(TandemError):
    """A picture that cannot be decoded within the limits. `source` says which one."""

    def __init__(self, source: str, reason: str) -> None:
        super().__init__(f"{source}: {reason}")
        self.source = source
        self.reason = reason


class TextError(TandemError):
    """A sentence that does not fit the model's context, or is no text."""


class EngineError(TandemError):
    """An engine, device or precision that this machine or installation cannot offer."""


class DataError(TandemError):
    """A training or evaluation set that cannot be read as what it claims to be."""


class MissingExtraError(TandemError):
    """A part of Tandem whose optional dependency is not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs {package}; install it with: pip install 'tandem-clip[{extra}]'")


class StoreError(TandemError):
    """A collection that is not there, is damaged, does not fit, or cannot be reached."""


class StoreBusyError(StoreError):
    """A collection that another process is writing to: one writes, many read."""


class FilterError(TandemError):
    """A filter expression that cannot be understood. `position` counts letters from 0, None where a column is wrong."""

    def __init__(self, reason: str, position: int | None = None) -> None:
        super().__init__(reason)
        self.position = position


class ServerError(TandemError):
    """What a Tandem server answered instead of what was asked: its status, and the title and detail of its problem.

    `members` are further ones of the problem document (RFC 9457, section 3.2), such as what failed one by one.
    """

    def __init__(self, status: int, title: str, detail: str, members: Mapping[str, Any] | None = None) -> None:
        super().__init__(f"{title}: {detail}" if detail else title)
        self.members = dict(members or {})
        self.status = status
        self.title = title
        self.detail = detail
