"""The figures of the model that ships (or of another): accuracy on seen classes, retrieval, with chance beside them.

    python bench/mini.py [--model FOLDER] [--split test|dev] [--data FOLDER]

`dev` is for choosing, `test` for the figure that is published, once a model is final.
"""

import argparse
from pathlib import Path

import tandem
from tandem.evaluate.tasks import retrieval, zero_shot
from tandem.prompts import ENSEMBLE
from tandem.samples import read_samples


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=None)
    parser.add_argument("--split", default="test", choices=("test", "dev"))
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    arguments = parser.parse_args()
    model = tandem.load(arguments.model)

    samples = read_samples(arguments.data / "tiny-imagenet/val.parquet", "names")
    classes = sorted({sample.texts[0] for sample in samples})
    labels = [classes.index(sample.texts[0]) for sample in samples]
    names = [name.split(",")[0] for name in classes]
    print(f"model {model.name}, fingerprint {model.fingerprint[:12]}\n")
    print("| what | figure | chance |\n|---|---|---|")
    for title, templates in (("one template", None), ("ensemble", ENSEMBLE)):
        shot = zero_shot(model, (sample.image for sample in samples), labels, names, templates)
        print(f"| Tiny-ImageNet val top-1, seen classes, {title} | {shot.top1:.1%} | {shot.chance:.1%} |")
        print(f"| Tiny-ImageNet val top-5, seen classes, {title} | {shot.top5:.1%} | {5 * shot.chance:.1%} |")

    samples = read_samples(arguments.data / f"flickr8k/{arguments.split}-00000.tar", "captions")
    found = retrieval(model, (sample.image for sample in samples), [sample.texts for sample in samples])
    for k, value in found.text_to_image.items():
        chance = f"{found.chance_text_to_image_10 * k / 10:.1%}"
        print(f"| Flickr8k {arguments.split} text-to-image recall@{k} | {value:.1%} | {chance} |")
    for k, value in found.image_to_text.items():
        print(f"| Flickr8k {arguments.split} image-to-text recall@{k} | {value:.1%} | about {k / found.images:.1%} |")


if __name__ == "__main__":
    main()
