"""API keys: what opens, what does not, rotation while serving, and files that are no files of keys."""

import hmac
import logging
import os
from pathlib import Path

import pytest

from tandem.errors import TandemError
from tandem.serve.http.keys import KeyFile, bearer


class Clock:
    """A clock that moves when a test moves it."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_keys_of_the_file_open_and_others_do_not(tmp_path: Path) -> None:
    keys = KeyFile(written(tmp_path / "keys", "# ours\nfirst-key  # Anna's\n\n  second-key\n"))
    assert len(keys) == 2
    assert keys.allows("first-key")
    assert keys.allows("second-key")
    for wrong in (
        "",
        "first",
        "first-key2",
        "# ours",
        "Anna's",
        "FIRST-KEY",
        "first-key  # Anna's",
        "second-key\x00",
        "é",
    ):
        assert not keys.allows(wrong), wrong


def test_both_headers_are_read(tmp_path: Path) -> None:
    keys = KeyFile(written(tmp_path / "keys", "k-1"))
    assert keys.accepts(authorization="Bearer k-1")
    assert keys.accepts(authorization="bearer  k-1 ")
    assert keys.accepts(x_api_key="k-1")
    assert keys.accepts(authorization="Basic abc", x_api_key="k-1")
    assert keys.accepts(authorization="Bearer k-1", x_api_key="wrong")
    assert not keys.accepts()
    assert not keys.accepts(authorization="k-1")
    assert not keys.accepts(authorization="Basic k-1")
    assert not keys.accepts(authorization="Bearer ", x_api_key="")
    assert not keys.accepts(x_api_key="Bearer k-1")
    assert bearer("Bearer a b") == "a b"
    assert bearer("Bearer") is None


def test_every_key_is_compared_whichever_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = KeyFile(written(tmp_path / "keys", "\n".join(f"key-{i}" for i in range(7))))
    compared: list[int] = []

    def counted(a: bytes, b: bytes) -> bool:
        assert len(a) == len(b)  # else the comparison says how long a key is
        compared.append(1)
        return real(a, b)

    real = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", counted)
    for key in ("key-0", "key-6", "none", "k" * 10_000):
        compared.clear()
        keys.allows(key)
        assert len(compared) == 7, key


def test_keys_are_not_kept_as_text(tmp_path: Path) -> None:
    assert "secret-key" not in str(vars(KeyFile(written(tmp_path / "keys", "secret-key"))))


def test_a_changed_file_counts_within_a_second(tmp_path: Path) -> None:
    clock = Clock()
    path = written(tmp_path / "keys", "old-key")
    keys = KeyFile(path, clock=clock)
    new = written(tmp_path / "new", "new-key")  # of the same size
    os.utime(new, ns=(1, os.stat(path).st_mtime_ns))  # and the same time
    os.replace(new, path)
    clock.now += 0.5
    assert keys.allows("old-key")  # not looked at yet: at most once a second
    clock.now += 0.6
    assert keys.allows("new-key")
    assert not keys.allows("old-key")
    written(path, "new-key\nthird\n")
    clock.now += 1.1
    assert keys.allows("third")
    assert keys.allows("new-key")


@pytest.mark.parametrize("harm", ["gone", "empty", "damaged", "a folder"])
def test_a_file_that_goes_bad_keeps_the_last_good_keys_and_logs_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, harm: str
) -> None:
    clock = Clock()
    path = written(tmp_path / "keys", "good-key")
    keys = KeyFile(path, clock=clock)
    path.unlink()
    if harm == "a folder":
        path.mkdir()
    elif harm != "gone":
        path.write_bytes(b"" if harm == "empty" else b"\xff\x00 secret \n")
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            clock.now += 2
            assert keys.allows("good-key")
            assert not keys.allows("")
            assert not keys.allows("secret")
        assert len(caplog.records) == 1
        assert "stay in force" in caplog.text
        assert "secret" not in caplog.text
        if harm == "a folder":
            path.rmdir()
        written(path, "better-key")
        clock.now += 2
        assert keys.allows("better-key")
        assert not keys.allows("good-key")


def test_what_is_no_file_of_keys_is_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(TandemError, match=r"keys: the file of API keys cannot be read: No such file"):
        KeyFile(tmp_path / "keys")
    with pytest.raises(TandemError, match="cannot be read"):
        KeyFile(tmp_path)
    for empty in ("", "\n\n", "# only\n  # comments\n"):
        with pytest.raises(TandemError, match="no API key in it; write one per line"):
            KeyFile(written(tmp_path / "keys", empty))
    with pytest.raises(TandemError, match="line 2: expected an API key") as caught:
        KeyFile(written(tmp_path / "keys", "good\nmy secret words\n"))
    assert "secret" not in str(caught.value)
    with pytest.raises(TandemError, match="more than"):
        KeyFile(written(tmp_path / "keys", "key\n" * 300_000))


def test_a_byte_order_mark_and_other_line_ends_are_no_part_of_a_key(tmp_path: Path) -> None:
    (tmp_path / "keys").write_bytes(b"\xef\xbb\xbffirst\r\nsecond\r\n")
    keys = KeyFile(tmp_path / "keys")
    assert keys.allows("first")
    assert keys.allows("second")
