"""The exceptions of Tandem.

Every message says what was expected, what was found, and what to do next. The command line shows a `TandemError` as one
line with exit code 2 (`--debug` shows the trace); any other exception is a bug.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

ImageErrorKind: TypeAlias = Literal[
    "not_found", "too_large", "unsupported", "damaged", "timeout", "forbidden", "invalid"
]


WITH_TORCH = ("train", "mini", "onnx")  # extras for which constraints.txt names the versions that were tested


StoreRemedy: TypeAlias = Literal["repair", "restore"]
RESTORE = "restore the collection from a copy, or index again into a new one"
REPAIR_IN_PYTHON = "Collection.check(repair=True) mends what it can"


class TandemError(Exception):
    """Base class of all errors that Tandem raises on purpose. They can be pickled and copied."""

    def __reduce__(self) -> tuple[Callable[..., "TandemError"], tuple[Any, ...]]:
        # The default calls the class with the message alone; some subclasses take other arguments.
        return _restored, (type(self), self.args, self.__dict__)


class DamageWarning(UserWarning):
    """Something of a collection is damaged: answers go on without it.

    `reason` is the message without the advice that applies to Python only; `collection` is the address that a repair
    is given, empty where the damage mends itself.
    """

    def __init__(self, reason: str, collection: str = "") -> None:
        super().__init__(f"{reason}; {REPAIR_IN_PYTHON}" if collection else reason)
        self.reason = reason
        self.collection = collection


def _restored(kind: type[TandemError], args: tuple[Any, ...], attributes: Mapping[str, Any]) -> TandemError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(attributes)
    return error


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A suggestion to append to an error about an unknown name: `; did you mean 'width'?`, or "" if no name is near."""
    from difflib import get_close_matches

    plain = {each.lower().lstrip("-"): each for each in known}  # leading dashes would make all options look alike
    near = get_close_matches(name.lower().lstrip("-"), plain, n=1, cutoff=0.65)
    return f"; did you mean {plain[near[0]]!r}?" if near else ""


def in_words(error: Exception, *, longest: int = 200) -> str:
    """What is wrong with a file, in one line, for an error that a parser of Python's raised about it: without names of
    classes and advice for programmers.
    """
    said = " ".join(str(error).split())
    if isinstance(error, RecursionError):
        return "too many values inside each other"
    if isinstance(error, MemoryError):
        return "more than fits into memory"
    if isinstance(error, UnicodeDecodeError):
        return f"not in UTF-8 (byte {error.start:,})"
    if isinstance(error, OverflowError) or said.startswith("Exceeds the limit"):
        return "a number with far too many digits"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, KeyError | IndexError | AttributeError | TypeError) or not said:
        return "its parts do not fit together"
    return said[:longest]


class ConfigError(TandemError):
    """An invalid model configuration or recipe: an unknown architecture, field or value."""


class WeightsError(TandemError):
    """A checkpoint that cannot be used: truncated, hostile, or with missing, surplus or misshapen tensors."""


class HubError(TandemError):
    """A model name without local files: unknown, unreachable, not cached, or with a wrong checksum."""


class ImageError(TandemError):
    """An image that cannot be decoded within the limits. `source` names it, `kind` classifies the problem:

    - `not_found`: no such file, or nothing at that address
    - `too_large`: more bytes, pixels or header parts than the limits allow, or more than fits into memory
    - `unsupported`: not an image, or not a supported format
    - `damaged`: an image whose bytes are truncated or wrong
    - `timeout`: an address that did not answer in time, or a decoder that took longer than the header promises
    - `forbidden`: no permission to read it, or URLs are not allowed
    - `invalid`: not something an image can be read from, such as a folder, or an array of the wrong shape
    """

    def __init__(self, source: str, reason: str, kind: ImageErrorKind) -> None:
        super().__init__(f"{source}: {reason}")
        self.source = source
        self.reason = reason
        self.kind: ImageErrorKind = kind

    def as_dict(self) -> dict[str, str]:
        """A dict of plain values, as in the `failures` of JSON documents."""
        return {"image": self.source, "error": self.reason, "kind": self.kind}

    def renewed(self, source: str | None = None) -> "ImageError":
        """A copy without the traceback, which keeps the bytes of the file alive; with another source if given."""
        return ImageError(self.source if source is None else source, self.reason, self.kind)


class TextError(TandemError):
    """A text that does not fit the model's context, or is not a text.

    `reason` is the message without the advice that applies to Python only.
    """

    def __init__(self, reason: str, *, in_python: str = "") -> None:
        super().__init__(f"{reason} ({in_python})" if in_python else reason)
        self.reason = reason


class EngineError(TandemError):
    """An engine, device or precision that this machine or installation cannot offer."""


class ConditioningError(TandemError):
    """A prompt, a text encoder or an embedding that an image generator cannot be conditioned with."""


class HeadError(TandemError):
    """A `.tandem-head` file that cannot be used: truncated, hostile, foreign, or of another model."""


def named(names: Sequence[str], shown: int = 5) -> str:
    """Names for a line: the first few, and how many more there are."""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more


class SidecarError(TandemError):
    """An XMP sidecar that is left as it is: damaged, hostile, or of a form that is not edited."""


class DataError(TandemError):
    """A training or evaluation set that cannot be read."""


class RemoteFileError(TandemError):
    """A file of a training set at a URL that is missing, refused, changed, or cannot be reached."""


class MissingExtraError(TandemError):
    """A part of Tandem whose optional dependency is not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        how = f"pip install 'tandem-clip[{extra}]'"
        if extra in WITH_TORCH:
            how = f"pip install -c constraints.txt '.[{extra}]' in a clone of Tandem, or {how} (docs/train.md)"
        super().__init__(f"{purpose} needs {package}; install it with: {how}")


class StoreError(TandemError):
    """A collection that does not exist, is damaged, does not fit, or cannot be reached.

    `reason` is the message without the advice on damage. `remedy` is its kind: "repair" where a repair of `collection`
    may mend it, "restore" where only a copy helps, None where the message says all.
    """

    def __init__(self, reason: str, *, remedy: StoreRemedy | None = None, collection: str = "") -> None:
        advice = {"repair": f"; if that stays so, {REPAIR_IN_PYTHON}", "restore": f"; {RESTORE}", None: ""}
        super().__init__(reason + advice[remedy])
        self.reason = reason
        self.remedy: StoreRemedy | None = remedy
        self.collection = collection


class StoreNotFoundError(StoreError):
    """No collection at this address; the message says what is there instead and how to create one."""


class StoreExistsError(StoreError):
    """A collection exists already where a new one was to be created."""


class StoreFullError(StoreError):
    """The disk of the collection has no room; what was stored before is still there."""


class StoreBusyError(StoreError):
    """Another process is writing to the collection: only one may write, many may read."""


class FilterError(TandemError):
    """An invalid filter expression. `position` is the offset of the mistake in characters, None if unknown."""

    def __init__(self, reason: str, position: int | None = None) -> None:
        super().__init__(reason)
        self.position = position


class ServerError(TandemError):
    """An error response of a Tandem server: its status, and the title and detail of the problem document.

    `members` are the extension members of the document (RFC 9457, section 3.2), such as `failures`.
    """

    def __init__(self, status: int, title: str, detail: str, members: Mapping[str, Any] | None = None) -> None:
        super().__init__(f"{title}: {detail}" if detail else title)
        self.members = dict(members or {})
        self.status = status
        self.title = title
        self.detail = detail


class ClientError(TandemError):
    """An answer that a Tandem server would not give: too large, too slow to end, malformed, or not what was asked."""
