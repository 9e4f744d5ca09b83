"""Files at URLs (`s3://`, `gs://`, `https://`) through fsspec: which there are, and ranges of their bytes.

A read that a server or the network refuses is repeated for a while: a batch must be the same in every run. A file that
is no longer the one that was found at first is refused: by the first that its server tells of generation, strong ETag
and time; of a web server that tells none, by its size. Knows no tar, no sample and no cache.
"""

import asyncio
import logging
import os
import re
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tandem.errors import MissingExtraError, RemoteFileError, TandemError
from tandem.plain_line import plain_line

SCHEMES = ("s3", "gs", "https", "http")
AT_ONCE = 16  # requests of a process
REQUEST_S = 60.0  # for one request
_LEAST_S = 10.0  # for one request, where less is left of the patience
_PAUSES_S = (0.5, 10.0)  # the first, doubled up to the last
# Parts of a query that let whoever has the URL in: of S3, Google, Azure (SAS), CloudFront, Akamai, and the usual ones.
_SIGNATURES = re.compile(
    r"x-(amz|goog)-(signature|credential|security-token)|awsaccesskeyid|googleaccessid|(?:.*[-_])?signature|sig|"
    r"key-pair-id|hdnea|hdnt[sl]|__token__|(?:.*[-_])?(token|password|secret)|(?:.*[-_])?api[-_]?key|auth|authorization",
    re.IGNORECASE,
)
_QUERY = re.compile(
    r"(?<=[^\s?])\?[^\s'\")]+=[^\s'\")]*"
)  # of a URL in a message: a redirect may lead to one that is signed
_VERSIONS = ("generation", "ETag", "etag", "LastModified", "Last-Modified", "updated", "mtime")
_PACKAGES = {"s3": ("s3fs", "remote"), "gs": ("gcsfs", "gcs"), "https": ("aiohttp", "remote")}
_CREDENTIALS = {
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or AWS_PROFILE; FSSPEC_S3_ANON=true for a public bucket)",
    "gs": "set GOOGLE_APPLICATION_CREDENTIALS (or FSSPEC_GS_TOKEN=anon for a public bucket)",
    "https": "name the host in ~/.netrc",
}


@dataclass(frozen=True)
class RemoteFile:
    """A file at a URL as it was found: another `version` is another file."""

    url: str
    size: int
    version: str  # its ETag, generation or time; "" where the server tells none of them

    @property
    def name(self) -> str:
        """The last part of its path."""
        return urlsplit(self.url).path.rpartition("/")[2] if self._scheme == "https" else self.url.rpartition("/")[2]

    @property
    def state(self) -> str:
        """A string that changes when the file does."""
        return f"{self.size} {self.version}"

    def __str__(self) -> str:
        return shown(self.url)

    @property
    def _scheme(self) -> str:
        return _scheme(self.url)


class ChangedError(Exception):
    """The file is no longer what it was when it was found."""


class _NoRangesError(Exception):
    """A server that sends whole files only."""


def is_remote(path: str) -> bool:
    """Whether a string is a URL rather than a path."""
    return re.match(r"[a-zA-Z][a-zA-Z0-9+.-]+://", path) is not None


def shown(url: str) -> str:
    """A URL for messages: without its query, where signatures are."""
    return plain_line(url.partition("?")[0] if _scheme(url) == "https" else url)


def find(urls: Sequence[str], patience_s: float) -> list[RemoteFile]:
    """What is at the URLs, in their order; a glob (of `s3://` and `gs://`) stands for what it matches, by name.

    Raises: `RemoteFileError` for what is missing, refused, or not to be reached within `patience_s`, and for URLs of
        another kind; `MissingExtraError`.
    """
    for url in urls:
        _check(url)
    end = time.monotonic() + patience_s
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = list(pool.map(lambda url: _find(url, end), urls))
    return list(dict.fromkeys(file for files in found for file in files))


def start_read(file: RemoteFile, start: int, stop: int, patience_s: float) -> "Future[bytes]":
    """Begin to read bytes start..stop; the result is there later, or the `RemoteFileError` that says why not."""
    system = _file_system(_scheme(file.url))
    return asyncio.run_coroutine_threadsafe(_read(system, file, start, stop, patience_s), system.loop)


def read(file: RemoteFile, start: int, stop: int, patience_s: float) -> bytes:
    """Bytes start..stop of a file. Raises `RemoteFileError`."""
    return start_read(file, start, stop, patience_s).result()


# --- which files ---------------------------------------------------------------------------------------------------


def _scheme(url: str) -> str:
    scheme = url.partition("://")[0].lower()
    return "https" if scheme == "http" else scheme


def _check(url: str) -> None:
    if url.partition("://")[0].lower() not in SCHEMES:
        raise RemoteFileError(f"{shown(url)}: expected a path, s3://, gs:// or https://")
    if "@" in urlsplit(url).netloc:
        raise RemoteFileError(
            f"{url.partition('://')[0]}://...@...: a recipe must not hold credentials; {_CREDENTIALS[_scheme(url)]}"
        )
    if _scheme(url) == "https" and any(_SIGNATURES.fullmatch(name) for name, _ in parse_qsl(urlsplit(url).query, True)):
        raise RemoteFileError(
            f"{shown(url)}?...: a signed URL, and a recipe must not hold credentials (its next signature would be "
            f"another file, too); name it without its query, and {_CREDENTIALS['https']}, or read the bucket itself as "
            "s3:// or gs://"
        )
    if _is_glob(url) and _scheme(url) == "https":
        raise RemoteFileError(f"{shown(url)}: a web server lists no files; name them with braces: {{00000..00099}}.tar")


def _is_glob(url: str) -> bool:
    return any(letter in (url if _scheme(url) != "https" else urlsplit(url).path) for letter in "*[") or (
        "?" in url and _scheme(url) != "https"
    )


def _find(url: str, end: float) -> list[RemoteFile]:
    """The files of one URL."""
    pause = _PAUSES_S[0]
    while True:
        try:
            system = _file_system(_scheme(url))
            left_s = max(_LEAST_S, end - time.monotonic())  # fsspec's own requests wait longer, one after the other
            if not _is_glob(url):
                return [_file(url, _answer(system, "_info", left_s, url))]
            named = _answer(system, "_glob", left_s, url, detail=True)
            files = [(name, about) for name, about in sorted(named.items()) if about.get("type") == "file"]
            if not files:
                raise FileNotFoundError(url)
            return [_file(f"{_scheme(url)}://{name}", about) for name, about in files]
        except Exception as error:
            if (final := _final(url, error)) is not None:
                raise final from None
            if time.monotonic() + pause > end:
                raise _gone(url, error) from None
        time.sleep(pause)
        pause = min(2 * pause, _PAUSES_S[1])


def _answer(system: Any, verb: str, timeout_s: float, *given: Any, **options: Any) -> Any:
    """What one of a file system's coroutines gives. Raises `TimeoutError` when it takes longer."""
    future = asyncio.run_coroutine_threadsafe(getattr(system, verb)(*given, **options), system.loop)
    try:
        return future.result(timeout_s)
    finally:
        future.cancel()


def _file(url: str, about: dict[str, Any]) -> RemoteFile:
    if about.get("size") is None:
        raise _NoRangesError
    version = next((f"{name} {about[name]}" for name in _VERSIONS if about.get(name)), "")
    return RemoteFile(url, int(about["size"]), version)


# --- bytes ---------------------------------------------------------------------------------------------------------

_systems: dict[tuple[int, str], Any] = {}  # of this process: connections do not survive a fork
_locks: dict[int, threading.Lock] = {}
_limits: dict[int, asyncio.Semaphore] = {}


def _file_system(scheme: str) -> Any:
    key = os.getpid(), scheme
    with _locks.setdefault(os.getpid(), threading.Lock()):  # several threads would each make one
        if key not in _systems:
            _systems[key] = _new_file_system(scheme)
        return _systems[key]


def _new_file_system(scheme: str) -> Any:
    package, extra = _PACKAGES[scheme]
    options: dict[str, Any] = {}
    try:
        import fsspec

        if scheme == "https":
            import aiohttp

            timeout = aiohttp.ClientTimeout(total=REQUEST_S, sock_connect=10)
            options = {"client_kwargs": {"timeout": timeout, "trust_env": True}}  # proxies, and ~/.netrc
        elif scheme == "s3":  # reads are repeated here
            options = {"config_kwargs": {"connect_timeout": 10, "read_timeout": 30, "retries": {"max_attempts": 1}}}
        if scheme == "gs":  # the plain one: fsspec's asks a second service, with retries of a minute, about folders
            from gcsfs.core import GCSFileSystem as Opened
        else:
            Opened = fsspec.get_filesystem_class(scheme)
        system = Opened(use_listings_cache=False, skip_instance_cache=True, **options)
    except ImportError:
        raise MissingExtraError(package, extra, f"reading {scheme}://") from None
    if scheme == "s3":
        system.retries = 1
    elif scheme == "gs":
        logging.getLogger("gcsfs").setLevel(logging.CRITICAL)  # it would print the trace of what is reported here
    return system


async def _read(system: Any, file: RemoteFile, start: int, stop: int, patience_s: float) -> bytes:
    end = time.monotonic() + patience_s
    pause = _PAUSES_S[0]
    while True:
        try:
            async with _limits.setdefault(os.getpid(), asyncio.Semaphore(AT_ONCE)):
                left_s = max(_LEAST_S, end - time.monotonic())
                content = await asyncio.wait_for(_once(system, file, start, stop), min(REQUEST_S, left_s))
            if len(content) == stop - start:
                return content
            error: Exception = OSError(f"it sent {len(content):,} bytes instead of {stop - start:,}")
        except Exception as raised:
            if (final := _final(file.url, raised)) is not None:
                raise final from None
            error = raised
        if time.monotonic() + pause > end:
            raise _gone(file.url, error) from None
        await asyncio.sleep(pause)
        pause = min(2 * pause, _PAUSES_S[1])


async def _once(system: Any, file: RemoteFile, start: int, stop: int) -> bytes:
    """One request. The version goes with it, so that no byte of another file is taken."""
    scheme, etag = _scheme(file.url), _etag(file.version)
    if scheme == "s3":
        bucket, key, _ = system.split_path(file.url)
        wanted = {"IfMatch": etag} if etag else {}
        answer = await system._call_s3(  # fsspec names its coroutines with an underscore
            "get_object", Bucket=bucket, Key=key, Range=f"bytes={start}-{stop - 1}", **wanted
        )
        async with answer["Body"] as body:
            content: bytes = await body.read()
        return content
    if scheme == "https":
        headers = {"Range": f"bytes={start}-{stop - 1}", "Accept-Encoding": "identity"}
        session = await system.set_session()
        name, _, version = file.version.partition(" ")
        if etag or name == "Last-Modified":
            headers["If-Match" if etag else "If-Unmodified-Since"] = version
        async with session.get(file.url, headers=headers) as response:
            if response.status in (404, 410):
                raise FileNotFoundError(file.url)
            response.raise_for_status()
            if response.status != 206:
                raise _NoRangesError
            told = response.headers.get(name, version) if name else ""  # not every server heeds what it is asked
            if told.removeprefix("W/") != version.removeprefix("W/"):
                raise ChangedError
            sent = response.headers.get("Content-Range", "")
            if sent.rpartition("/")[2] not in ("", "*", str(file.size)):
                raise ChangedError
            if sent.partition("/")[0] != f"bytes {start}-{stop - 1}":
                raise OSError(f"it sends {sent or 'an unknown range'} instead of bytes {start}-{stop - 1}")
            if response.content_length not in (None, stop - start):
                raise OSError(f"it sends {response.content_length:,} bytes instead of {stop - start:,}")
            content = await response.content.readexactly(stop - start)  # no more, whatever the server sends
        return content
    name, _, generation = file.version.partition(" ")
    _, content = await system._call(
        "GET",
        system.url(file.url),
        headers={"Range": f"bytes={start}-{stop - 1}"},
        **({"ifGenerationMatch": generation} if name == "generation" else {}),
    )
    return content


def _etag(version: str) -> str:
    """The ETag, if it is one that stands for the exact bytes."""
    name, _, value = version.partition(" ")
    return value if name.lower() == "etag" and not value.startswith("W/") else ""


# --- what went wrong -----------------------------------------------------------------------------------------------


def _final(url: str, error: Exception) -> TandemError | None:
    """The error to raise at once; None where another attempt may succeed."""
    if isinstance(error, TandemError):
        return error
    error = _cause(error)
    kind, status = type(error).__name__, _status(error)
    if isinstance(error, ChangedError | FileExistsError) or status in (412, 416):  # the second: gcsfs, of a 412
        return RemoteFileError(
            f"{shown(url)}: it changed while it was read (another ETag, generation or size): put the old file back, or "
            "start again to index the new one"
        )
    if isinstance(error, _NoRangesError):
        return RemoteFileError(f"{shown(url)}: its server sends no ranges of bytes; fetch the file and name its path")
    if isinstance(error, FileNotFoundError) or status in (404, 410):
        return RemoteFileError(f"{shown(url)}: no such file at this URL")
    if kind in ("NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError", "ProfileNotFound"):
        return RemoteFileError(f"{shown(url)}: no credentials for {_scheme(url)}://; {_CREDENTIALS[_scheme(url)]}")
    if isinstance(error, PermissionError) or status in (401, 403) or str(error).startswith("Forbidden: "):  # gcsfs
        return RemoteFileError(f"{shown(url)}: access is refused; {_CREDENTIALS[_scheme(url)]}")
    if isinstance(error, ValueError) or kind == "ParamValidationError":
        return RemoteFileError(
            f"{shown(url)}: not a URL that can be read: {plain_line(_QUERY.sub('?...', str(error)))}"
        )
    return None


def _cause(error: Exception) -> Exception:
    """What is behind a missing file: fsspec takes a server that is away for one that has no such file."""
    cause = error.__cause__ if isinstance(error, FileNotFoundError) else None
    return cause if isinstance(cause, Exception) else error


def _status(error: Exception) -> int:
    """The HTTP status behind an error; 0 where there is none."""
    for name in ("status", "code"):  # aiohttp; gcsfs
        if isinstance(status := getattr(error, name, None), int):
            return status
    response = getattr(error.__cause__ or error, "response", None)  # botocore's ClientError, behind fsspec's OSError
    about = response.get("ResponseMetadata", {}) if isinstance(response, dict) else {}
    return int(about.get("HTTPStatusCode", 0))


def _gone(url: str, error: Exception) -> RemoteFileError:
    error = _cause(error)
    if isinstance(error, TimeoutError) and not str(error):
        reason = "it does not answer"
    elif (status := _status(error)) and hasattr(error, "request_info"):  # aiohttp's words hold the whole URL
        reason = f"HTTP {status}"
    else:
        reason = plain_line(_QUERY.sub("?...", str(error))) or type(error).__name__
    return RemoteFileError(
        f"{shown(url)}: cannot be read: {reason}; start again when its server is back (remote.patience_s: how long "
        "reads are repeated)"
    )
