"""The tree of errors.

Every message says what was expected, what came, and what to do next. The command line shows a `TandemError` as one
line with exit code 2 (`--debug` shows the trace); anything else that escapes is a bug of ours.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, TypeAlias

ImageErrorKind: TypeAlias = Literal[
    "not_found", "too_large", "unsupported", "damaged", "timeout", "forbidden", "invalid"
]


WITH_TORCH = ("train", "mini", "onnx")  # extras for which constraints.txt names the versions that were tested


class TandemError(Exception):
    """The root: catch this to catch all that Tandem raises on purpose. All of them can be pickled and copied."""

    def __reduce__(self) -> tuple[Callable[..., "TandemError"], tuple[Any, ...]]:
        # The default calls the class with the message alone, which subclasses of other arguments refuse.
        return _restored, (type(self), self.args, self.__dict__)


def _restored(kind: type[TandemError], args: tuple[Any, ...], attributes: Mapping[str, Any]) -> TandemError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(attributes)
    return error


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown name: `; did you mean 'width'?`, or nothing where no name is near."""
    from difflib import get_close_matches

    plain = {each.lower().lstrip("-"): each for each in known}  # the dashes of options make all of them alike
    near = get_close_matches(name.lower().lstrip("-"), plain, n=1, cutoff=0.65)
    return f"; did you mean {plain[near[0]]!r}?" if near else ""


class ConfigError(TandemError):
    """A model description or a recipe that does not make sense: an unknown architecture, field or value."""


class WeightsError(TandemError):
    """A checkpoint that cannot be used: truncated, hostile, or with missing, surplus or misshapen tensors."""


class HubError(TandemError):
    """A name that leads to no local files: unknown, not reachable, not cached, or with a wrong checksum."""


class ImageError(TandemError):
    """An image that cannot be decoded within the limits. `source` says which one, `kind` what to do about it:

    - `not_found`: there is no such file, or its address gives none
    - `too_large`: more bytes, pixels or header parts than the limits allow, or more than fits into memory
    - `unsupported`: no image, or a format that is not read
    - `damaged`: an image whose bytes are truncated or wrong
    - `timeout`: an address that did not answer in time
    - `forbidden`: no permission to read it, or addresses are not fetched
    - `invalid`: not something an image can be read from, such as a folder, or an array of the wrong shape
    """

    def __init__(self, source: str, reason: str, kind: ImageErrorKind) -> None:
        super().__init__(f"{source}: {reason}")
        self.source = source
        self.reason = reason
        self.kind: ImageErrorKind = kind

    def as_dict(self) -> dict[str, str]:
        """Plain values, as JSON documents list what failed."""
        return {"image": self.source, "error": self.reason, "kind": self.kind}

    def renewed(self, source: str | None = None) -> "ImageError":
        """The same error without its traceback, which keeps the bytes of the file alive; of another name if given."""
        return ImageError(self.source if source is None else source, self.reason, self.kind)


class TextError(TandemError):
    """A text that does not fit the model's context, or is no text at all.

    `reason` is the message without what helps in Python only.
    """

    def __init__(self, reason: str, *, in_python: str = "") -> None:
        super().__init__(f"{reason} ({in_python})" if in_python else reason)
        self.reason = reason


class EngineError(TandemError):
    """An engine, device or precision that this machine or installation cannot offer."""


class DataError(TandemError):
    """A training or evaluation set that cannot be read as what it claims to be."""


class MissingExtraError(TandemError):
    """A part of Tandem whose optional dependency is not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        how = f"pip install 'tandem-clip[{extra}]'"
        if extra in WITH_TORCH:
            how = f"pip install -c constraints.txt '.[{extra}]' in a clone of Tandem, or {how} (docs/train.md)"
        super().__init__(f"{purpose} needs {package}; install it with: {how}")


class StoreError(TandemError):
    """A collection that is not there, is damaged, does not fit, or cannot be reached."""


class StoreNotFoundError(StoreError):
    """No collection is where one was expected: what is there instead, and how to make one."""


class StoreExistsError(StoreError):
    """A collection is where a new one was to be made."""


class StoreBusyError(StoreError):
    """A collection that another process is writing to: one writes, many read."""


class FilterError(TandemError):
    """A filter expression that cannot be understood. `position` counts characters from 0; None: no place."""

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
