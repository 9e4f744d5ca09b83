"""The benchmark is a script with a package beside it: bench/ is where its modules are found."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "bench"))
