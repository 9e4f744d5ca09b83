"""The processor of this machine, in words: what measured speeds and results belong to."""

import os
import platform
from pathlib import Path


def processor() -> str:
    """Its name and the number of its cores: `AMD EPYC, 2 cores`."""
    names = [line.partition(":")[2].strip() for line in _lines() if line.startswith("model name")]
    return f"{names[0] if names else platform.processor() or platform.machine()}, {os.cpu_count()} cores"


def has_bfloat16() -> bool:
    """Whether it says that it multiplies bfloat16. False where it says nothing: ask whoever computes."""
    flags = next((line.partition(":")[2].split() for line in _lines() if line.startswith("flags")), [])
    return "avx512_bf16" in flags or "amx_bf16" in flags


def _lines() -> list[str]:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def cores() -> int:
    """The number of cores this process may use, which containers and schedulers can restrict."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
