"""The figures of the model that ships (or of another), and with --card into its model card.

    python bench/mini.py [--model FOLDER] [--split test|dev] [--data FOLDER] [--out RUN] [--card]
    python bench/mini.py --table [--model A B ...] [--split dev|test] [--speed] [--write docs/benchmarks.md]

`dev` is for choosing, `test` for the figure that is published, once a model is final. The data sets were listed here
before any of them was measured. The model is trained on sources of `broad`: of these only the pictures are measured
that the recipe keeps from training (--recipe). The first edition, which had seen none, was measured on whole sources.

--table: what an edition must show, several models side by side; `bench/mini_table/` measures each row, and
docs/benchmarks.md says how. --speed adds what only an idle machine can tell; --write puts the table between the two
marks that a page has for it.
"""

import argparse
import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

from comparison.sides import hold_to
from marked_pages import Marks, check_pages, write_pages

import tandem
from tandem.cli.evaluation_tables import print_results
from tandem.datasets import Dataset, open_dataset
from tandem.errors import TandemError
from tandem.evaluate import evaluate
from tandem.evaluate.report.card import write_card
from tandem.model import SHIPPED

# Labelled sources of `broad` that the card shows: their file, and what the recipe asks of the column `source`.
SOURCES = {
    "Food-101, 101 dishes": ("food", "genai_food101"),
    "AID, 30 kinds of places from above": ("scenes", "testtensor"),
    "Intel, 6 kinds of scenes": ("scenes", "Image_Classification"),
    "22 kinds of animals": ("nature", "popular-animals"),
    "22 sports": ("people", "Sports-Type"),
    "10 professions": ("people", "Profession"),
}
KEPT = "classes seen, pictures not"  # what a figure on the kept part of a source is about
ROOT = Path(__file__).resolve().parents[1]
RECIPE = ROOT / "recipes" / "mini-fourth.toml"  # says which pictures of `broad` are kept
MARKS = Marks.of("bench/mini.py", "--table")


def datasets(data: Path, split: str, recipe: Path = RECIPE) -> list[Dataset]:
    """What is measured, under the names that the card shows. Of a source of `broad` only what the recipe keeps from
    training, among all of the source's classes."""
    from mini_table import held_out

    kept = {(Path(str(each.path)).stem, each.where.get("source")): each for each in held_out.labelled_sources(recipe)}
    if missing := [name for name, place in SOURCES.items() if place not in kept]:
        raise SystemExit(f"{recipe}: expected hold_out for each source of the card, found none for {missing[0]}")
    seen = open_dataset(data / "tiny-imagenet/val.parquet")
    parts = [
        _named(f"{name}, {KEPT}", held_out.kept_part(dataset, kept[place], data))
        for (name, place), dataset in zip(SOURCES.items(), whole_sources(data), strict=True)
    ]
    return [_named("Tiny-ImageNet val, 200 seen classes", seen), *parts, captioned(data, split)]


def whole_sources(data: Path) -> list[Dataset]:
    """All pictures of the same sources, most of which were trained on: to compare a model with itself, as quantised."""
    return [
        _named(name, open_dataset(data / f"broad/{file}.parquet", label="label", where=f"source like '%{source}%'"))
        for name, (file, source) in SOURCES.items()
    ]


def captioned(data: Path, split: str) -> Dataset:
    return _named(f"Flickr8k {split}", open_dataset(data / f"flickr8k/{split}-00000.tar"))


def _named(name: str, dataset: Dataset) -> Dataset:
    return dataclasses.replace(dataset, name=name)


def column_names(models: Sequence[str]) -> list[str]:
    """A short name for each: the last folder of its path, or as much of the path as tells all apart."""
    parts = [Path(model).parts for model in models]
    for depth in range(1, max(map(len, parts))):
        names = ["/".join(each[-depth:]) for each in parts]
        if len(set(names)) == len(names):
            return names
    return list(models)


def print_table(arguments: argparse.Namespace) -> None:
    from mini_table import held_out
    from mini_table.details import details
    from mini_table.measuring import measure
    from mini_table.rows import main_table

    if arguments.write and arguments.split != "test":
        raise SystemExit("--write: what is published is measured on test; add --split test")
    pages = [arguments.write] if arguments.write else []
    check_pages(pages, MARKS)
    kept = held_out.read_kept(held_out.labelled_sources(arguments.recipe), arguments.data)
    folders: list[str | None] = arguments.model or [None]
    names = column_names([folder or SHIPPED.name for folder in folders])
    found = {
        name: measure(folder, arguments.data, arguments.split, kept, speeds=arguments.speed)
        for name, folder in zip(names, folders, strict=True)
    }
    figures = {name: each.figures for name, each in found.items()}
    main_lines = main_table(figures, arguments.split)
    print("\n".join([*main_lines, "", *details(found, kept)]))
    write_pages(pages, MARKS, main_lines)


def print_figures(arguments: argparse.Namespace) -> None:
    source = arguments.model[0] if arguments.model else None
    model = tandem.load(source)
    report = evaluate(model, datasets(arguments.data, arguments.split, arguments.recipe))
    print(f"model {model.name}, fingerprint {model.fingerprint[:12]}\n")
    print_results(report.results)
    if arguments.out:
        report.save(arguments.out)
    if arguments.card:
        folder = SHIPPED if source is None else Path(source)
        print(f"\nwrote {write_card(report, folder / 'README.md')}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", nargs="+", metavar="FOLDER", help="default: the model that ships")
    parser.add_argument("--split", choices=("test", "dev"), help="default: test, and dev with --table")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, help="a folder for the run's report")
    parser.add_argument("--card", action="store_true", help="write the figures into the model's card")
    parser.add_argument("--table", action="store_true", help="compare models, row by row")
    parser.add_argument("--recipe", type=Path, default=RECIPE, help="says which pictures are kept from training")
    parser.add_argument("--speed", action="store_true", help="with --table: rows of time, on an idle machine")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="with --table: put the table into this page")
    arguments = parser.parse_args()
    arguments.split = arguments.split or ("dev" if arguments.table else "test")
    if not arguments.data.is_dir():
        parser.error(f"--data: no folder {arguments.data}")
    if arguments.table and (arguments.out or arguments.card):
        parser.error("--out and --card do not go with --table")
    if not arguments.table and (arguments.speed or arguments.write or len(arguments.model or []) > 1):
        parser.error("--speed, --write and several models are for --table")
    if arguments.speed:
        hold_to(min(2, len(os.sched_getaffinity(0))))
    try:
        (print_table if arguments.table else print_figures)(arguments)
    except (TandemError, OSError, ValueError) as error:
        raise SystemExit(f"mini: {error}") from None
    except KeyboardInterrupt:
        raise SystemExit("\nmini: stopped") from None


if __name__ == "__main__":
    main()
