"""The folder for what belongs to a user rather than to one collection: ledgers of remote stores, calibrations."""

import os
import sys
from pathlib import Path


def data_folder() -> Path:
    """`TANDEM_HOME` if it is set, else the platform's folder for a user's data. Made by whoever writes into it."""
    if chosen := os.environ.get("TANDEM_HOME"):
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "tandem"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "tandem"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "tandem"
