"""Files appear whole or not at all, with the permissions they should have."""

import json
import os
import stat
import threading
from pathlib import Path

import pytest

from tandem import files
from tandem.errors import TandemError
from tandem.files import user_path


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def only(path: Path) -> None:
    """Nothing lies beside `path`."""
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_file_is_replaced_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with files.atomic_write(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
        assert temporary.parent == path.parent
    assert path.read_text() == "new"
    only(path)


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
def test_a_block_that_fails_changes_nothing(tmp_path: Path, failure: type[BaseException]) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def write_half() -> None:
        with files.atomic_write(path, fsync=True) as temporary:
            temporary.write_text("half")
            raise failure

    with pytest.raises(failure):
        write_half()
    assert path.read_text() == "old"
    only(path)


def test_a_block_may_change_its_mind(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with files.atomic_write(path) as temporary:
        temporary.unlink()
    assert not path.exists()


@pytest.mark.skipif(os.name == "nt", reason="permissions of POSIX")
def test_permissions(tmp_path: Path) -> None:
    kept, new = tmp_path / "kept", tmp_path / "new"
    kept.write_text("")
    kept.chmod(0o640)
    umask = os.umask(0o027)
    try:
        for path in (kept, new):
            with files.atomic_write(path) as temporary:
                temporary.unlink()
                os.close(os.open(temporary, os.O_CREAT | os.O_WRONLY, 0o600))  # as libraries do that ask mkstemp
    finally:
        os.umask(umask)
    assert (mode(kept), mode(new)) == (0o640, 0o640)
    kept.chmod(0o604)
    files.write_text(kept, "x")
    assert mode(kept) == 0o604


@pytest.mark.skipif(os.name == "nt", reason="devices of POSIX")
def test_what_is_no_file_is_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(OSError, match="not a regular file"):
        files.write_text(pipe, "x")
    with pytest.raises(IsADirectoryError):
        files.write_text(tmp_path, "x")
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    only(pipe)


@pytest.mark.skipif(os.name == "nt", reason="Windows replaces no file that is open")
def test_who_has_the_old_file_open_reads_on_in_it(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with path.open() as reader:
        files.write_text(path, "new")
        assert reader.read() == "old"
    assert path.read_text() == "new"


def test_a_long_name(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 255)
    files.write_text(path, "x")
    assert path.read_text() == "x"


def test_the_disk_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    monkeypatch.setattr(files, "sync", lambda path: synced.append("folder" if path.is_dir() else path.read_text()))
    files.write_json(tmp_path / "a.json", {"ä": 1}, fsync=True)
    assert synced == ['{\n  "ä": 1\n}\n', "folder"]
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"ä": 1}
    files.sync(tmp_path)


def test_the_disk_is_waited_for_each_file_of_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    monkeypatch.setattr(files, "sync", lambda path: synced.append(path.name))
    with files.atomic_folder(tmp_path / "model", fsync=True) as new:
        (new / "sub").mkdir()
        (new / "sub" / "a.txt").write_text("x")
        (new / "b.txt").write_text("x")
    assert sorted(synced[:3]) == ["a.txt", "b.txt", "sub"]
    assert synced[3:] == [new.name, tmp_path.name]


def test_writers_at_the_same_time(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    texts = [str(number) * 10_000 for number in range(8)]
    threads = [threading.Thread(target=files.write_text, args=(path, text)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_text() in texts
    only(path)


@pytest.mark.parametrize("fsync", [False, True])
def test_a_folder_is_replaced_as_a_whole(tmp_path: Path, fsync: bool) -> None:
    path = tmp_path / "model"
    for number in (1, 2):
        with files.atomic_folder(path, fsync=fsync) as new:
            (new / "sub").mkdir()
            (new / "sub" / f"{number}.txt").write_text("x")
    assert [entry.name for entry in (path / "sub").iterdir()] == ["2.txt"]
    only(path)


def test_a_folder_that_fails_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.mkdir()
    (path / "old.txt").write_text("x")

    def write_half() -> None:
        with files.atomic_folder(path) as new:
            (new / "new.txt").write_text("x")
            raise ValueError("late")

    with pytest.raises(ValueError, match="late"):
        write_half()
    assert [entry.name for entry in path.iterdir()] == ["old.txt"]
    only(path)


def test_the_old_folder_comes_back_when_the_new_one_cannot_be_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model"
    path.mkdir()
    (path / "old.txt").write_text("x")
    rename = os.rename

    def no_more_than_away(source: Path, target: Path) -> None:
        if str(source).endswith(".part"):
            raise OSError("disk full")
        rename(source, target)

    monkeypatch.setattr(os, "rename", no_more_than_away)
    with pytest.raises(OSError, match="disk full"), files.atomic_folder(path):
        pass
    assert [entry.name for entry in path.iterdir()] == ["old.txt"]
    only(path)


NO_USER = "~no-such-user-of-tandem"


def test_a_path_of_the_user_begins_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_path("~/a/b") == tmp_path / "a" / "b"
    assert user_path(Path("~")) == tmp_path
    assert user_path("a/~/b") == Path("a/~/b")


def test_a_home_that_is_not_known_is_one_clear_error() -> None:
    with pytest.raises(TandemError, match=f"^{NO_USER}/a: no home folder is known for {NO_USER}: write the path in"):
        user_path(f"{NO_USER}/a")
    with pytest.raises(TandemError, match="no home folder is known"):
        user_path("~\0/a")
    assert user_path(f"{NO_USER}/a", strict=False) == Path(f"{NO_USER}/a")


def test_a_file_may_be_called_like_a_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("~draft").mkdir()
    assert user_path("~draft/new.json") == Path("~draft/new.json")
    assert user_path("./~other") == Path("./~other")
