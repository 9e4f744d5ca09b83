"""The figures of the model that ships (or of another), and with --card into its model card.

    python bench/mini.py [--model FOLDER] [--split test|dev] [--data FOLDER] [--out RUN] [--card]

`dev` is for choosing, `test` for the figure that is published, once a model is final. The data sets were listed here
before any of them was measured.
"""

import argparse
import dataclasses
from pathlib import Path

import tandem
from tandem.cli.evaluation_tables import print_results
from tandem.datasets import Dataset, open_dataset
from tandem.evaluate import evaluate
from tandem.evaluate.report.card import write_card
from tandem.model import SHIPPED

# Sources of `broad` with labels: none of their images was trained on. By what their column `source` has in it.
UNSEEN = {
    "Food-101, 101 dishes": ("food", "Gandolier/genai_food101_repo"),
    "AID, 30 kinds of places from above": ("scenes", "zlima/testtensor"),
    "Intel, 6 kinds of scenes": ("scenes", "yadavaditya13/Image_Classification_Using_Deep_Learning"),
    "22 kinds of animals": ("nature", "InputBlackBoxOutput/popular-animals-dataset"),
    "22 sports": ("people", "jurjsorinliviu/Sports-Type-Classifier"),
    "10 professions": ("people", "ninja3697/Profession-Detection-System"),
}


def datasets(data: Path, split: str) -> list[Dataset]:
    """What is measured, under the names that the card shows."""
    seen = open_dataset(data / "tiny-imagenet/val.parquet")
    named = {"Tiny-ImageNet val, 200 seen classes": seen}
    for name, (file, source) in UNSEEN.items():
        named[name] = open_dataset(data / f"broad/{file}.parquet", label="label", where=f"source like '%{source}%'")
    named[f"Flickr8k {split}"] = open_dataset(data / f"flickr8k/{split}-00000.tar")
    return [dataclasses.replace(dataset, name=name) for name, dataset in named.items()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=None)
    parser.add_argument("--split", default="test", choices=("test", "dev"))
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, help="a folder for the run's report")
    parser.add_argument("--card", action="store_true", help="write the figures into the model's card")
    arguments = parser.parse_args()
    model = tandem.load(arguments.model)
    report = evaluate(model, datasets(arguments.data, arguments.split))
    print(f"model {model.name}, fingerprint {model.fingerprint[:12]}\n")
    print_results(report.results)
    if arguments.out:
        report.save(arguments.out)
    if arguments.card:
        folder = SHIPPED if arguments.model is None else Path(arguments.model)
        print(f"\nwrote {write_card(report, folder / 'README.md')}")


if __name__ == "__main__":
    main()
