"""The ten lines from a cold start, whole process: transformers beside `tandem.compat`, which is one changed import.

    python bench/compat.py [--folder F] [--rounds 7] [--torch]

Each line of the table is one script, run by both sides on the same folder (ViT-B/32, random weights) and the same
photo; the sides take turns, medians are printed. Time is wall-clock from starting the process to its end, and beside it
the CPU time, which a busy machine changes less. The probabilities of both sides are compared.

"as written" is the script of the model's card, which does not import torch itself; the others import it first, or ask
for NumPy's arrays (which transformers' model does not take: its side is as written). `import torch` is the script's,
on both sides; what it takes by itself is printed above. --torch: that row alone.
"""

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np
from cold import run
from PIL import Image
from reference import load_note, machine, make_folder

TARGET = 4.0
TEXTS = ("a photo of a cat", "a photo of a dog", "a photo of a zebra")

TEN_LINES = """
import json, sys
{torch}from PIL import Image
from {library} import CLIPModel, CLIPProcessor
model = CLIPModel.from_pretrained(sys.argv[1])
processor = CLIPProcessor.from_pretrained(sys.argv[1])
image = Image.open(sys.argv[2])
inputs = processor(text=json.loads(sys.argv[3]), images=image, return_tensors="{kind}", padding=True)
outputs = model(**inputs)
logits_per_image = outputs.logits_per_image
probs = logits_per_image.softmax(dim=1)
print(json.dumps(probs.tolist()))
"""
WITH_TORCH = '"pt", with `import torch`'
# What the script is like: (theirs, ours)
SCRIPTS = {
    'as written, "pt"': [{"torch": "", "kind": "pt"}] * 2,
    WITH_TORCH: [{"torch": "import torch\n", "kind": "pt"}] * 2,
    '"np"': [{"torch": "", "kind": "pt"}, {"torch": "", "kind": "np"}],
}
LIBRARIES = ("transformers", "tandem.compat.transformers")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "tandem-bench-vit-b-32")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--torch", action="store_true", help="only the script that imports torch itself")
    arguments = parser.parse_args()
    folder = make_folder(arguments.folder)
    photo = folder.with_name(f"{folder.name}.jpg")
    grid = np.mgrid[0:390, 0:466].sum(axis=0) % 256
    Image.fromarray(np.stack([grid, grid[::-1], 255 - grid], axis=-1).astype(np.uint8)).save(photo)

    print(f"{machine()}; {load_note()}")
    own = [run([sys.executable, "-c", "import torch"])[0] for _ in range(arguments.rounds + 1)][1:]
    print(f"`import torch` alone: {statistics.median(each.seconds for each in own):.2f} s\n")
    print(f"| the script | transformers, s | tandem.compat, s | faster (target {TARGET:.0f}x) | CPU, s | difference |")
    print("|---|---|---|---|---|---|")
    for name, sides in SCRIPTS.items():
        if arguments.torch and name != WITH_TORCH:
            continue
        seconds: list[list[float]] = [[], []]
        cpu_seconds: list[list[float]] = [[], []]
        answers: list[np.ndarray] = [np.empty(0)] * 2
        for i in range(arguments.rounds + 1):  # the first round brings the files into the page cache
            for side, (library, words) in enumerate(zip(LIBRARIES, sides, strict=True)):
                script = TEN_LINES.format(library=library, **words)
                cost, printed = run([sys.executable, "-c", script, str(folder), str(photo), json.dumps(TEXTS)])
                answers[side] = np.array(json.loads(printed.splitlines()[-1]))
                if i:
                    seconds[side].append(cost.seconds)
                    cpu_seconds[side].append(cost.cpu_seconds)
        theirs, ours = map(statistics.median, seconds)
        difference = abs(answers[0] - answers[1]).max()
        assert difference < 1e-4, f"{name}: the probabilities differ by {difference}"
        cpu = " / ".join(f"{statistics.median(each):.2f}" for each in cpu_seconds)
        print(f"| {name} | {theirs:.2f} | {ours:.2f} | {theirs / ours:.1f}x | {cpu} | {difference:.1g} |", flush=True)


if __name__ == "__main__":
    main()
