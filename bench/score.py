"""`score` beside the encoder: CLIPScore of pictures with a prompt each, and how fast the same pictures are embedded.

    python bench/score.py [--count 1000] [--rounds 11] [--model M] [--folder F] [--one-prompt]

JPEGs of 256 x 256 with noise and shapes, read from a folder and decoded by both sides, with the same model. Sides
alternate (`alternating.py`). Three of them: `embed_images` (pictures alone), `clip_score` of the same pictures,
and `embed_images` with `embed_texts` (what the encoder itself needs for both). A prompt is a sentence of its own for
each picture; with --one-prompt the same for all, which is encoded once.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from alternating import alternate, table
from PIL import Image
from reference import load_note, machine

import tandem
from tandem.clip_score import clip_score

WORDS = ("red", "small", "old", "wooden", "quiet", "bright", "round", "cold")
THINGS = ("ball", "house", "dog", "boat", "tree", "chair", "bird", "street")


def pictures(folder: Path, count: int) -> list[Path]:
    """JPEGs that are not all alike; made once."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{i:05}.jpg" for i in range(count)]
    for i, path in enumerate(paths):
        if not path.exists():
            small = np.random.default_rng(i).integers(0, 256, (24, 24, 3), dtype=np.uint8)
            Image.fromarray(small).resize((256, 256), Image.Resampling.BICUBIC).save(path, quality=90)
    return paths


def prompts(count: int) -> list[str]:
    """Different sentences of ten to fifteen words."""
    return [
        f"a {WORDS[i % 8]} {THINGS[i // 8 % 8]} beside a {WORDS[i // 64 % 8]} {THINGS[(i + 3) % 8]} on day {i}"
        for i in range(count)
    ]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--model")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--one-prompt", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        images = pictures(arguments.folder or Path(temporary), arguments.count)
        texts = ["a red ball"] * arguments.count if arguments.one_prompt else prompts(arguments.count)
        model = tandem.load(arguments.model)
        print(f"{machine()}; {load_note()}; {model.name}, {arguments.count} pictures")
        _ = model.fingerprint, model.embed_images(images[:64]), model.embed_texts(texts[:64])
        sides: dict[str, Callable[[], object]] = {
            "embed_images": lambda: model.embed_images(images, progress=False),
            "clip_score": lambda: clip_score(model, images, texts, progress=False),
            "embed_images, then embed_texts": lambda: (
                model.embed_images(images, progress=False),
                model.embed_texts(list(dict.fromkeys(texts))),
            ),
        }
        print(table(alternate(sides, arguments.rounds), arguments.count))


if __name__ == "__main__":
    main()
