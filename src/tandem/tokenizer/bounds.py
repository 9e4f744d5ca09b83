"""What a tokenizer's files may ask for: their sizes, and how long a text may become before it is split.

A step of a normalizer can double a text, and thirty of them make a gigabyte of a letter. Knows the steps of the
library `tokenizers` as JSON; builds none.
"""

import base64
import binascii
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tandem.errors import ConfigError

if TYPE_CHECKING:
    import tokenizers

MAX_CHARACTERS = 1_000_000  # of a text, a long book: the library takes a second and 400 MB for them
MAX_BYTES = 64 * 2**20  # of a file; the largest of a published model, Gemma's, has 34 MB
_MAX_VALUES = 4_000_000  # of a file: XLM-V's has 1.8 million
_MAX_STEPS = 64
_MAX_GROWTH = 4.0  # times the length of a text, all steps together
_MAX_PREPENDED = 32  # characters
_CHARSMAP = re.compile(r'"precompiled_charsmap"\s*:\s*"([^"]*)"')
_BACKTRACKING = re.compile(r"[+*}]\)(?:[+*]|\{\d+,\d*\})")  # a repeated group that ends in something repeated


def check_file(path: Path) -> None:
    """Refuse what is no file, or a larger one than any tokenizer's. Raises `ConfigError` that names it."""
    try:
        status = path.stat()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from None
    if status.st_size > MAX_BYTES:
        raise ConfigError(f"{path}: expected a tokenizer of at most {MAX_BYTES:,} bytes, got {status.st_size:,}")


def check_text(text: str, source: str) -> None:
    """Refuse a `tokenizer.json` before it is parsed: far too many values, or tables with a false length."""
    if text.count(",") > _MAX_VALUES:
        raise ConfigError(f"{source}: expected a tokenizer of at most {_MAX_VALUES:,} values, got more")
    for found in _CHARSMAP.finditer(text):
        try:
            table = base64.b64decode(found[1], validate=True)
        except binascii.Error:
            table = b""
        length = int.from_bytes(table[:4], "little")
        if len(table) < 4 or length % 4 or length < 4 or 4 + length > len(table):
            raise ConfigError(f"{source}: precompiled_charsmap: damaged: it says another length than it has")


def check_steps(core: "tokenizers.Tokenizer", source: str) -> None:
    """Refuse a normalizer that makes texts far longer, and patterns that may take time without end."""
    steps = _flat(_state(core.normalizer))
    if len(steps) > _MAX_STEPS:
        raise ConfigError(f"{source}: normalizer: expected at most {_MAX_STEPS} steps, got {len(steps):,}")
    growth, prepended = 1.0, 0
    for step in steps:
        if step.get("type") == "Replace":
            pattern, content = step.get("pattern"), len(str(step.get("content") or ""))
            plain = pattern.get("String") if isinstance(pattern, dict) else None
            if _matches_nothing(pattern):
                raise ConfigError(f"{source}: normalizer: a pattern that matches where nothing is: {pattern!s:.80}")
            growth *= max(1.0, content / max(len(plain), 1) if isinstance(plain, str) else content)
        elif step.get("type") == "Prepend":
            prepended += len(str(step.get("prepend") or ""))
    if growth > _MAX_GROWTH or prepended > _MAX_PREPENDED:
        raise ConfigError(f"{source}: normalizer: its steps make texts more than {_MAX_GROWTH:g} times as long")
    for step in (*steps, *_flat(_state(core.pre_tokenizer))):
        pattern = step.get("pattern")
        regex = pattern.get("Regex") if isinstance(pattern, dict) else None
        if isinstance(regex, str) and _BACKTRACKING.search(regex):
            raise ConfigError(f"{source}: the pattern {regex!r:.80} repeats what is repeated: it may never end")


def _matches_nothing(pattern: Any) -> bool:
    """Whether a step would replace what has no characters, over which the library stumbles."""
    plain, regex = (pattern.get(key) for key in ("String", "Regex")) if isinstance(pattern, dict) else (None, None)
    if isinstance(plain, str):
        return not plain
    try:
        return isinstance(regex, str) and re.search(regex, "") is not None
    except re.error:  # of another dialect
        return False


def _state(step: Any) -> Any:
    """A step of the library as the JSON that it is stored as; None where there is none."""
    if step is None:
        return None
    try:
        return json.loads(step.__getstate__())
    except (TypeError, ValueError, AttributeError):  # written in Python by someone; files cannot hold such a step
        return None


def _flat(state: Any) -> list[dict[str, Any]]:
    """The steps of a sequence, those of sequences inside it included."""
    found: list[dict[str, Any]] = []
    waiting = [state]
    while waiting:
        step = waiting.pop()
        if not isinstance(step, dict):
            continue
        inner = step.get("normalizers") or step.get("pretokenizers")
        if isinstance(inner, list):
            waiting += inner
        else:
            found.append(step)
    return found
