"""What a cold start costs: whole processes, best and median of several. `python bench/startup.py [--json]`.

Limits to keep: `import tandem` 0.1 s, `tandem --help` 0.4 s. A bare interpreter is measured beside them.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROUNDS = 9


def seconds(command: list[str]) -> list[float]:
    """Wall time of each round; the first, which fills the file cache, is not counted."""
    taken = []
    for _ in range(ROUNDS + 1):
        began = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        taken.append(time.perf_counter() - began)
    return taken[1:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        from PIL import Image

        photo = Path(folder) / "photo.jpg"
        Image.effect_mandelbrot((640, 480), (-2.0, -1.2, 1.0, 1.2), 50).convert("RGB").save(photo)
        tandem = [sys.executable, "-m", "tandem"]
        rows = {
            "python -c pass": [sys.executable, "-c", "pass"],
            "import tandem": [sys.executable, "-c", "import tandem"],
            "tandem --help": [*tandem, "--help"],
            "tandem classify --help": [*tandem, "classify", "--help"],
            "tandem classify photo.jpg (the model that ships)": [*tandem, "classify", str(photo), "--labels", "a,b,c"],
        }
        results = {name: seconds(command) for name, command in rows.items()}
    if arguments.json:
        print(json.dumps({name: {"best_s": min(t), "median_s": statistics.median(t)} for name, t in results.items()}))
        return
    print("| whole process, cold start | best | median |\n|---|---|---|")
    for name, taken in results.items():
        print(f"| {name} | {min(taken):.3f} s | {statistics.median(taken):.3f} s |")


if __name__ == "__main__":
    main()
