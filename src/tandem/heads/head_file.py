"""`.tandem-head` files: a head's tensors and its card in one safetensors file, a few hundred KB, written whole or not.

Reading is strict, since such files are passed around: sizes, types, names and numbers are checked before anything is
answered with them, and nothing in them is executed. Knows files and heads; no images and no models.

Shapes: c classes, d the shared dimension.
"""

import json
import os
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tandem import fields
from tandem.errors import HeadError, WeightsError
from tandem.files import display_name, user_path, write_bytes
from tandem.heads.head import Head
from tandem.weights.safetensors_file import read_safetensors, safetensors_bytes

SUFFIX = ".tandem-head"
FORMAT = "tandem-head 1"
MAX_FILE_BYTES = 256 * 2**20  # 50,000 classes of 1,280 dimensions
MAX_CLASSES = 50_000
MAX_CLASS_CHARACTERS = 500
MAX_MODEL_CHARACTERS = 500
MAX_WEIGHT = 1e9  # far beyond what any fit gives; larger ones overflow in products with vectors
# What commands a terminal, ends a line, hides the order of letters, or is no text at all.
_UNFIT = ("Cc", "Cs", "Zl", "Zp")
_DIRECTIONS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_TENSORS = {"weights", "bias"}
_LEARN_AGAIN = "write it again with tandem learn"


@dataclass(frozen=True)
class _Header:
    """What the file's metadata says beside the tensors."""

    classes: tuple[str, ...]
    fingerprint: str
    method: str
    card: Mapping[str, Any]


def write_head(head: Head, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """Write a head, complete or not at all, and return its path.

    Raises `HeadError` where a file is there already (unless `overwrite`), for a name without the suffix, and for what
    `read_head` would refuse.
    """
    target = check_target(path, overwrite=overwrite)
    _check(head, target.name)
    header = fields.to_plain(_Header(head.classes, head.fingerprint, head.method, head.card))
    text = json.dumps(header, ensure_ascii=False, allow_nan=False)
    tensors = {"weights": np.asarray(head.weights, np.float32), "bias": np.asarray(head.bias, np.float32)}
    try:
        write_bytes(target, safetensors_bytes(tensors, {"format": FORMAT, "head": text}))
    except OSError as error:
        raise HeadError(f"{target}: cannot be written: {error.strerror or error}") from None
    return target


def check_target(path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """The path to write to. Raises `HeadError` where `write_head` would: before any work is done."""
    target = user_path(path)
    if target.suffix != SUFFIX:
        raise HeadError(f"{target}: expected a name that ends in {SUFFIX}, such as {target.stem or 'mine'}{SUFFIX}")
    if target.is_dir() or (target.exists() and not overwrite):
        what = "is a folder" if target.is_dir() else "exists already"
        raise HeadError(f"{target}: {what}; choose another name" + ("" if target.is_dir() else ", or say overwrite"))
    if not target.absolute().parent.is_dir():
        raise HeadError(f"{target}: there is no folder {target.parent}; make it first")
    return target


def read_head(path: str | os.PathLike[str]) -> Head:
    """The head of a file. Raises `HeadError`, in one line, for anything but a whole head of this format."""
    file = user_path(path)
    named = display_name(str(file))
    try:
        if file.is_file() and file.stat().st_size > MAX_FILE_BYTES:
            raise HeadError(f"{named}: expected a head of at most {MAX_FILE_BYTES // 2**20} MB, got a larger file")
        if file.is_dir() or (file.exists() and not file.is_file()):
            raise HeadError(f"{named}: expected a {SUFFIX} file, got a {'folder' if file.is_dir() else 'device'}")
        tensors, metadata = read_safetensors(file)
    except FileNotFoundError:
        raise HeadError(f"{named}: no such file; tandem learn writes one") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise HeadError(f"{named}: cannot be read: {reason}") from None
    except WeightsError as error:
        reason = str(error).removeprefix(f"{file}: ").partition(";")[0]
        raise HeadError(f"{named}: not a whole {SUFFIX} file ({reason}); {_LEARN_AGAIN}") from None
    said = metadata.get("format")
    if said != FORMAT:
        found = f"the format {fields.shown(said)}" if said else "a safetensors file that is no head"
        raise HeadError(f"{named}: expected a head ({FORMAT!r}), got {found}; {_LEARN_AGAIN}")
    if tensors.keys() != _TENSORS or any(array.dtype != np.float32 for array in tensors.values()):
        found = ", ".join(f"{name[:40]} {array.dtype}" for name, array in sorted(tensors.items())[:4])
        raise HeadError(f"{named}: expected the tensors weights and bias in float32, got {found or 'none'}")
    about = _header(named, metadata.get("head", ""))
    # Copies: the file may be replaced while the head is in use.
    weights, bias = np.array(tensors["weights"]), np.array(tensors["bias"])
    head = Head(about.classes, weights, bias, about.fingerprint, about.method, about.card)
    _check(head, named)
    return head


def check_model(head: Head, *, name: str, fingerprint: str, source: str = "the head") -> None:
    """Raise `HeadError` for a head that was fitted on another model's vectors: its scores would be noise."""
    if head.fingerprint != fingerprint:
        raise HeadError(
            f"{source} belongs to the model {model_name(head)} (fingerprint {head.fingerprint[:12]}), got {name} "
            f"({fingerprint[:12]}); take that model, or learn the head again with this one"
        )


def model_name(head: Head) -> str:
    """What the model of a head was called."""
    return str(head.card.get("model") or "unknown")[:MAX_MODEL_CHARACTERS]


def _header(named: str, text: str) -> _Header:
    try:
        plain = json.loads(text)
    except (ValueError, RecursionError):
        raise HeadError(f"{named}: its description is not JSON; {_LEARN_AGAIN}") from None
    return fields.read(_Header, plain, path=f"{named}: head", error=HeadError)


def _check(head: Head, named: str) -> None:
    """Raise `HeadError` for a head that cannot answer."""
    c, d = len(head.classes), head.weights.shape[-1] if head.weights.ndim else 0
    if head.weights.ndim != 2 or head.weights.shape[0] != c or not d or head.bias.shape != (c,):
        came = f"weights {list(head.weights.shape)} and bias {list(head.bias.shape)}"
        raise HeadError(f"{named}: expected weights [{c} d] and bias [{c}] for its {c} classes, got {came}")
    if not 2 <= c <= MAX_CLASSES:
        raise HeadError(f"{named}: expected 2 to {MAX_CLASSES:,} classes, got {c:,}")
    check_class_names(head.classes, named)
    if not all((np.abs(each) <= MAX_WEIGHT).all() for each in (head.weights, head.bias)):  # NaN is not, either
        raise HeadError(f"{named}: its numbers are not finite, or beyond {MAX_WEIGHT:,.0f}; {_LEARN_AGAIN}")
    if not re.fullmatch("[0-9a-f]{64}", head.fingerprint):
        found = fields.shown(head.fingerprint)
        raise HeadError(f"{named}: expected a fingerprint of 64 hexadecimal digits, got {found}")


def check_class_names(classes: Sequence[str], named: str) -> None:
    """Raise `HeadError` for names that cannot be shown, and for two that people could not tell apart."""
    first: dict[str, str] = {}
    for each in classes:
        if not each.strip() or len(each) > MAX_CLASS_CHARACTERS:
            allowed = f"names of classes of 1 to {MAX_CLASS_CHARACTERS} characters"
            raise HeadError(f"{named}: expected {allowed}, got {fields.shown(each)}")
        if any(unicodedata.category(char) in _UNFIT or char in _DIRECTIONS for char in each):
            raise HeadError(f"{named}: expected a name of a class as text in one line, got {_ascii(each)}")
        alike = " ".join(each.lower().split())
        if alike in first:
            other = first[alike]
            which = "" if other == each else f", as {fields.shown(other)}"
            raise HeadError(f"{named}: the class {fields.shown(each)} is there twice{which}")
        first[alike] = each


def _ascii(text: str) -> str:
    return fields.shown(text).encode("ascii", "backslashreplace").decode()
