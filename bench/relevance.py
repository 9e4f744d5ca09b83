"""What the scores of the model that ships mean: the shipped fit on Flickr8k test, and on what people may type.

    python bench/relevance.py [--data ../shared/data] [--model M]

Searches for something that is there, against the same searches with the query's own picture taken out: area under the
ROC curve of the best hit's relevance, and how far what is said of best hits is from what is true. Then the best hit of
some queries among the test pictures. Nothing was fitted on these.
"""

import argparse
import os
from pathlib import Path
from typing import Any

import numpy as np

import tandem
from tandem.search.calibration.calibrate import load_fit
from tandem.search.calibration.caption_set import choose, embed, read_captioned
from tandem.search.calibration.reliability import report
from tandem.search.relevance import background

QUERIES = (
    *("a black dog", "a dog", "a brown dog running through green grass", "a man on a bicycle", "snow", "a beach"),
    *("a spaceship", "an x-ray", "a receipt", "a plate of sushi", "asdf qwerty", "qwxz jjkl vvb"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = Path(os.environ.get("TANDEM_SHARED") or Path(__file__).resolve().parents[2] / "shared")
    parser.add_argument("--data", type=Path, default=shared / "data")
    parser.add_argument("--model")
    arguments = parser.parse_args()
    model = tandem.load(arguments.model)
    fit = load_fit(model)
    if fit is None:
        raise SystemExit(f"{model.name} is not calibrated: see tandem calibrate --help")
    captions, _ = embed(model, choose(read_captioned([arguments.data / "flickr8k/test-00000.tar"])))
    figures = report(fit, captions)
    print(f"{model.name} on {figures['pictures']:,} pictures of Flickr8k test\n")
    for name, part in figures["queries"].items():
        print(f"{name} ({part['count']:,}): area of cosines, matched against mismatched pairs {part['pairs_area']:.3f}")
        for size, found in part["collections"].items():
            print(f"  among {int(size):,}:")
            show(found)
        print("  reliability of best hits (said: true, hits): " + "; ".join(bins(found)) + "\n")
    print("what is said of the best hit of the test pictures:")
    vectors = model.embed_texts(QUERIES)
    scores = np.sort(vectors @ captions.pictures.T, axis=1)[:, :-2:-1]
    told = fit.probability("words", scores, background(vectors, captions.pictures, len(captions)))
    for query, score, relevance in zip(QUERIES, scores[:, 0], told[:, 0], strict=True):
        judged = "nothing matches well" if relevance < fit.threshold else ""
        print(f"  {query:42s} cosine {score:.3f}  relevance {relevance:6.1%}  {judged}")


def show(found: dict[str, Any]) -> None:
    """The figures of collections of one size, chance beside them."""
    # Where the best hit is not the query's own picture, taking that out changes nothing: no score could tell.
    ceiling = (1 + found["best_is_own"]) / 2
    areas = (found["area_present_removed"], found["area_present_emptied"], found["area_best_matches"])
    print(
        f"    best hit is its own picture {found['best_is_own']:.1%}, matches {found['best_matches']:.1%}\n"
        f"    area present/removed {areas[0]:.3f} (chance 0.5, at most about {ceiling:.3f}); present/emptied "
        f"{areas[1]:.3f}; best hits that match/do not {areas[2] or float('nan'):.3f}\n"
        f"    best hits: said {found['said_best']:.1%}, true {found['true_best']:.1%}; calibration error "
        f"{found['error_best']:.3f} (own picture alone {found['error_best_strict']:.3f}, all shown "
        f"{found['error_shown']:.3f}; saying 0.5 always {found['error_of_half']:.3f})\n"
        f'    "nothing matches well": present {found["nothing_said_present"]:.1%}, present and shown '
        f"{found['nothing_said_found']:.1%}, removed {found['nothing_said_removed']:.1%}"
    )


def bins(found: dict[str, Any]) -> list[str]:
    """The rows of the reliability table."""
    return [f"{row['said']:.2f}: {row['true']:.2f}, {row['hits']:,}" for row in found["reliability_best"]]


if __name__ == "__main__":
    main()
