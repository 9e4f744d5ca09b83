"""Families beyond CLIP, side by side in one run: SigLIP 2 B/16-256 beside transformers, MobileCLIP2-S0 beside ViT-B/32.

    python bench/families.py [--folder F] [--rounds 5] [--only images,texts,mobile,cold] [--tiny]

Weights are random. SigLIP 2 is made by transformers and read by both sides from one folder, with a stand-in tokenizer
of as many entries as the real one. The sides take turns, so that whatever else the machine does hits both; each figure
is the median of its rounds. Ours gets uint8 pixels and returns unit vectors; transformers gets pixels that are
normalised already, and runs in `inference_mode` with as many threads as there are cores. --tiny shows that everything
runs.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from cold import run
from encode import compare, repeated
from PIL import Image
from reference import load_note, machine, make_siglip_folder
from transformers.utils import logging

from tandem import engine as engines
from tandem import weights
from tandem.weights.architectures import architecture, random_image_weights

BATCH, BATCH_MOBILE, TEXTS = 8, 32, 64
LABELS = ("cat", "dog", "zebra")

TEN_LINES = """
import sys
import torch
from PIL import Image
from transformers import AutoModel, AutoProcessor
folder, photo, labels = sys.argv[1], sys.argv[2], sys.argv[3].split(",")
model = AutoModel.from_pretrained(folder)
processor = AutoProcessor.from_pretrained(folder)
texts = [f"a photo of a {label}." for label in labels]
inputs = processor(text=texts, images=Image.open(photo), padding="max_length", max_length=64, return_tensors="pt")
probabilities = torch.sigmoid(model(**inputs).logits_per_image)[0]
for label, probability in zip(labels, probabilities): print(f"{label}: {probability:.3f}")
"""

Work = tuple[Callable[[], object], int]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "tandem-bench-siglip2-b-16-256")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="images,texts,mobile,cold")
    parser.add_argument("--tiny", action="store_true", help="small sizes and one round")
    arguments = parser.parse_args()
    rounds = 1 if arguments.tiny else arguments.rounds
    folder = arguments.folder.with_name(f"{arguments.folder.name}-tiny") if arguments.tiny else arguments.folder
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    print(f"{machine()}; {load_note()}\n", flush=True)
    make_siglip_folder(folder, tiny=arguments.tiny)

    wanted = arguments.only.split(",")
    if {"images", "texts", "cold"} & set(wanted):
        print("| SigLIP 2 B/16-256 | transformers float32 | tandem float32 | bfloat16 | ratios (targets) |")
        print("|---|---|---|---|---|", flush=True)
    if {"images", "texts"} & set(wanted):
        with torch.inference_mode():
            siglip(folder, rounds, wanted)
    if "cold" in wanted:
        cold(folder, rounds)
    if "mobile" in wanted:
        print("\n| float32, batch 32 | ViT-B/32 | MobileCLIP2-S0 | ratio (target) |\n|---|---|---|---|")
        mobile(rounds, 2 if arguments.tiny else BATCH_MOBILE)


def siglip(folder: Path, rounds: int, wanted: list[str]) -> None:
    """Images and texts per second."""
    from transformers import SiglipModel

    theirs = SiglipModel.from_pretrained(folder).eval()
    config, tensors = weights.read_tensors(folder)
    available = engines.available_precisions()
    ours = {
        f"tandem {precision}": engines.build(config, tensors, engine="openvino", precision=precision)  # type: ignore[arg-type]
        for precision in ("float32", "bfloat16")
        if precision in available
    }
    rng = np.random.default_rng(0)
    size, text = config.vision.image_size, config.text
    pixels = rng.integers(0, 256, (BATCH, size, size, 3), dtype=np.uint8)
    ready = torch.randn(BATCH, 3, size, size)
    ids = rng.integers(2, text.vocabulary_size, (TEXTS, text.context_length), dtype=np.int32)
    ids[:, -20:] = text.pad_id
    theirs_ids = torch.from_numpy(ids.astype(np.int64))
    if "images" in wanted:
        sides: dict[str, Work] = {
            "transformers float32": (lambda: theirs.get_image_features(pixel_values=ready), BATCH)
        }
        for name, engine in ours.items():
            sides[name] = (lambda e=engine: e.encode_images(pixels), BATCH)
        sides = {name: (repeated(4, work), 4 * count) for name, (work, count) in sides.items()}
        _row(f"images/s, batch {BATCH}", compare(sides, rounds), (1.3, 2.6))
    if "texts" in wanted:
        sides = {"transformers float32": (lambda: theirs.get_text_features(input_ids=theirs_ids), TEXTS)}
        for name, engine in ours.items():
            sides[name] = (lambda e=engine: e.encode_texts(ids), TEXTS)
        _row(f"texts/s, {text.context_length} tokens, batch {TEXTS}", compare(sides, rounds), (1.3, 2.6))


def _row(title: str, rates: dict[str, float], targets: tuple[float, float]) -> None:
    theirs = rates["transformers float32"]
    figures = [f"{rates[side]:.1f}" if side in rates else "" for side in ("tandem float32", "tandem bfloat16")]
    ratios = [
        f"{rates[side] / theirs:.2f}x ({target}x)"
        for side, target in zip(("tandem float32", "tandem bfloat16"), targets, strict=True)
        if side in rates
    ]
    print(f"| {title} | {theirs:.1f} | {' | '.join(figures)} | {', '.join(ratios)} |", flush=True)


def cold(folder: Path, rounds: int) -> None:
    """One photo, whole processes: the usual ten lines beside `tandem classify`."""
    photo, script = folder.with_name(f"{folder.name}.jpg"), folder.with_name(f"{folder.name}.py")
    grid = np.mgrid[0:390, 0:466].sum(axis=0) % 256
    Image.fromarray(np.stack([grid, grid[::-1], 255 - grid], axis=-1).astype(np.uint8)).save(photo)
    script.write_text(TEN_LINES)
    labels = ",".join(LABELS)
    tandem = [sys.executable, "-m", "tandem", "classify", str(photo), "--labels", labels, "--model", str(folder)]
    commands = {
        "transformers": [sys.executable, str(script), str(folder), str(photo), labels],
        "float32": tandem,
        "bfloat16": [*tandem, "--precision", "bfloat16"],
    }
    if "bfloat16" not in engines.available_precisions():
        del commands["bfloat16"]
    measured: dict[str, list[float]] = {name: [] for name in commands}
    for i in range(rounds + 1):  # the first round brings the files into the page cache
        for name, command in commands.items():
            cost, _ = run(command)
            if i:
                measured[name].append(cost.seconds)
    medians = {name: statistics.median(seconds) for name, seconds in measured.items()}
    shown = [f"{medians[name]:.2f} s" if name in medians else "" for name in ("transformers", "float32", "bfloat16")]
    ratio = medians["transformers"] / medians["float32"]
    print(f"| one photo, whole process | {' | '.join(shown)} | {ratio:.2f}x (4x) |", flush=True)


def mobile(rounds: int, batch: int) -> None:
    """Images per second of two of our own."""
    sides: dict[str, Work] = {}
    for name in ("ViT-B-32-quickgelu", "MobileCLIP2-S0"):
        config = architecture(name)
        engine = engines.build(config, random_image_weights(config), engine="openvino", precision="float32")
        size = config.vision.image_size
        pixels = np.random.default_rng(0).integers(0, 256, (batch, size, size, 3), dtype=np.uint8)
        sides[name] = (lambda e=engine, p=pixels: e.encode_images(p), batch)
    rates = compare(sides, rounds)
    vit, s0 = rates["ViT-B-32-quickgelu"], rates["MobileCLIP2-S0"]
    print(f"| images/s | {vit:.1f} | {s0:.1f} | {s0 / vit:.2f}x (2x) |", flush=True)


if __name__ == "__main__":
    main()
