"""What the scores of the model that ships mean: the shipped calibration on Flickr8k test, and on what people may type.

    python bench/relevance.py [--data ../shared/data] [--model M]

Searches for something that is there, against the same searches with all that matches taken out, and with the query's
own picture alone taken out: area under the ROC curve of the best hit's relevance, and how far what is said of best hits
is from what is true. Where the first area is below 0.7, relevance is not shown. Then labels by themselves, and the best
hit of some queries among the test pictures. Nothing was fitted on these.
"""

import argparse
import os
import re
from pathlib import Path
from typing import Any

import numpy as np

import tandem
from tandem.scores.calibration_files import load_calibration
from tandem.scores.relevance import number_of_words, score_stats
from tandem.search.calibration.calibrate import evaluate
from tandem.search.calibration.caption_set import choose, embed, read_captioned

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
    arguments = parser.parse_args()
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
    print("queries as people type them, among the test pictures; right: as the captions tell, of the ten best hits")
    vectors = model.embed_texts(list(QUERIES))
    scores = vectors @ captions.image_vectors.T
    best = np.argsort(-scores, axis=1)[:, :10]
    told = calibration.probability(
        "text",
        np.take_along_axis(scores, best, 1),
        score_stats(vectors, captions.image_vectors, len(captions)),
        vectors,
        [number_of_words(query) for query in QUERIES],
    )
    for (query, patterns), hits, relevance in zip(QUERIES.items(), best, told, strict=True):
        said = [" ".join(samples[hit].texts).lower() for hit in hits]
        right = np.mean([all(re.search(pattern, text) for pattern in patterns) for text in said])
        judged = "nothing matches well" if relevance[0] < calibration.threshold else ""
        print(
            f"  {query:28s} best {relevance[0]:6.1%}, mean of ten {relevance.mean():6.1%}, right {right:4.0%}  {judged}"
        )


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
