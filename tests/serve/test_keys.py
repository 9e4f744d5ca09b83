"""API keys: what opens, what does not, rotation while serving, and files that are no files of keys."""

import hmac
import logging
import os
import stat
from pathlib import Path

import pytest

from tandem.errors import TandemError
from tandem.serve.http.keys import KeyFile, bearer

ONE, TWO, THREE = "first-key-0123456", "second-key-012345", "third-key-0123456"  # of the same length


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
    keys = KeyFile(written(tmp_path / "keys", f"# ours\n{ONE}\n\n  {TWO}\n   # theirs\nwith#a-sign-inside\n"))
    assert len(keys) == 3
    for right in (ONE, TWO, "with#a-sign-inside"):
        assert keys.find(x_api_key=right)
    for wrong in ("", "first", f"{ONE}2", "# ours", "with", ONE.upper(), f"{ONE}  # Anna's", f"{TWO}\x00", "é"):
        assert not keys.find(x_api_key=wrong), wrong


def test_both_headers_are_read_and_a_key_has_a_name_that_is_not_the_key(tmp_path: Path) -> None:
    keys = KeyFile(written(tmp_path / "keys", f"{ONE}\n{TWO}"))
    assert keys.find(authorization=f"Bearer {ONE}")
    assert keys.find(authorization=f"bearer  {ONE} ")
    assert keys.find(x_api_key=ONE)
    assert keys.find(authorization="Basic abc", x_api_key=ONE)
    assert keys.find(authorization=f"Bearer {ONE}", x_api_key="wrong")
    assert not keys.find()
    assert not keys.find(authorization=ONE)
    assert not keys.find(authorization=f"Basic {ONE}")
    assert not keys.find(authorization="Bearer ", x_api_key="")
    assert not keys.find(x_api_key=f"Bearer {ONE}")
    assert bearer("Bearer a b") == "a b"
    assert bearer("Bearer") is None
    names = keys.find(x_api_key=ONE), keys.find(authorization=f"Bearer {ONE}"), keys.find(x_api_key=TWO)
    assert names[0] == names[1] != names[2]
    assert ONE not in str(names)


def test_every_key_is_compared_whichever_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = KeyFile(written(tmp_path / "keys", "\n".join(f"key-0123456789-{i}" for i in range(7))))
    compared: list[int] = []

    def counted(a: bytes, b: bytes) -> bool:
        assert len(a) == len(b)  # else the comparison says how long a key is
        compared.append(1)
        return real(a, b)

    real = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", counted)
    for key in ("key-0123456789-0", "key-0123456789-6", "none", "k" * 10_000):
        compared.clear()
        keys.find(x_api_key=key)
        assert len(compared) == 7, key


def test_keys_are_not_kept_as_text(tmp_path: Path) -> None:
    assert ONE not in str(vars(KeyFile(written(tmp_path / "keys", ONE))))


def test_a_changed_file_counts_within_a_second_and_at_once_when_told(tmp_path: Path) -> None:
    clock = Clock()
    path = written(tmp_path / "keys", ONE)
    keys = KeyFile(path, clock=clock)
    new = written(tmp_path / "new", TWO)  # of the same size
    os.utime(new, ns=(1, os.stat(path).st_mtime_ns))  # and the same time
    os.replace(new, path)
    clock.now += 0.4
    assert keys.find(x_api_key=ONE)  # not looked at yet
    clock.now += 0.5
    assert keys.find(x_api_key=TWO)
    assert not keys.find(x_api_key=ONE)
    status = os.stat(path)
    written(path, ONE)  # in place
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # and the time set back
    clock.now += 0.9
    assert keys.find(x_api_key=ONE)
    assert not keys.find(x_api_key=TWO)
    written(path, f"{ONE}\n{THREE}\n")
    keys.reload()  # the clock stands still
    assert keys.find(x_api_key=THREE)


@pytest.mark.parametrize("harm", ["gone", "empty", "comments", "damaged", "a folder", "short", "open to all"])
def test_a_file_that_goes_bad_accepts_nothing_until_it_is_well_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, harm: str
) -> None:
    clock = Clock()
    path = written(tmp_path / "keys", ONE)
    keys = KeyFile(path, clock=clock)
    assert not keys.is_broken()
    path.unlink()
    bad = {"empty": b"", "comments": b"# none\n", "damaged": b"\xff\x00 secret \n", "short": b"secret\n"}
    if harm == "a folder":
        path.mkdir()
    elif harm == "open to all":
        written(path, ONE).chmod(0o622)
    elif harm != "gone":
        path.write_bytes(bad[harm])
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            clock.now += 2
            for key in (ONE, "", "secret"):
                assert not keys.find(x_api_key=key)
            assert keys.is_broken()
        assert len(caplog.records) == 1  # not for each request
        assert "no key is accepted until the file is valid again" in caplog.text
        assert "secret" not in caplog.text
        if harm == "a folder":
            path.rmdir()
        elif path.exists():
            path.chmod(stat.S_IRUSR | stat.S_IWUSR)
        written(path, f"{TWO}\n")
        clock.now += 2
        assert keys.find(x_api_key=TWO)
        assert not keys.find(x_api_key=ONE)
        assert not keys.is_broken()


def test_the_same_file_that_could_not_be_read_for_a_while_is_read_again(tmp_path: Path) -> None:
    clock = Clock()
    path = written(tmp_path / "keys", ONE)
    keys = KeyFile(path, clock=clock)
    path.rename(tmp_path / "away")
    clock.now += 2
    assert not keys.find(x_api_key=ONE)
    (tmp_path / "away").rename(path)  # with the time, the size and the inode that it had
    clock.now += 2
    assert keys.find(x_api_key=ONE)


def test_what_is_no_file_of_keys_is_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(TandemError, match=r"keys: the file of API keys cannot be read: No such file"):
        KeyFile(tmp_path / "keys")
    with pytest.raises(TandemError, match="it is no regular file"):
        KeyFile(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(TandemError, match="it is no regular file"):
        KeyFile(tmp_path / "pipe")
    for empty in ("", "\n\n", "# only\n  # comments\n"):
        with pytest.raises(TandemError, match="no API key in it; write one per line"):
            KeyFile(written(tmp_path / "keys", empty))
    for line in ("my secret words, all of them", f"{ONE}  # Anna's secret", "secret", "secret-of-15-le", "é" * 20):
        with pytest.raises(TandemError, match="line 2: expected an API key of 16 to 512 printable") as caught:
            KeyFile(written(tmp_path / "keys", f"{TWO}\n{line}\n"))
        assert "secret" not in str(caught.value)
    with pytest.raises(TandemError, match="more than"):
        KeyFile(written(tmp_path / "keys", f"{ONE}\n" * 100_000))


@pytest.mark.parametrize(
    ("mode", "read_by_others"), [(0o600, False), (0o644, True), (0o640, True), (0o604, True), (0o400, False)]
)
def test_a_file_of_keys_that_others_may_read_is_known(tmp_path: Path, mode: int, read_by_others: bool) -> None:
    path = written(tmp_path / "keys", ONE)
    path.chmod(mode)
    assert KeyFile(path).readable_by_others is read_by_others
    for open_to_others in (0o620, 0o602, 0o666):
        path.chmod(open_to_others)
        with pytest.raises(TandemError, match=r"other users may write to .*; run: chmod 600"):
            KeyFile(path)
        clock = Clock()
        shared = KeyFile(path, allow_shared=True, clock=clock)  # where chmod changes nothing
        assert shared.writable_by_others
        path.write_text(TWO)
        clock.now += 2
        assert shared.find(x_api_key=TWO)  # and still when it is read again
        path.write_text(ONE)
    path.chmod(mode)
    assert not KeyFile(path, allow_shared=True).writable_by_others


def test_a_byte_order_mark_and_other_line_ends_are_no_part_of_a_key(tmp_path: Path) -> None:
    (tmp_path / "keys").write_bytes(b"\xef\xbb\xbf%s\r\n%s\r\n" % (ONE.encode(), TWO.encode()))
    keys = KeyFile(tmp_path / "keys")
    assert keys.find(x_api_key=ONE)
    assert keys.find(x_api_key=TWO)
