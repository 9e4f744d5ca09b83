"""How the first photo of a process is best computed: in numpy, compiled, or compiled from OpenVINO's model cache.

    python bench/first_photo.py [--model vit-b-32|siglip2-b-16-256] [--precision P] [--rounds 5] [--only SIDE ...]
    python bench/first_photo.py --budgets

Each side classifies the same photo with the same three labels in a fresh process, from the same folder in transformers'
layout (random weights); the sides take turns, medians are printed. `seconds` is wall-clock from the start of the
process to its end, `CPU seconds` what all its threads used (which a busy machine stretches less), `peak MB` the largest
resident set, mapped files included. `--budgets` measures instead how much each tower computes in numpy in the
time that compiling it takes.
"""

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from cold import Cost, run
from PIL import Image
from reference import load_note, machine, make_folder, make_siglip_folder

LABELS = ("cat", "dog", "zebra")
MODELS = {"vit-b-32": make_folder, "siglip2-b-16-256": make_siglip_folder}

TEN_LINES = """
import sys
import torch
from PIL import Image
from transformers import AutoModel, AutoProcessor
folder, photo, labels = sys.argv[1], sys.argv[2], sys.argv[3].split(",")
model = AutoModel.from_pretrained(folder)
processor = AutoProcessor.from_pretrained(folder)
texts = [f"a photo of a {label}" for label in labels]  # cleaned as SigLIP wants; CLIP's would end in a full stop
padding = {"padding": "max_length", "max_length": 64} if model.config.model_type == "siglip" else {"padding": True}
inputs = processor(text=texts, images=Image.open(photo), return_tensors="pt", **padding)
with torch.no_grad():
    probabilities = model(**inputs).logits_per_image.softmax(dim=1)[0]
for label, probability in zip(labels, probabilities): print(f"{label}: {probability:.3f}")
"""

# `tandem classify` with one of the paths forced upon the engine
FORCED = """
import sys
from tandem.engine import openvino as engine
path, cache = sys.argv[1:3]
engine.IMAGES_BEFORE_COMPILING = engine.TOKENS_BEFORE_COMPILING = 10**9 if path == "numpy" else 0
if path.startswith("cache"):
    from tandem.engine.compiled import core as started
    core = started()
    mode = "OPTIMIZE_SIZE" if path == "cache-small" else "OPTIMIZE_SPEED"
    core.set_property({"CACHE_DIR": cache, "CACHE_MODE": mode})
from tandem.cli import main
sys.exit(main(sys.argv[3:]))
"""

BUDGETS = """
import statistics, sys, time
import numpy as np
from tandem import weights
from tandem.engine import build, openvino as engine
config, tensors = weights.read_tensors(sys.argv[1])
size, text = config.vision.image_size, config.text
def seconds(work):
    start = time.perf_counter(); work(); return time.perf_counter() - start
def pixels(n): return np.random.default_rng(0).integers(0, 256, (n, size, size, 3), dtype=np.uint8)
def ids(n, t):
    ids = np.random.default_rng(0).integers(5, 1000, (n, t)).astype(np.int32)
    if text.end_id is not None: ids[:, -1] = text.end_id
    return ids
length = text.context_length if text.fixed_length else 8
work = {"image": [(n, lambda e, n=n: e.encode_images(pixels(n))) for n in (1, 2, 4)],
        "text": [(n * length, lambda e, n=n: e.encode_texts(ids(n, length))) for n in (1, 3, 6, 12)]}
for tower, amounts in work.items():
    for amount, run in amounts:
        row = []
        for limit in (10**9, 0):
            engine.IMAGES_BEFORE_COMPILING = engine.TOKENS_BEFORE_COMPILING = limit
            made = build(config, tensors)
            row.append(seconds(lambda: run(made)))
        print(tower, amount, *(f"{each:.3f}" for each in row), flush=True)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=MODELS, default="vit-b-32")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--precision", default="float32", help="of Tandem; transformers computes in float32")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", metavar="SIDE")
    parser.add_argument("--budgets", action="store_true")
    arguments = parser.parse_args()
    folder = MODELS[arguments.model](
        arguments.folder or Path(tempfile.gettempdir()) / f"tandem-bench-{arguments.model}"
    )
    print(f"{arguments.model}; {machine()}; {load_note()}\n")
    if arguments.budgets:
        print("tower, images or tokens, seconds in numpy, seconds with compiling")
        print(
            subprocess.run([sys.executable, "-c", BUDGETS, folder], check=True, capture_output=True, text=True).stdout
        )
        return

    photo = folder.with_name(f"{folder.name}.jpg")
    grid = np.mgrid[0:390, 0:466].sum(axis=0) % 256
    Image.fromarray(np.stack([grid, grid[::-1], 255 - grid], axis=-1).astype(np.uint8)).save(photo)
    labels = ",".join(LABELS)
    classify = ["classify", str(photo), "--labels", labels, "--model", str(folder)]
    classify += ["--precision", arguments.precision]
    caches = {name: folder.with_name(f"{folder.name}-{name}") for name in ("cache", "cache-small")}
    for cache in caches.values():
        shutil.rmtree(cache, ignore_errors=True)
    commands = {
        "transformers": [sys.executable, "-c", TEN_LINES, str(folder), str(photo), labels],
        "tandem": [sys.executable, "-m", "tandem", *classify],
        **{
            f"tandem, {path}": [sys.executable, "-c", FORCED, path, str(caches.get(path, "")), *classify]
            for path in ("numpy", "compiled", *caches)
        },
    }
    if arguments.only:
        commands = {name: command for name, command in commands.items() if name.split(", ")[-1] in arguments.only}
    measured: dict[str, list[Cost]] = {name: [] for name in commands}
    for i in range(arguments.rounds + 1):  # the first round brings the files into the page cache, and fills the caches
        for name, command in commands.items():
            cost, printed = run(command)
            if i:
                measured[name].append(cost)
            else:
                print(f"{name} (first run {cost.seconds:.2f} s) says:\n{printed}")
    print("| one photo, three labels, whole process | seconds | CPU seconds | peak MB | on disk, MB |")
    print("|---|---|---|---|---|")
    for name, rows in measured.items():
        elapsed, cpu, peak = (statistics.median(column) for column in zip(*rows, strict=True))
        cache = caches.get(name.split(", ")[-1])
        disk = sum(file.stat().st_size for file in cache.rglob("*")) / 2**20 if cache and cache.is_dir() else 0
        print(f"| {name} | {elapsed:.2f} | {cpu:.2f} | {peak:.0f} | {disk:.0f} |")


if __name__ == "__main__":
    main()
