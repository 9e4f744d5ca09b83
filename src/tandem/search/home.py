"""Where things are on this machine: the folder for what belongs to a user (ledgers of servers, calibrations), and the
full paths of local collections.
"""

import os
import sys
from pathlib import Path

LOCAL_PREFIXES = ("lance:", "milvus-lite:")  # of addresses that name a path on this machine


def data_folder() -> Path:
    """`TANDEM_HOME` if it is set, else the platform's folder for a user's data. Made by whoever writes into it."""
    if chosen := os.environ.get("TANDEM_HOME"):
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "tandem"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "tandem"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "tandem"


def in_full(url: str) -> str:
    """An address that means the same in any working directory: with a full path, where it names one here."""
    prefix, path = split_address(url)
    return url if path is None else prefix + os.path.abspath(path)


def split_address(url: str) -> tuple[str, str | None]:
    """How an address begins, and the path on this machine behind that; None for what is elsewhere."""
    if "://" in url:
        return url, None
    prefix = next((prefix for prefix in LOCAL_PREFIXES if url.startswith(prefix)), "")
    return prefix, url.removeprefix(prefix)
