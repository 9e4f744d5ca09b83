"""Pictures by guidance with the model that ships: whether their own prompts are first among 50, and seconds for each.

    python bench/guide.py FOLDER [--shapes N] [--steps N] [--seed N] [--prompts 20] [--model M]

The 50 prompts were written down before anything was measured, and none is among the negatives of
guidance. The first ones are guided. Each picture is saved as PNG, read back, cropped afresh to nine tenths and blurred
mildly, which no step of guidance has seen, and ranked by the OpenVINO engine through the model's own preprocessing.
A run that was stopped goes on where it stopped. Writes FOLDER/results.json, table.md and sheet.png.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

import tandem
from tandem import plots
from tandem.files import write_json, write_text
from tandem.guidance import guide
from tandem.guidance.settings import STEPS
from tandem.model import Model

PROMPTS = (
    "a red circle on white",
    "a snowy mountain under a blue sky",
    "a yellow school bus",
    "a green triangle on black",
    "a brown dog running on grass",
    "a sunset over the sea",
    "a goldfish",
    "a blue square on white",
    "a plate of spaghetti",
    "a forest in autumn",
    "a basketball",
    "a black cat",
    "a rainbow",
    "a beach with palm trees",
    "an orange",
    "a woman in a red dress",
    "purple and yellow stripes",
    "a lighthouse",
    "a city street at night",
    "a butterfly on a flower",
    "a white circle on black",
    "a yellow star on blue",
    "a chessboard of black and white squares",
    "a pink heart",
    "a green circle on red",
    "a zebra",
    "an elephant",
    "a teddy bear",
    "a steam train",
    "a wooden chair",
    "a cup of coffee",
    "a bunch of bananas",
    "a red mushroom",
    "a jellyfish",
    "a penguin on ice",
    "a clock on a wall",
    "a pair of jeans",
    "a sports car",
    "a guitar",
    "a bridge over a river",
    "a desert with sand dunes",
    "a baby in a bath",
    "two children playing football",
    "a man climbing a rock",
    "a surfer on a wave",
    "a swimming pool",
    "a field of sunflowers",
    "a crowd at a concert",
    "a person riding a bicycle",
    "an old stone castle",
)
CROP, BLUR = 0.9, 0.008  # of the side


def fresh_view(image: Image.Image, number: int) -> Image.Image:
    """A crop of nine tenths, blurred mildly; another one for each picture."""
    draw = np.random.default_rng([77, number])
    width, height = (round(side * CROP) for side in image.size)
    left, top = (int(draw.integers(side - part + 1)) for side, part in zip(image.size, (width, height), strict=True))
    soft = image.filter(ImageFilter.GaussianBlur(min(image.size) * BLUR))
    return soft.crop((left, top, left + width, top + height))


def measured(model: Model, folder: Path, number: int, options: argparse.Namespace) -> dict[str, object]:
    """Guide one prompt, or read what an earlier run found."""
    name = f"{number:02}-{PROMPTS[number].replace(' ', '-')}"
    kept = folder / f"{name}.json"
    asked = {"steps": options.steps, "shapes": options.shapes, "seed": options.seed, "model": model.fingerprint}
    if kept.is_file() and (found := json.loads(kept.read_text()))["asked"] == asked:
        return found
    wall, cpu = time.perf_counter(), time.process_time()
    guided = guide(model, PROMPTS[number], steps=options.steps, shapes=options.shapes, seed=options.seed)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    guided.save(folder / f"{name}.png")
    if guided.svg is not None:
        guided.save(folder / f"{name}.svg")
    cosines = model.embed_texts(PROMPTS) @ model.embed_images(fresh_view(Image.open(folder / f"{name}.png"), number))[0]
    found = {
        "asked": asked,
        "prompt": PROMPTS[number],
        "picture": f"{name}.png",
        "rank": 1 + int((np.delete(cosines, number) >= cosines[number]).sum()),
        "first": PROMPTS[int(cosines.argmax())],
        "similarity": round(float(cosines[number]), 4),
        "before": round(guided.before.similarity, 4),
        "rank_among_sentences": guided.after.rank,
        "seconds": round(wall, 1),
        "cpu_seconds": round(cpu, 1),
    }
    write_json(kept, found)
    return found


def table(found: list[dict[str, object]]) -> str:
    """The ranks as Markdown, with what chance would give."""
    ranks, seconds = [int(str(each["rank"])) for each in found], [float(str(each["seconds"])) for each in found]
    lines = [
        "| prompt | rank of 50 | first | similarity | before | seconds | CPU |",
        "|---|---:|---|---:|---:|---:|---:|",
    ]
    for each in found:
        first = "" if each["rank"] == 1 else each["first"]
        lines.append(
            f"| {each['prompt']} | {each['rank']} | {first} | {each['similarity']:.3f} | {each['before']:.3f} "
            f"| {each['seconds']} | {each['cpu_seconds']} |"
        )
    firsts = sum(rank == 1 for rank in ranks)
    lines += [
        "",
        f"First: {firsts} of {len(ranks)} ({firsts / len(ranks):.0%}; chance {1 / len(PROMPTS):.0%}). "
        f"Seconds a picture: mean {np.mean(seconds):.1f}, longest {max(seconds):.1f}.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--shapes", type=int)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--prompts", type=int, default=20)
    parser.add_argument("--model")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    model = tandem.load(options.model, engine="openvino")
    found = []
    for number in range(options.prompts):
        found.append(measured(model, options.folder, number, options))
        print(f"{found[-1]['prompt']}: rank {found[-1]['rank']}, {found[-1]['seconds']} s", flush=True)
    write_json(options.folder / "results.json", found)
    write_text(options.folder / "table.md", table(found))
    cells = [
        plots.Cell(
            Image.open(options.folder / str(each["picture"])).convert("RGB"),
            str(each["prompt"]),
            f"rank {each['rank']} of {len(PROMPTS)}",
        )
        for each in found
    ]
    plots.draw_contact_sheet(cells, options.folder / "sheet.png", title=f"Guided by {model.name}")
    print(table(found))


if __name__ == "__main__":
    main()
