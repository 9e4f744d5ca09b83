"""What a process has taken: processor seconds, and memory at its peak. Linux tells it of any process of ours."""

import json
import os
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

MB = 2**20
REFERENCE_S = 0.1  # of what `slowness` does; 0.07 to 0.09 were measured
_TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
known = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the system tells no peaks of memory")


@dataclass
class Cost:
    cpu_s: float = 0.0
    memory_bytes: int = 0  # above what it had before


def slowness() -> float:
    """How many times as long as on the machine that bounds were set on this one takes, at least 1, for plain Python.

    Processor time itself: a busy machine takes more of it too.
    """
    began = time.process_time()
    json.loads("[" + ",".join(['{"a": [1, 2.5, "b"]}'] * 100_000) + "]")
    return max(1.0, (time.process_time() - began) / REFERENCE_S)


def limit_memory(pid: int, more: int) -> None:
    """Let a process have that many bytes more of addresses than it has now."""
    now = int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * resource.getpagesize()
    resource.prlimit(pid, resource.RLIMIT_AS, (now + more, now + more))


@contextmanager
def measured(pid: int) -> Iterator[Cost]:
    """What a process takes during the block."""
    cost = Cost()
    Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak begins anew
    memory, cpu = _status(pid, "VmRSS"), _cpu_s(pid)
    yield cost
    cost.cpu_s, cost.memory_bytes = _cpu_s(pid) - cpu, _status(pid, "VmHWM") - memory


def _status(pid: int, name: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"no {name}")


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS
