"""A log of decisions that is only added to: JSON lines, each with the SHA-256 of the line before it.

Who changes, removes or inserts a line breaks the chain at the next one. Cutting off the end breaks nothing inside: so
`LOG.end` beside it holds the number of lines and the digest of the last one, and whoever keeps that digest elsewhere
can also tell a log that was written anew from some line on, that file included. Without one kept elsewhere nobody can.

A line that a kill left unfinished stays as it is: the next writer ends it and marks it in a line of the chain. Writers
take turns by a lock file. Knows lines and digests; what is decided, it does not.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Self

from tandem.errors import ConfigError, DataError
from tandem.fields import NonNegative, read
from tandem.files import json_text, sync, user_path, write_json

FORMAT = "tandem-moderation-log"
VERSION = 1
FIRST = "0" * 64  # what the first line names as the line before it
MAX_LINE = 16 << 20
_LOCK_S = 60.0


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


@dataclass(frozen=True)
class LogEnd:
    """Where a log ends: how many lines, the digest of the last one and its length, the bytes of all."""

    lines: NonNegative = 0
    sha256: str = FIRST
    last_bytes: NonNegative = 0
    bytes: NonNegative = 0


@dataclass(frozen=True)
class Verified:
    """A log whose chain holds."""

    end: LogEnd
    decisions: int
    torn: int  # lines that a kill left unfinished, and that are marked
    unfinished_bytes: int  # of a last line that is not ended; the next writer marks it
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as `tandem moderate verify-log --json` prints them."""
        return {
            "lines": self.end.lines,
            "decisions": self.decisions,
            "digest": self.end.sha256,
            "torn": self.torn,
            "unfinished_bytes": self.unfinished_bytes,
            "notes": list(self.notes),
        }


def end_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.end")


class AuditLog:
    """Adds decisions to a log. Several processes may, at once; use it in a `with` block."""

    def __init__(self, path: str | os.PathLike[str], *, now: Callable[[], str] = _now) -> None:
        """Raises `DataError` for what is no such log, or cannot be written."""
        self.path = user_path(os.fspath(path))
        self._now = now
        self.end = LogEnd()
        if self.path.exists() and not self.path.is_file():
            raise DataError(f"{self.path}: expected a file for the log")
        self._check_start()
        self.append(())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Wait until all of it is on the disk."""
        for path in (self.path, end_path(self.path)):
            sync(path)

    def _check_start(self) -> None:
        """Refuse another file before anything is put beside it."""
        start = json_text({"n": 0, "previous": FIRST}, indent=None).encode()[:-1]
        try:
            with open(self.path, "rb") as file:
                found = file.read(len(start))
        except FileNotFoundError:
            return
        except OSError as error:
            raise DataError(f"{self.path}: the log cannot be read: {error.strerror or error}") from None
        if not start.startswith(found.split(b"\n")[0]):  # a kill may have left a part of it
            raise _broken(self.path, 1, "it is no line of a log")

    def append(self, entries: Iterable[Mapping[str, Any]]) -> None:
        """Add a line for each of plain values; they are in the file when this returns. Raises `DataError`."""
        from filelock import FileLock, Timeout

        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{self.path}.lock", timeout=_LOCK_S), open(self.path, "a+b") as file:
                known = read_end(self.path)
                self.end = self._write(file, self._end(file, known), entries)
                if self.end != known:
                    write_json(end_path(self.path), asdict(self.end), indent=None)
        except Timeout:
            raise DataError(f"{self.path}: another program has locked the log for {_LOCK_S:.0f} s") from None
        except OSError as error:
            raise DataError(f"{self.path}: the log cannot be written: {error.strerror or error}") from None

    def _write(self, file: BinaryIO, before: LogEnd, entries: Iterable[Mapping[str, Any]]) -> LogEnd:
        content, lines, digest, length = bytearray(), before.lines, before.sha256, before.last_bytes
        size = file.seek(0, os.SEEK_END)
        values: list[Mapping[str, Any]] = []
        if size > before.bytes:  # what a kill left
            file.seek(before.bytes)
            rest = file.read()
            lines, digest, length = lines + 1, hashlib.sha256(rest).hexdigest(), len(rest)
            content += b"\n"
            values.append({"torn": digest})
        elif not size:
            values.append({"format": FORMAT, "version": VERSION})
        for value in (*values, *entries):
            line = json_text({"n": lines, "previous": digest, "time": self._now(), **value}, indent=None).encode()
            lines, digest, length = lines + 1, hashlib.sha256(line).hexdigest(), len(line)
            content += line + b"\n"
        if content:
            file.write(content)  # opened to append: always at the end
            file.flush()
        return LogEnd(lines, digest, length, size + len(content))

    def _end(self, file: BinaryIO, known: LogEnd | None) -> LogEnd:
        """Where the chain ends: what was verified before is not read again, but for its last line."""
        if file.seek(0, os.SEEK_END) < self.end.bytes:
            raise DataError(f"{self.path}: it is shorter than it was: the end was cut off")
        if self.end.lines:
            file.seek(self.end.bytes - self.end.last_bytes - 1)
            if hashlib.sha256(file.read(self.end.last_bytes)).hexdigest() != self.end.sha256:
                raise _broken(self.path, self.end.lines, "it is not what it was: the log was changed")
        file.seek(self.end.bytes)
        checked = check(file, self.path, after=self.end)
        if known is not None:
            _check_end(checked, known, self.path)
        return checked.verified.end


def read_end(path: Path) -> LogEnd | None:
    """The end that is kept beside a log; None without one. Raises `DataError` for anything else."""
    try:
        text = end_path(path).read_bytes()
        return read(LogEnd, json.loads(text))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError, ConfigError) as error:
        raise DataError(f"{end_path(path)}: no end of a log: {error}") from None


# --- reading ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Checked:
    verified: Verified
    digests: list[str]  # of every line that was read
    before: LogEnd  # where reading began


def lines_of(file: BinaryIO, path: Path) -> Iterator[bytes]:
    """The lines with their ends. Raises `DataError` for one that no writer makes so long."""
    number = 0
    while line := file.readline(MAX_LINE + 1):
        number += 1
        if len(line) > MAX_LINE:
            raise DataError(f"{path}, line {number}: longer than {MAX_LINE >> 20} MB: no log of decisions")
        yield line


def check(file: BinaryIO, path: Path, *, after: LogEnd | None = None) -> Checked:
    """Follow the chain from where a file is, `after` what was verified; the default is its start.

    Raises `DataError` with the first line where it breaks.
    """
    before = after or LogEnd()
    digests: list[str] = []
    previous, size, length = before.sha256, before.bytes, before.last_bytes
    decisions, torn, unfinished = 0, 0, 0
    pending: str | None = None  # the digest of a line that must be marked by the next one
    for number, raw in enumerate(lines_of(file, path), start=before.lines + 1):
        if not raw.endswith(b"\n"):
            unfinished = len(raw)
            break
        line = raw[:-1]
        digest = hashlib.sha256(line).hexdigest()
        value = _value(line)
        if pending is not None and (value is None or value.get("torn") != pending):
            raise _broken(path, number - 1, "it is no line of a log, and the next one does not mark it as unfinished")
        if value is None or "previous" not in value:
            pending = digest
        elif value["previous"] != previous:
            raise _broken(path, number, "it does not follow the line before it: one was changed, removed or inserted")
        elif value.get("n") != number - 1:
            raise _broken(path, number, f"expected number {number - 1}, got {str(value.get('n'))[:20]}")
        elif number == 1 and (value.get("format"), value.get("version")) != (FORMAT, VERSION):
            raise DataError(f"{path}: expected a log of decisions, version {VERSION}")
        else:
            torn += "torn" in value
            pending = None
            decisions += "band" in value
        digests.append(digest)
        previous, size, length = digest, size + len(raw), len(line)
    if pending is not None:
        raise _broken(path, before.lines + len(digests), "it is no line of a log")
    end = LogEnd(before.lines + len(digests), previous, length, size)
    return Checked(Verified(end, decisions, torn, unfinished), digests, before)


def _value(line: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _broken(path: Path, number: int, why: str) -> DataError:
    return DataError(f"{path}, line {number}: the chain is broken: {why}")


def _check_end(checked: Checked, known: LogEnd, path: Path) -> None:
    beside, there = end_path(path).name, checked.verified.end.lines
    digests = [checked.before.sha256, *checked.digests] if checked.before.lines else checked.digests
    first = there - len(digests) + 1  # the number of the first of them
    place = known.lines - first
    if known.lines and 0 <= place < len(digests) and digests[place] == known.sha256:
        return
    if not known.lines and known.sha256 == FIRST and not checked.before.lines:
        return
    if known.sha256 in digests:
        raise DataError(
            f"{path}: {beside} counts {known.lines:,} lines, but its digest is that of line "
            f"{first + digests.index(known.sha256):,}: {beside} was changed, and the chain of the log holds; "
            f"where you know that nothing is missing, remove {beside}, and the next writer makes it anew"
        )
    if known.lines > there:
        raise DataError(f"{path}: {beside} counts {known.lines:,} lines, but there are {there:,}: the end was cut off")
    raise DataError(f"{path}, line {known.lines}: it is not the line that {beside} names: the log was written anew")


def verify_log(path: str | os.PathLike[str], *, digest: str | None = None) -> Verified:
    """Check the whole chain, the end kept beside the log and, where given, a digest of a line that was kept elsewhere.

    Raises `DataError` that says where it breaks.
    """
    place = user_path(os.fspath(path))
    try:
        with open(place, "rb") as file:
            checked = check(file, place)
    except OSError as error:
        raise DataError(f"{place}: the log cannot be read: {error.strerror or error}") from None
    known = read_end(place)
    notes: tuple[str, ...] = ()
    if known is None:
        notes += (f"there is no {end_path(place).name} beside it: whether its end was cut off cannot be seen",)
    else:
        _check_end(checked, known, place)
        if known.lines < len(checked.digests):
            more = len(checked.digests) - known.lines
            notes += (f"its last {more:,} lines are not in {end_path(place).name}: a writer was stopped in between",)
    if digest is not None:
        wanted = digest.strip().lower()
        if wanted not in checked.digests:
            raise DataError(
                f"{place}: no line has the digest {wanted[:12]} that was kept: the log was cut off or written anew"
            )
        notes += (f"the kept digest is that of line {checked.digests.index(wanted) + 1:,}: all up to it is as it was",)
    verified = checked.verified
    return Verified(verified.end, verified.decisions, verified.torn, verified.unfinished_bytes, notes)


def read_entries(path: str | os.PathLike[str]) -> Iterator[dict[str, Any]]:
    """The decisions of a log, in order; whether its chain holds is for `verify_log`. Raises `DataError`."""
    place = user_path(os.fspath(path))
    try:
        with open(place, "rb") as file:
            for line in lines_of(file, place):
                value = _value(line)
                if value is not None and "band" in value:
                    yield value
    except OSError as error:
        raise DataError(f"{place}: the log cannot be read: {error.strerror or error}") from None
