"""The collections that this account has opened or created on this machine, as `tandem list` shows them.

One small file per collection in the user's data folder, so that processes never write to the same file. Nothing
depends on them: if the folder cannot be written to, nothing is remembered.
"""

import contextlib
import hashlib
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

from tandem.files import write_text
from tandem.home import data_folder
from tandem.search.stores.backends import full_url, local_path

_END_OF_TIME = 1e11  # seconds since 1970; dates end soon after


@dataclass(frozen=True)
class KnownCollection:
    """Where a collection is, and when it was last used, in seconds since 1970."""

    url: str
    used: float


def remember(url: str) -> None:
    """Note that a collection was used just now; a local one by its full path."""
    url = full_url(url)
    path = _path(url)
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps({"url": url, "used": time.time()}))  # in ASCII: paths need not be UTF-8


def forget(url: str) -> None:
    """Remove it from the list; the collection is left alone."""
    url = full_url(url)
    with contextlib.suppress(OSError):
        _path(url).unlink(missing_ok=True)


def known() -> list[KnownCollection]:
    """The collections of this list, the last used first, without entries that are damaged."""
    found = []
    with contextlib.suppress(OSError):
        for path in _folder().glob("*.json"):
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
                written = json.loads(path.read_text(encoding="utf-8"))
                each = KnownCollection(str(written["url"]), float(written["used"]))
                if 0 <= each.used < _END_OF_TIME and each.url == full_url(each.url):
                    found.append(each)
    return sorted(found, key=lambda each: -each.used)


def is_gone(url: str) -> bool:
    """Whether a local collection no longer exists; remote ones are not checked."""
    path = local_path(url)
    return path is not None and not os.path.exists(path)


def _folder() -> Path:
    return data_folder() / "collections"


def _path(url: str) -> Path:
    return _folder() / f"{hashlib.sha256(url.encode('utf-8', 'surrogateescape')).hexdigest()[:32]}.json"
