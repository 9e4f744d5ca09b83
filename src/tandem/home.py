"""Where a user's own files are: data (ledgers of remote stores, calibrations), and caches, which can be deleted."""

import os
import sys
from pathlib import Path

from tandem.files import user_path


def data_folder() -> Path:
    """`TANDEM_HOME` if it is set, else the platform's folder for a user's data. Made by whoever writes into it."""
    if chosen := os.environ.get("TANDEM_HOME"):
        return user_path(chosen)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or user_path("~/AppData/Local")) / "tandem"
    if sys.platform == "darwin":
        return user_path("~/Library/Application Support/tandem")
    return Path(os.environ.get("XDG_DATA_HOME") or user_path("~/.local/share")) / "tandem"


def cache_folder() -> Path:
    """Where downloads, digests and features are kept: TANDEM_CACHE, or ~/.cache/tandem. Its writers make it."""
    return user_path(os.environ.get("TANDEM_CACHE") or "~/.cache/tandem")
