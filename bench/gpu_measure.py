"""What the benches of a GPU share: the machine, times, operations, the rate of a matrix product, kept results."""

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

Row = dict[str, Any]
OUT_OF_MEMORY = "out of memory"


@dataclass
class Results:
    """Rows of finished cases, in a file that is added to: a bench that is stopped goes on where it was."""

    path: Path
    machine: str
    again: bool = False
    until: float = float("inf")  # of time.monotonic(): no case begins after it
    left: list[str] = field(default_factory=list)

    def case(self, name: str, work: Callable[[], list[Row]]) -> list[Row]:
        """The rows of a case: those in the file, or what `work` finds now; [] if there is no time left for it."""
        if not self.again:
            for line in self.path.read_text().splitlines() if self.path.exists() else []:
                kept = json.loads(line)
                if kept["case"] == name and kept["machine"] == self.machine:
                    return list(kept["rows"])
        if time.monotonic() > self.until:
            self.left.append(name)
            return []
        rows = work()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            file.write(json.dumps({"case": name, "machine": self.machine, "rows": rows}) + "\n")
        print(f"({name}: done)", flush=True)
        return rows


def machine(device: torch.device) -> str:
    """The device and the versions, in a line."""
    name = platform.processor() or platform.machine()
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        name = f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}"
    return f"{name}, {os.cpu_count()} cores; Python {platform.python_version()}, torch {torch.__version__}"


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Of one call, until the device is done."""
    wait(device)
    start = time.perf_counter()
    work()
    wait(device)
    return time.perf_counter() - start


def alternate(ways: Mapping[str, Callable[[], object]], device: torch.device, rounds: int) -> dict[str, float]:
    """The median seconds of each way, in turn; two rounds before them do not count: compiling, recording."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 2):
        for name, way in ways.items():
            taken = seconds(way, device)
            if number >= 2:
                found[name].append(taken)
    return {name: statistics.median(taken) for name, taken in found.items()}


def operations(work: Callable[[], object]) -> float:
    """Multiplications and additions of the matrix products, convolutions and attention in one call, uncompiled."""
    with torch.compiler.set_stance("force_eager"), FlopCounterMode(display=False) as counter:
        work()
    return float(counter.get_total_flops())


def matrix_rate(device: torch.device, precision: str) -> float:
    """Operations a second of a large matrix product of random numbers, the median of 20: what a share is of."""
    size = 8192 if device.type == "cuda" else 256
    a, b = (torch.randn(size, size, device=device).to(getattr(torch, precision)) for _ in range(2))
    for _ in range(3):
        a @ b
    return 2 * size**3 / statistics.median(seconds(lambda: a @ b, device) for _ in range(20))


def peak_gb(device: torch.device) -> float | None:
    """The most that tensors took since `forget_peak`; None on a CPU, where nobody counts it."""
    return torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else None


def forget_peak(device: torch.device) -> None:
    """Give back what nobody holds, and count the peak from here."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def table(title: str, columns: Sequence[str], rows: Iterable[Row]) -> None:
    """A Markdown table; numbers with three figures, what is not there as a dash."""
    print(f"\n{title}\n\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for row in rows:
        print(f"| {' | '.join(_shown(row.get(column)) for column in columns)} |", flush=True)


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return str(value)
