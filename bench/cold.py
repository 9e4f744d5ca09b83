"""One photo from a cold start, whole process: `tandem classify` beside the usual ten lines with transformers.

    python bench/cold.py [--folder F] [--rounds 5]

Both read the same local folder (ViT-B/32, random weights) and the same photo; the sides take turns, medians are
printed. Time is wall-clock from starting the process to its end; memory is the largest resident set that the kernel
saw (`ru_maxrss`, mapped files included).
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from reference import load_note, machine, make_folder

LABELS = ("cat", "dog", "zebra")

TEN_LINES = """
import sys
from PIL import Image
from transformers import CLIPModel, CLIPProcessor
folder, photo, labels = sys.argv[1], sys.argv[2], sys.argv[3].split(",")
model = CLIPModel.from_pretrained(folder)
processor = CLIPProcessor.from_pretrained(folder)
texts = [f"a photo of a {label}." for label in labels]
inputs = processor(text=texts, images=Image.open(photo), return_tensors="pt", padding=True)
probabilities = model(**inputs).logits_per_image.softmax(dim=1)[0]
for label, probability in zip(labels, probabilities): print(f"{label}: {probability:.3f}")
"""


class Cost(NamedTuple):
    """What a process took."""

    seconds: float
    cpu_seconds: float
    peak_megabytes: float  # resident


def run(command: list[str]) -> tuple[Cost, str]:
    """What a process took, and what it printed. Raises if it fails."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # a package that pip installs comes compiled; a checkout may not
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=output, stderr=errors, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        elapsed = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        errors.seek(0)
        if process.returncode:
            raise SystemExit(f"{' '.join(command)[:200]} failed:\n{errors.read().decode()}")
        scale = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is bytes there, kilobytes elsewhere
        cost = Cost(elapsed, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * scale / 2**20)
        return cost, output.read().decode()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "tandem-bench-vit-b-32")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    folder = make_folder(arguments.folder)
    photo = folder.with_name(f"{folder.name}.jpg")
    grid = np.mgrid[0:390, 0:466].sum(axis=0) % 256
    Image.fromarray(np.stack([grid, grid[::-1], 255 - grid], axis=-1).astype(np.uint8)).save(photo)
    script = folder.with_name(f"{folder.name}.py")
    script.write_text(TEN_LINES)

    labels = ",".join(LABELS)
    tandem = [sys.executable, "-m", "tandem", "classify", str(photo), "--labels", labels, "--model", str(folder)]
    commands = {
        "transformers": [sys.executable, str(script), str(folder), str(photo), labels],
        "tandem float32": [*tandem, "--precision", "float32"],
        "tandem bfloat16": [*tandem, "--precision", "bfloat16"],
    }
    print(f"{machine()}; {load_note()}\n")
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for i in range(arguments.rounds + 1):  # the first round brings the files into the page cache
        for name, command in commands.items():
            cost, printed = run(command)
            if i:
                measured[name].append((cost.seconds, cost.peak_megabytes))
            else:
                print(f"{name} says:\n{printed}")
    medians = {
        name: [statistics.median(column) for column in zip(*rows, strict=True)] for name, rows in measured.items()
    }
    their_time, their_peak = medians["transformers"]
    print("| one photo, whole process | seconds | faster (target 6x) | peak MB | of theirs (target 0.6x) |")
    print("|---|---|---|---|---|")
    for name, (elapsed, peak) in medians.items():
        print(f"| {name} | {elapsed:.2f} | {their_time / elapsed:.1f}x | {peak:.0f} | {peak / their_peak:.2f}x |")


if __name__ == "__main__":
    main()
