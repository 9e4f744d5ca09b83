"""OpenAI's files by their published names: download, resume, checksum, cache.

A download goes to a `.part` file beside its place and is moved there once its SHA-256 is right, so what is in the
cache is whole. Uses the standard library alone.
"""

import contextlib
import hashlib
import http.client
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from tandem.config import PUBLISHED
from tandem.errors import HubError
from tandem.weights.published import OPENAI_FILES, OPENAI_ON_HUB, OPENAI_ROOT, cache_folder
from tandem.weights.sources import Place

_CHUNK_BYTES = 1 << 20
_ATTEMPTS = 5

Progress = Callable[[int, int | None], None]  # bytes so far, bytes in all


def fetch_published(name: str) -> Place:
    """OpenAI's file of a published name: from our cache, else from Hugging Face's local cache, else downloaded."""
    config = PUBLISHED[name]
    file, digest = OPENAI_FILES[name]
    path = cache_folder() / file
    if path.is_file():
        return Place(path, name, config.licence, config.data)
    from tandem.weights.hub import cached, is_offline

    repository = OPENAI_ON_HUB.get(name)
    if repository and (folder := cached(repository)):
        note = f"{name} was found as {repository} in Hugging Face's cache: float32 where OpenAI's file has float16, "
        note += "so its fingerprint is another"
        return Place(folder, name, config.licence, config.data, {"source": note})
    if is_offline():
        raise HubError(f"{name} is not in {cache_folder()} and HF_HUB_OFFLINE is set; unset it, or put {file} there")
    download(f"{OPENAI_ROOT}/{digest}/{file}", path, digest, progress=_bar(file))
    return Place(path, name, config.licence, config.data)


def download(
    url: str,
    path: Path,
    sha256: str,
    *,
    progress: Progress | None = None,
    pause_s: float = 1.0,
    timeout_s: float = 30.0,
) -> Path:
    """Fetch `url` to `path`, continuing where an earlier attempt stopped. Raises `HubError` in one line."""
    part = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("ab") as file, _alone(file):
            if path.is_file():  # another process finished it while this one waited
                return path
            continued = part.stat().st_size > 0
            _fill(url, part, file, progress, pause_s, timeout_s)
            found = _sha256(part)
            if found != sha256 and continued:  # what an earlier attempt left may be at fault: once more, from the start
                file.truncate(0)
                _fill(url, part, file, progress, pause_s, timeout_s)
                found = _sha256(part)
            if found != sha256:
                part.unlink()
                raise HubError(
                    f"{url}: wrong checksum: expected SHA-256 {sha256}, came {found}; it was thrown away, try again"
                )
            os.replace(part, path)
    except OSError as error:
        raise HubError(f"{path}: cannot be written: {error.strerror or error}") from None
    return path


def _fill(url: str, part: Path, file: IO[bytes], progress: Progress | None, pause_s: float, timeout_s: float) -> None:
    reason = ""
    for attempt in range(_ATTEMPTS):
        if attempt:
            time.sleep(pause_s * 2 ** (attempt - 1))
        before = file.seek(0, os.SEEK_END)
        try:
            if _continue(url, file, progress, timeout_s):
                return
            reason = f"the connection closed after {file.tell()} bytes"
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 416 and before:  # the range is past the end: what is there is whole, or no use
                return
            if error.code < 500 and error.code != 429:
                raise HubError(f"{url}: the server says {error.code} {error.reason}") from None
            reason = f"the server says {error.code} {error.reason}"
        except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
            reason = str(getattr(error, "reason", "") or error or type(error).__name__)
    kept = file.seek(0, os.SEEK_END)
    what_next = f"{kept} bytes are kept in {part}; check the network and run again to continue"
    raise HubError(f"{url}: cannot be downloaded: {reason}. {what_next if kept else 'check the network and run again'}")


def _continue(url: str, file: IO[bytes], progress: Progress | None, timeout_s: float) -> bool:
    """Append what is missing. False where the connection closed before the end."""
    have = file.seek(0, os.SEEK_END)
    request = urllib.request.Request(url, headers={"User-Agent": "tandem"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    with urllib.request.urlopen(request, timeout=timeout_s) as response:
        if have and response.status != 206:  # a server without ranges sends all of it again
            file.truncate(0)
            have = 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length and length.isdigit() else None
        while chunk := response.read(_CHUNK_BYTES):
            file.write(chunk)
            have += len(chunk)
            if progress:
                progress(have, total)
        file.flush()
        return total is None or have >= total


@contextlib.contextmanager
def _alone(file: IO[bytes]) -> Iterator[None]:
    """One process downloads, others wait; where the system has no such locks, all download."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    fcntl.flock(file, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _bar(name: str, stream: Any = None) -> Progress:
    """A line on standard error that counts up: in place on a terminal, every tenth of the way elsewhere."""
    out = stream or sys.stderr
    said = -1

    def show(done: int, total: int | None) -> None:
        nonlocal said
        percent = 100 * done // total if total else 0
        if percent <= said and done != total:
            return
        terminal = out.isatty()
        if terminal or percent // 10 > said // 10:
            of = f" of {total / 1e6:.0f}" if total else ""
            end = "\n" if not terminal or done == total else ""
            start = "\r" if terminal else ""
            print(f"{start}{name}: {done / 1e6:.0f}{of} MB", end=end, file=out, flush=True)
            said = percent

    return show
