"""What the scores of the model that ships mean: the shipped calibration on Flickr8k test, and on what people may type.

    python bench/relevance.py [--data ../shared/data] [--model M] [--write docs/benchmarks.md CARD]

Searches for something that is there, against the same searches with all that matches taken out, and with the query's
own picture alone taken out: area under the ROC curve of the best hit's relevance, and how far what is said of best hits
is from what is true. Where the first area is below 0.7, relevance is not shown. Then labels by themselves, and the best
hit of some queries among the test pictures. Nothing was fitted on these. --write puts all of it, as tables, between the
two marks that a page has for it.
"""

import argparse
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from marked_pages import Marks, check_pages, write_pages

import tandem
from tandem.model import Model
from tandem.scores.calibration_files import load_calibration
from tandem.scores.relevance import MIN_AREA, Calibration, number_of_words, score_stats
from tandem.search.calibration.calibrate import evaluate
from tandem.search.calibration.caption_set import CaptionSet, Sample, choose, embed, read_captioned

MARKS = Marks.of("bench/relevance.py")

# With what the captions of a picture must say for it to be right, as patterns; nothing where they cannot tell.
QUERIES = {
    "a dog": ("dog|pupp",),
    "a dog running on the grass": ("dog|pupp", "grass|field|lawn|yard"),
    "people at the beach": (
        r"beach|ocean|sea\b|shore|surf|wave|sand",
        "people|person|m[ae]n|girl|boy|child|kid|surfer|couple|someone|toddler",
    ),
    "a man on a bicycle": ("bike|bicy|cycl", r"\bm[ae]n|boy|guy|person|rider|bik|cyclist|people"),
    "snow": ("snow|ski|sled",),
    "two children playing": ("children|kids|boys|girls|toddlers|(boy|girl) and|two (young )?(boy|girl|kid)",),
    "a spaceship": ("spaceship",),
    "an x-ray of a lung": ("x-ray",),
    "a plate of sushi": ("sushi",),
    "asdf qwerty": ("asdf",),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = Path(os.environ.get("TANDEM_SHARED") or Path(__file__).resolve().parents[2] / "shared")
    parser.add_argument("--data", type=Path, default=shared / "data")
    parser.add_argument("--model")
    parser.add_argument("--write", nargs="+", type=Path, default=[], metavar="PAGE")
    arguments = parser.parse_args()
    try:
        check_pages(arguments.write, MARKS)
    except (OSError, ValueError) as error:
        raise SystemExit(f"relevance: {error}") from None
    model = tandem.load(arguments.model)
    calibration = load_calibration(model)
    if calibration is None:
        raise SystemExit(f"{model.name} is not calibrated: see tandem calibrate --help")
    samples = choose(read_captioned([arguments.data / "flickr8k/test-00000.tar"]))
    captions, failures = embed(model, samples)
    if failures:
        raise SystemExit(f"{len(failures)} pictures cannot be read")
    figures = evaluate(calibration, captions)
    print(f"{model.name} on {figures['images']:,} pictures of Flickr8k test\n")
    print_figures(figures)
    typed = answers(model, calibration, captions, samples)
    print_answers(typed, calibration.threshold)
    write_pages(arguments.write, MARKS, tables(figures, typed))


def print_figures(figures: dict[str, Any]) -> None:
    """Searches by kind of query and number of images, and labels by themselves."""
    for name, part in figures["queries"].items():
        print(f"{name} ({part['count']:,}): area of cosines, matched against mismatched pairs {part['pairs_auc']:.3f}")
        for size, found in part["collections"].items():
            print(f"  among {int(size):,}:")
            show(found)
        print("  reliability of best hits (said: true, hits): " + "; ".join(bins(found)) + "\n")
    if labels := figures.get("labels"):
        print(f"labels by themselves ({labels['count']:,}), one in five true: area {labels['auc']:.3f}")
        print(f"  of cosines alone {labels['pairs_auc']:.3f}; calibration error {labels['ece']:.3f}")
        print(
            f"  above 50%: {labels['true_above_half']:.1%} of the true, {labels['false_above_half']:.1%} of the false\n"
        )


def print_answers(typed: Sequence["Typed"], threshold: float) -> None:
    """A line for each query."""
    print("queries as people type them, among the test pictures; right: as the captions tell, of the ten best hits")
    for answer in typed:
        judged = "nothing matches well" if answer.best < threshold else ""
        print(
            f"  {answer.query:28s} best {answer.best:6.1%}, mean of ten {answer.mean:6.1%}, right {answer.right:4.0%}  "
            f"{judged}"
        )


class Typed(NamedTuple):
    """A query, what is stated of its best hit and of the ten best, and the share of those whose captions say so."""

    query: str
    best: float
    mean: float
    right: float


def answers(model: Model, calibration: Calibration, captions: CaptionSet, samples: Sequence[Sample]) -> list[Typed]:
    """The ten best hits for each of `QUERIES`."""
    vectors = model.embed_texts(list(QUERIES))
    scores = vectors @ captions.image_vectors.T
    best = np.argsort(-scores, axis=1)[:, :10]
    stated = calibration.probability(
        "text",
        np.take_along_axis(scores, best, 1),
        score_stats(vectors, captions.image_vectors, len(captions)),
        vectors,
        [number_of_words(query) for query in QUERIES],
    )
    found = []
    for (query, patterns), hits, relevance in zip(QUERIES.items(), best, stated, strict=True):
        said = [" ".join(samples[hit].texts).lower() for hit in hits]
        right = np.mean([all(re.search(pattern, text) for pattern in patterns) for text in said])
        found.append(Typed(query, float(relevance[0]), float(relevance.mean()), float(right)))
    return found


def tables(figures: dict[str, Any], typed: Sequence[Typed]) -> list[str]:
    """Markdown: searches by kind of query and number of images, labels by themselves, and what people may type."""
    lines = [
        "| query | images | best hit is its own | area | shown | own removed | stated | true | error | stated, a fifth "
        "without a match | true | error |",
        "|" + "---|" * 12,
    ]
    for name, part in figures["queries"].items():
        for size, found in part["collections"].items():
            area = found["auc_present_emptied"]
            cells = [
                name,
                f"{int(size):,}",
                f"{found['best_is_own']:.1%}",
                f"{area:.3f}",
                "yes" if area >= MIN_AREA else "no",
                f"{found['auc_present_removed']:.3f} ({(1 + found['best_is_own']) / 2:.2f})",
                f"{found['mean_probability_best']:.1%}",
                f"{found['match_rate_best']:.1%}",
                f"{found['ece_best']:.3f} ({found['ece_of_half']:.3f})",
                f"{found['mean_probability_prior']:.1%}",
                f"{found['match_rate_prior']:.1%}",
                f"{found['ece_prior']:.3f}",
            ]
            lines.append(f"| {' | '.join(cells)} |")
    areas = ", ".join(f"{name} {part['pairs_auc']:.2f}" for name, part in figures["queries"].items())
    lines += ["", f"Matching and non-matching pairs, area of the cosines: {areas}."]
    if labels := figures.get("labels"):
        lines += [
            "",
            f"Labels by themselves ({labels['count']:,} of one to three words, one in five true of an image): area "
            f"{labels['auc']:.3f}, of the cosines alone {labels['pairs_auc']:.3f}; error {labels['ece']:.3f}; stated "
            f"above 50% are {labels['true_above_half']:.1%} of the true and {labels['false_above_half']:.1%} of the "
            "false ones.",
        ]
    lines += ["", "| what people may type | stated for the best | mean of ten | correct |", "|---|---|---|---|"]
    lines += [f"| {each.query} | {each.best:.1%} | {each.mean:.1%} | {each.right:.0%} |" for each in typed]
    return lines


def show(found: dict[str, Any]) -> None:
    """The figures of collections of one size, chance beside them."""
    # Where the best hit is not the query's own picture, taking that out changes nothing: no score could tell.
    ceiling = (1 + found["best_is_own"]) / 2
    usual = (
        f"said {found['mean_probability_prior']:.1%}, true {found['match_rate_prior']:.1%}; "
        f"calibration error {found['ece_prior']:.3f}"
    )
    areas = (found["auc_present_removed"], found["auc_present_emptied"], found["auc_best_matches"])
    print(
        f"    best hit is its own picture {found['best_is_own']:.1%}, matches {found['best_matches']:.1%}\n"
        f"    area present/emptied {areas[1]:.3f}; present/removed {areas[0]:.3f} (at most about {ceiling:.3f}); "
        f"best hits that match/do not {areas[2] or float('nan'):.3f}\n"
        f"    best hits, a fifth of the searches with no match present: {usual}\n"
        f"    best hits, half of them with no match present: said {found['mean_probability_best']:.1%}, "
        f"true {found['match_rate_best']:.1%}; "
        f"calibration error {found['ece_best']:.3f} (own picture alone {found['ece_best_strict']:.3f}, all shown "
        f"{found['ece_shown']:.3f}; saying 0.5 always {found['ece_of_half']:.3f})\n"
        f'    "nothing matches well": present {found["no_match_said_present"]:.1%}, present and shown '
        f"{found['no_match_said_found']:.1%}, removed {found['no_match_said_removed']:.1%}"
    )


def bins(found: dict[str, Any]) -> list[str]:
    """The rows of the reliability table."""
    return [
        f"{row['mean_probability']:.2f}: {row['match_rate']:.2f}, {row['hits']:,.0f}"
        for row in found["reliability_best"]
    ]


if __name__ == "__main__":
    main()
