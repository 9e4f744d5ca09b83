"""Figures of a busy machine are refused: how busy it is, is counted from what the kernel says."""

import os
import subprocess
import sys

import pytest
from comparison import machine
from comparison.machine import BusyError, Usage, check_idle, machine_ticks, process_ticks, tree_ticks

STAT = "cpu  100 20 30 5000 600 7 8 9 11 12\ncpu0 50 10 15 2500 300 3 4 4 5 6\n"


def test_what_the_machine_used_is_all_but_idle_and_waiting_time():
    assert machine_ticks(STAT) == 100 + 20 + 30 + 7 + 8 + 9  # guests are within user and nice


def test_a_process_is_read_whatever_its_name():
    fields = ["S", "41", *["0"] * 9, "10", "20", "30", "40", *["0"] * 5]
    assert process_ticks(f"42 (a ) (b) {' '.join(fields)}") == (41, 100)


def test_descendants_are_ours_and_others_are_not(tmp_path):
    """1 -> 2 -> 3 are ours; 4 is of somebody else; what ended while it was read is skipped."""
    for pid, parent, ticks in ((1, 0, 5), (2, 1, 10), (3, 2, 20), (4, 0, 1000)):
        (tmp_path / str(pid)).mkdir()
        fields = ["S", str(parent), *["0"] * 9, str(ticks), "1", "1", "1"]
        (tmp_path / str(pid) / "stat").write_text(f"{pid} (x) {' '.join(fields)}")
    (tmp_path / "5").mkdir()
    (tmp_path / "self").mkdir()
    assert tree_ticks(1, tmp_path) == {1: 5 + 3, 2: 10 + 3, 3: 20 + 3}


def test_others_share_is_what_is_left_of_all_cores():
    before, after = Usage(10.0, 100.0, 50.0), Usage(14.0, 107.0, 54.0)
    assert after.others(before, 2) == pytest.approx(3 / 8)
    assert Usage(14.0, 103.0, 54.0).others(before, 2) == 0.0  # ticks are coarse: never less than nothing


def test_a_busy_machine_is_refused_in_a_line_that_says_what_to_do(monkeypatch):
    readings = iter([Usage(0.0, 0.0, 0.0), Usage(1.0, 0.5 * (os.cpu_count() or 1), 0.0)])
    monkeypatch.setattr(machine, "usage", lambda: next(readings))
    with pytest.raises(BusyError, match=r"other processes used 50% of its \d+ cores.*at most 5%.*--trial"):
        check_idle(0)


def test_an_idle_machine_is_not(monkeypatch):
    readings = iter([Usage(0.0, 0.0, 0.0), Usage(1.0, 0.9, 0.9)])
    monkeypatch.setattr(machine, "usage", lambda: next(readings))
    assert check_idle(0) == 0.0


def test_the_work_of_a_child_counts_as_ours():
    """On the real /proc: a child that computes for a while and is waited for."""
    before = machine.usage()
    subprocess.run([sys.executable, "-S", "-c", "sum(range(10**6))"], check=True)
    after = machine.usage()
    assert after.ours > before.ours
    assert after.machine >= before.machine
