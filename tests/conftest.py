"""Where the reference data is. Tests that need it are skipped, with a message, where it is absent."""

import os
import signal
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with golden outputs and data, beside the project or where TANDEM_SHARED says."""
    folder = Path(os.environ.get("TANDEM_SHARED") or Path(__file__).resolve().parents[2] / "shared")
    if not (folder / "golden").is_dir():
        pytest.skip(f"needs the reference data in {folder} (set TANDEM_SHARED)")
    return folder


def pytest_configure() -> None:
    """What child processes inherit: `support` can be imported, and Ctrl-C is heard.

    A shell starts what is to run in the background with Ctrl-C ignored, and so would be what the tests start.
    """
    tests = str(Path(__file__).parent)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [tests, os.environ.get("PYTHONPATH")]))
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
