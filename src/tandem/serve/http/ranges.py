"""A file in parts, as players of films ask for it (RFC 9110, section 14). Knows no films.

A part is answered with at most `MOST_BYTES` of it: players ask on, and no request holds a file for long.
"""

import re
from pathlib import Path

from fastapi.responses import FileResponse, Response
from starlette.types import Receive, Scope, Send

from tandem.serve.http.problems import ProblemError

MOST_BYTES = 2 * 2**20
_RANGE = re.compile(r"\s*bytes\s*=\s*(\d{0,18})\s*-\s*(\d{0,18})\s*")


def part_of(header: str | None, size: int) -> tuple[int, int] | None:
    """The first byte that is wanted and the byte after the last, of a file of `size` bytes; None for the whole file.

    Of several parts, and of what is no range, the whole is the right answer. `ValueError` for a part outside.
    """
    found = _RANGE.fullmatch(header or "")
    if found is None or found[1] == found[2] == "":
        return None
    if not found[1]:
        begin, end = max(0, size - int(found[2])), size
    else:
        begin, end = int(found[1]), min(size, int(found[2]) + 1) if found[2] else size
        if found[2] and int(found[2]) < begin:
            return None
    if begin >= size or end <= begin:
        raise ValueError(f"bytes {begin:,} to {end:,} of {size:,}")
    return begin, min(end, begin + MOST_BYTES)


class _Whole(FileResponse):
    """All of a file: what the request's `Range` asks for was decided before, and is not asked again."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(name, value) for name, value in scope["headers"] if name != b"range"]
        await super().__call__({**scope, "headers": headers}, receive, send)


def answer(path: Path, kind: str, header: str | None) -> Response:
    """A file, or the part of it that a `Range` header asks for.

    `OSError` where it cannot be read, `ProblemError` (416) for a part outside.
    """
    size = path.stat().st_size
    try:
        part = part_of(header, size)
    except ValueError as error:
        outside = {"content-range": f"bytes */{size}"}
        raise ProblemError(416, "Range not satisfiable", f"outside of the file: {error}", headers=outside) from None
    if part is None:
        return _Whole(path, media_type=kind, headers={"accept-ranges": "bytes"})
    begin, end = part
    with path.open("rb") as file:
        file.seek(begin)
        content = file.read(end - begin)
    headers = {"accept-ranges": "bytes", "content-range": f"bytes {begin}-{begin + len(content) - 1}/{size}"}
    return Response(content, 206, headers, kind)
