"""The processor of this machine, in words: what measured speeds and results belong to."""

import os
import platform
from pathlib import Path


def processor() -> str:
    """Its name and the number of its cores: `AMD EPYC, 2 cores`."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor() or platform.machine()}, {os.cpu_count()} cores"
