"""Errors about a folder that was being written name it where the system's error names nothing."""

import errno
import os
from pathlib import Path

import pytest

from tandem import files


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_where_there_was_no_space_is_said(tmp_path: Path, code: int) -> None:
    with pytest.raises(OSError, match=r"model'$") as found, files.atomic_folder(tmp_path / "model"):
        raise OSError(code, os.strerror(code))
    assert (found.value.errno, found.value.filename) == (code, str(tmp_path / "model"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "full", "other"), OSError(errno.EIO, "broken"), OSError("what")]
)
def test_other_errors_are_as_they_were(tmp_path: Path, error: OSError) -> None:
    before = error.filename
    with pytest.raises(OSError, match=r"full|broken|what") as found, files.atomic_folder(tmp_path / "model"):
        raise error
    assert found.value is error
    assert error.filename == before
