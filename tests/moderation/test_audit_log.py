"""The log of decisions: its chain shows what was changed, and survives kills and several writers."""

import json
import multiprocessing
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from tandem.errors import DataError
from tandem.moderation.audit_log import AuditLog, end_path, read_entries, verify_log


@pytest.fixture
def path(tmp_path: Path) -> Path:
    place = tmp_path / "log.jsonl"
    with AuditLog(place) as log:
        log.append({"band": "allow", "image": f"{i}.png"} for i in range(3))
        log.append([{"band": "block", "image": "\udcff.png"}])
    return place


def lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


def test_each_line_names_the_one_before_it(path: Path) -> None:
    found = verify_log(path)
    assert found.end.lines == 5
    assert found.decisions == 4
    assert found.notes == ()
    assert [each["image"] for each in read_entries(path)] == ["0.png", "1.png", "2.png", "\\xff.png"]
    assert [json.loads(line)["n"] for line in lines(path)] == [0, 1, 2, 3, 4]


def test_a_later_run_goes_on_where_the_last_one_ended(path: Path) -> None:
    before = path.read_bytes()
    with AuditLog(path) as log:
        log.append([{"band": "review", "image": "x"}])
        assert log.end.lines == 6
    assert path.read_bytes().startswith(before)
    assert verify_log(path).decisions == 5


@pytest.mark.parametrize("change", ["edited", "removed", "inserted", "swapped"])
def test_what_was_changed_is_found(path: Path, change: str) -> None:
    rows = lines(path)
    changed = {
        "edited": [*rows[:2], rows[2].replace(b"allow", b"block"), *rows[3:]],
        "removed": [*rows[:2], *rows[3:]],
        "inserted": [*rows[:2], rows[1], *rows[2:]],
        "swapped": [rows[0], rows[2], rows[1], *rows[3:]],
    }[change]
    path.write_bytes(b"".join(changed))
    with pytest.raises(DataError, match="the chain is broken"):
        verify_log(path)
    before = path.read_bytes()
    with pytest.raises(DataError, match="the chain is broken"):
        AuditLog(path)  # nothing is added to it
    assert path.read_bytes() == before


def test_what_changes_while_a_log_is_open_is_found(path: Path) -> None:
    with AuditLog(path) as log, AuditLog(path) as other:
        other.append([{"band": "allow", "image": "theirs"}] * 2)
        log.append([{"band": "allow", "image": "ours"}])
        assert verify_log(path).end == log.end
        whole = path.read_bytes()
        path.write_bytes(b"others".join(whole.rsplit(b"theirs", 1)))
        with pytest.raises(DataError, match="line 7: the chain is broken"):
            other.append([{"band": "allow", "image": "x"}])
        path.write_bytes(whole.replace(b"ours", b"ouch"))
        with pytest.raises(DataError, match="line 8: the chain is broken"):
            log.append([{"band": "allow", "image": "x"}])
        path.write_bytes(b"".join(whole.splitlines(keepends=True)[:-1]))
        with pytest.raises(DataError, match="the end was cut off"):
            log.append([{"band": "allow", "image": "x"}])


@pytest.mark.parametrize("lines", [0, 3, 4, 6])
def test_an_edited_count_of_its_end_breaks_no_log(path: Path, lines: int) -> None:
    before = path.read_bytes()
    end = json.loads(end_path(path).read_bytes())
    end_path(path).write_text(json.dumps(end | {"lines": lines}))
    for refused in (lambda: AuditLog(path), lambda: verify_log(path)):
        with pytest.raises(DataError, match=r"its digest is that of line 5: log.jsonl.end was changed"):
            refused()
    assert path.read_bytes() == before
    end_path(path).unlink()
    with AuditLog(path) as log:
        log.append([{"band": "allow", "image": "x"}])
    assert verify_log(path).end.lines == 6


def test_an_edited_last_line_is_found_by_its_end(path: Path) -> None:
    rows = lines(path)
    path.write_bytes(b"".join(rows[:-1]) + rows[-1].replace(b"block", b"allow"))
    with pytest.raises(DataError, match="the log was written anew"):
        verify_log(path)


def test_an_end_that_was_cut_off_is_found_by_its_end(path: Path) -> None:
    kept = verify_log(path).end.sha256
    path.write_bytes(b"".join(lines(path)[:-1]))
    with pytest.raises(DataError, match=r"log\.jsonl\.end counts 5 lines, but there are 4"):
        verify_log(path)
    with pytest.raises(DataError, match="cut off"):
        AuditLog(path)
    end_path(path).unlink()  # by somebody who knows of it
    assert "no log.jsonl.end beside it" in verify_log(path).notes[0]
    with pytest.raises(DataError, match="no line has the digest"):
        verify_log(path, digest=kept)


def test_a_digest_kept_elsewhere_proves_all_before_it(path: Path) -> None:
    kept = verify_log(path).end.sha256
    with AuditLog(path) as log:
        log.append([{"band": "allow", "image": "later"}])
    assert "line 5" in verify_log(path, digest=f" {kept.upper()}\n").notes[0]
    path.unlink()
    end_path(path).unlink()
    with AuditLog(path) as log:  # all written anew
        log.append([{"band": "allow", "image": f"{i}.png"} for i in range(4)])
    assert verify_log(path).decisions == 4
    with pytest.raises(DataError, match="no line has the digest"):
        verify_log(path, digest=kept)


@pytest.mark.parametrize("cut", [1, 20, -1])
def test_a_line_that_a_kill_left_is_marked_and_the_chain_goes_on(path: Path, cut: int) -> None:
    """Cut in the middle, and just before its end: then it is whole, but nobody can know."""
    end_before = end_path(path).read_bytes()
    with AuditLog(path) as log:
        log.append([{"band": "review", "image": "torn"}])
    rows = lines(path)
    path.write_bytes(b"".join(rows[:-1]) + rows[-1][:cut])
    end_path(path).write_bytes(end_before)  # the end is written last
    found = verify_log(path)
    assert found.unfinished_bytes == len(rows[-1][:cut])
    before = path.read_bytes()
    with AuditLog(path) as log:
        log.append([{"band": "allow", "image": "after"}])
    assert path.read_bytes().startswith(before)
    found = verify_log(path)
    assert (found.torn, found.unfinished_bytes) == (1, 0)
    assert [each["image"] for each in read_entries(path)][-1] == "after"
    rows = lines(path)
    path.write_bytes(b"".join(rows).replace(before.splitlines()[-1], b"something else"))
    with pytest.raises(DataError, match="the chain is broken"):
        verify_log(path)


def test_lines_that_its_end_does_not_know_are_said(path: Path) -> None:
    """Killed between the lines and the end."""
    end_before = end_path(path).read_bytes()
    with AuditLog(path) as log:
        log.append([{"band": "review", "image": "x"}])
    end_path(path).write_bytes(end_before)
    assert "last 1 lines are not in log.jsonl.end" in verify_log(path).notes[0]
    with AuditLog(path) as log:
        log.append([{"band": "review", "image": "y"}])
    assert verify_log(path).notes == ()


def test_writers_take_turns(tmp_path: Path) -> None:
    place = tmp_path / "new" / "log.jsonl"

    def write(who: int) -> None:
        with AuditLog(place) as log:
            for i in range(5):
                log.append([{"band": "allow", "image": f"{who} {i}"}] * 2)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    assert verify_log(place).decisions == 40


def _write_alone(place: Path, who: int, ready: Barrier) -> None:
    with AuditLog(place) as log:
        ready.wait(20)
        for i in range(20):
            log.append([{"band": "allow", "image": f"{who} {i}"}])


@pytest.mark.slow
def test_processes_take_turns(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    ready = context.Barrier(3)
    writers = [context.Process(target=_write_alone, args=(tmp_path / "log.jsonl", who, ready)) for who in range(3)]
    for each in writers:
        each.start()
    for each in writers:
        each.join(30)
    assert [each.exitcode for each in writers] == [0, 0, 0]
    assert verify_log(tmp_path / "log.jsonl").decisions == 60


def test_other_files_are_refused(tmp_path: Path) -> None:
    place = tmp_path / "notes.txt"
    place.write_text('{"previous": "x"}\n')
    for refused in (lambda: AuditLog(place), lambda: verify_log(place)):
        with pytest.raises(DataError, match="line 1"):
            refused()
    assert place.read_text() == '{"previous": "x"}\n'
    place.write_text("nobody's notes\n")
    with pytest.raises(DataError, match="it is no line of a log"):
        AuditLog(place)
    assert [each.name for each in tmp_path.iterdir()] == ["notes.txt"]  # nothing is put beside it
    with pytest.raises(DataError, match="expected a file"):
        AuditLog(tmp_path)
    with pytest.raises(DataError, match="cannot be read"):
        verify_log(tmp_path / "none")
    place.unlink()
    end_path(place).write_text("{}" * 2)
    with pytest.raises(DataError, match="no end of a log"):
        AuditLog(place)


def test_a_log_without_its_end_gets_one_again(path: Path) -> None:
    end_path(path).unlink()
    with AuditLog(path):
        pass  # nothing to add
    assert verify_log(path).notes == ()
