"""What a machine is, and how much of it others use: figures of a busy machine are not written.

Others' share is the processor time that the system counts as used, or as taken by other virtual machines, less that of
this process and all its descendants; over all cores. It knows Linux's /proc alone.
"""

import os
import platform
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tandem.processor import processor_flags, processor_name

TICK = os.sysconf("SC_CLK_TCK")
BUSY_BEFORE = 0.05  # of all cores, over the seconds of `idle_share`
BUSY_DURING = 0.10
WATCHED_S = 3.0


class BusyError(Exception):
    """Something else uses the machine."""


@dataclass(frozen=True)
class Usage:
    """Seconds since some time: on the clock, of the processor in all, and of this process and its descendants."""

    clock: float
    machine: float
    ours: float

    def others(self, before: "Usage", cores: int) -> float:
        """The share of all cores that others used since `before`, 0 to 1."""
        theirs = (self.machine - before.machine) - (self.ours - before.ours)
        return min(max(theirs / ((self.clock - before.clock) * cores), 0.0), 1.0)


def machine_ticks(stat: str) -> int:
    """/proc/stat: ticks in use. Of its first line: user, nice, system, idle, iowait, irq, softirq, steal."""
    user, nice, system, _, _, irq, softirq, steal = (int(field) for field in stat.split("\n", 1)[0].split()[1:9])
    return user + nice + system + irq + softirq + steal


def process_ticks(stat: str) -> tuple[int, int]:
    """/proc/PID/stat: the parent's id, and ticks used, with those of children that were waited for."""
    fields = stat.rpartition(")")[2].split()
    return int(fields[1]), sum(int(field) for field in fields[11:15])


def tree_ticks(root: int, proc: Path = Path("/proc")) -> dict[int, int]:
    """Ticks of a process and of each of its descendants, by id."""
    found: dict[int, tuple[int, int]] = {}
    for folder in proc.iterdir():
        if folder.name.isdigit():
            try:
                found[int(folder.name)] = process_ticks((folder / "stat").read_text())
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended meanwhile: its parent, once it has waited for it, has its ticks
    children: dict[int, list[int]] = {}
    for pid, (parent, _) in found.items():
        children.setdefault(parent, []).append(pid)
    below, waiting = {}, [root]
    while waiting:
        pid = waiting.pop()
        below[pid] = found.get(pid, (0, 0))[1]
        waiting += children.get(pid, [])
    return below


def usage() -> Usage:
    clock = time.perf_counter()
    used = machine_ticks(Path("/proc/stat").read_text()) / TICK
    return Usage(clock, used, sum(tree_ticks(os.getpid()).values()) / TICK)


def check_idle(watched_s: float = WATCHED_S) -> float:
    """Others' share over some seconds. Raises `BusyError` where it is above `BUSY_BEFORE`."""
    before = usage()
    time.sleep(watched_s)
    share = usage().others(before, os.cpu_count() or 1)
    if share > BUSY_BEFORE:
        raise BusyError(
            f"the machine is busy: other processes used {share:.0%} of its {os.cpu_count()} cores in the last "
            f"{watched_s:g} s (at most {BUSY_BEFORE:.0%}). Stop them (`top` shows which they are), or try things out "
            "with --trial, which writes no page"
        )
    return share


def described(threads: int) -> dict[str, Any]:
    """What figures depend on."""
    flags = processor_flags()
    wide = [flag for flag in ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8") if flag in flags]
    memory = next(line.split()[1] for line in Path("/proc/meminfo").read_text().splitlines() if "MemTotal" in line)
    return {
        "processor": processor_name(),
        "instructions": wide,
        "cores": os.cpu_count(),
        "threads": threads,
        "memory_gb": round(int(memory) / 2**20),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }
