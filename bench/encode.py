"""Vectors a second, side by side with transformers in one run: ViT-B/32, random weights, both from the same folder.

    python bench/encode.py [--folder F] [--rounds 5] [--text-rounds 3] [--quantized F]

The sides take turns, so that whatever else the machine does hits both; each figure is the median of its rounds.
Ours gets uint8 pixels and ids of any length and returns unit vectors. transformers gets pixels that are normalised
already (which spares it a step) and ids padded to 77, as its processor makes them. Of int8 every block is rounded, in a
folder that is made once (random weights agree with nothing: this times it, and says nothing of its quality).
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from comparison.materials import Materials
from reference import END, START, load_note, machine, make_folder
from transformers import CLIPModel

import tandem
from tandem import engine as engines
from tandem import weights
from tandem.quantize.card import write
from tandem.quantize.quantizing import quantize
from tandem.quantize.samples import gather

SIDES = ("transformers float32", "transformers bfloat16", "tandem float32", "tandem bfloat16", "tandem int8")
PROMPTS = 2000  # all different: equal ones are encoded once by ours, and each by transformers
THEIR_PROMPTS = 128  # their rate does not depend on the number: every prompt is 77 tokens


def quantized_folder(source: Path, target: Path) -> Path:
    """The model of eight bits, made once from the float32 one, with the usual settings for every block."""
    if not (target / "config.json").is_file():
        model = tandem.load(source, engine="openvino", precision="float32")
        write(quantize(model, gather(model), search=False, say=print), target, overwrite=True)
    return target


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def compare(sides: dict[str, tuple[Callable[[], object], int]], rounds: int) -> dict[str, float]:
    """Each side's work and how many items it does -> the median of its rates, after a round of warming up."""
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for i in range(rounds + 1):
        for name, (work, items) in sides.items():
            rate = items / seconds(work)
            if i:
                rates[name].append(rate)
    return {name: statistics.median(found) for name, found in rates.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "tandem-bench-vit-b-32")
    parser.add_argument(
        "--quantized", type=Path, default=Path(tempfile.gettempdir()) / "tandem-bench-vit-b-32-int8", metavar="F"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--text-rounds", type=int, default=3)
    parser.add_argument("--only", choices=("images", "texts"))
    arguments = parser.parse_args()
    print(f"{machine()}; {load_note()}\n")

    folder = make_folder(arguments.folder)
    checkpoint = weights.read(folder)
    available = engines.available_precisions()
    ours = {
        f"tandem {precision}": engines.build(
            checkpoint.config, checkpoint.tensors, engine="openvino", precision=precision
        )
        for precision in ("float32", "bfloat16")
        if precision in available
    }
    eight = weights.read(quantized_folder(folder, arguments.quantized))
    ours["tandem int8"] = engines.build(eight.config, eight.tensors, engine="openvino")
    theirs = {
        f"transformers {name}": CLIPModel.from_pretrained(folder, dtype=getattr(torch, name)).eval()
        for name in ("float32", "bfloat16")
    }
    results: list[tuple[str, dict[str, float], tuple[float, float, float]]] = []

    rng = np.random.default_rng(0)
    for batch, repeats, targets in ((32, 1, (1.3, 2.7, 5.0)), (1, 16, (1.7, 3.0, 5.5))):
        if arguments.only == "texts":
            continue
        pixels = rng.integers(0, 256, (batch, 224, 224, 3), dtype=np.uint8)
        sides: dict[str, tuple[Callable[[], object], int]] = {}
        for name, model in theirs.items():
            ready = torch.randn(batch, 3, 224, 224, dtype=model.dtype)
            sides[name] = (repeated(repeats, lambda m=model, x=ready: m.get_image_features(x)), batch * repeats)
        for name, engine in ours.items():
            sides[name] = (repeated(repeats, lambda e=engine, x=pixels: e.encode_images(x)), batch * repeats)
        results.append((f"images/s, batch {batch}", compare(sides, arguments.rounds), targets))

    if arguments.only != "images":
        ids = tandem.Tokenizer.clip()(Materials.prompts(PROMPTS))
        lengths = (ids == END).argmax(axis=1) + 1
        print(f"prompts: {len(ids)}, tokens: {lengths.min()} to {lengths.max()}, mean {lengths.mean():.1f}\n")
        assert lengths.max() <= 16
        assert len(np.unique(ids, axis=0)) == PROMPTS
        assert (ids[:, 0] == START).all()
        padded = np.full((THEIR_PROMPTS, 77), END)
        for row, sentence, length in zip(padded, ids, lengths, strict=False):
            row[:length] = sentence[:length]
        sides = {}
        for name, model in theirs.items():
            work = [torch.from_numpy(padded[i : i + 64]) for i in range(0, THEIR_PROMPTS, 64)]
            sides[name] = (lambda m=model, w=work: [m.get_text_features(x) for x in w], THEIR_PROMPTS)
        for name, engine in ours.items():
            sides[name] = (lambda e=engine: e.encode_texts(ids), len(ids))
        results.append((f"{PROMPTS} prompts, texts/s", compare(sides, arguments.text_rounds), (7.0, 14.0, 22.0)))

    print("| | " + " | ".join(SIDES) + " | float32 ratio (target) | bfloat16 | int8 | int8 / bfloat16 |")
    print("|---" * (len(SIDES) + 5) + "|")
    for title, rates, targets in results:
        figures = " | ".join(f"{rates[side]:.1f}" if side in rates else "" for side in SIDES)
        ratios = [
            f"{rates[side] / rates['transformers float32']:.2f}x ({target}x)" if side in rates else ""
            for side, target in zip(SIDES[2:], targets, strict=True)
        ]
        if "tandem bfloat16" in rates:
            ratios.append(f"{rates['tandem int8'] / rates['tandem bfloat16']:.2f}x")
        print(f"| {title} | {figures} | {' | '.join(ratios)} |")


def repeated(times: int, work: Callable[[], object]) -> Callable[[], object]:
    return lambda: [work() for _ in range(times)]


if __name__ == "__main__":
    with torch.inference_mode():
        main()
