"""Refuse a busy machine before minutes of installing: `python bench/comparison/idle.py [--trial]`.

Needs nothing but the standard library and Tandem's sources on PYTHONPATH. A trial runs on any machine.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # of `comparison`

from comparison.machine import BusyError, check_idle


def main(arguments: Sequence[str]) -> int:
    if "--trial" in arguments:
        return 0
    try:
        check_idle()
    except BusyError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
