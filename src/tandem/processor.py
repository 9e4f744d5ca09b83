"""The processor of this machine, in words: what measured speeds and results belong to."""

import os
import platform
from pathlib import Path


def processor() -> str:
    """Its name and the number of its cores: `AMD EPYC, 2 cores`."""
    return f"{processor_name()}, {os.cpu_count()} cores"


def processor_name() -> str:
    """As it calls itself, or what kind it is where it says nothing."""
    names = [line.partition(":")[2].strip() for line in _lines() if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def processor_generation() -> str:
    """`family 26 model 2; `, which tells apart what a cloud gives one name; nothing where it says nothing."""
    numbers = [line.partition(":")[2].strip() for line in _lines() if line.startswith(("cpu family", "model\t"))][:2]
    return f"family {numbers[0]} model {numbers[1]}; " if len(numbers) == 2 else ""


def processor_flags() -> frozenset[str]:
    """The instructions that it says it has; none where it says nothing."""
    return frozenset(next((line.partition(":")[2].split() for line in _lines() if line.startswith("flags")), []))


def has_bfloat16() -> bool:
    """Whether it says that it multiplies bfloat16. False where it says nothing: ask whoever computes."""
    return not processor_flags().isdisjoint({"avx512_bf16", "amx_bf16"})


def emulates_bfloat16() -> bool:
    """Whether its instructions are known and none multiplies bfloat16, which is then emulated, slower than float32."""
    return bool(processor_flags()) and not has_bfloat16()


def _lines() -> list[str]:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def cores() -> int:
    """The number of cores this process may use, which containers and schedulers can restrict."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
