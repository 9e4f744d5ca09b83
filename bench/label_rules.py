"""Which labels a calibration learns from: rules compared on Flickr8k dev alone, by fits on halves of its images.

    python bench/label_rules.py [--data ../shared/data] [--model M] [--seeds 10]

Every fit is measured on the labels of every rule in the other half, both ways: a rule chooses the labels that are asked
about as well as those that are learnt from, and an area on other labels is another question, not a better fit. How far
captions can answer the question needs no model: of the captions that say a label, the share whose image has no other
caption that says it. Where that is high, "not said" does not mean "not shown".
"""

import argparse
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

import tandem
from tandem.prompts import fill, read_vocabulary
from tandem.scores.scoring import LabelCoefficients
from tandem.search.calibration import agreement
from tandem.search.calibration.calibrate import auc
from tandem.search.calibration.caption_set import CaptionSet, choose, embed, read_captioned
from tandem.search.calibration.label_fitting import fit_labels, label_counts
from tandem.search.calibration.trials import LabelledQueries

# The least agreement of the words that a label begins and ends with, and whether it must be in the English vocabulary.
RULES = {
    "all runs": (0.0, False),
    "agreement 0.3": (0.3, False),
    "agreement 0.4": (0.4, False),
    "agreement 0.5": (0.5, False),
    "vocabulary": (0.0, True),
    "vocabulary, 0.4": (0.4, True),
}
Labels: TypeAlias = tuple[list[str], NDArray[np.intp]]


def by_rule(captions: CaptionSet, rule: str, vocabulary: set[str]) -> Labels:
    """The labels of a rule, and an image of each."""
    least, listed = RULES[rule]
    written = ~captions.is_phrase
    texts = [captions.texts[row] for row in np.flatnonzero(written)]
    owners = captions.owner[written]
    found, owner = agreement.labels(texts, owners, len(captions))
    used = agreement.usage([agreement._stems(text) for text in texts], owners, len(captions))
    kept = [
        row
        for row, label in enumerate(found)
        if all(used.agreement[agreement._stem(word)] >= least for word in (label.split()[0], label.split()[-1]))
        and (not listed or label in vocabulary)
    ]
    return [found[row] for row in kept], owner[kept]


def unconfirmed(captions: CaptionSet, found: list[str]) -> float:
    """Of the captions that say a label, the share whose image has no other that says it; the mean over labels."""
    said: list[list[set[str]]] = [[] for _ in range(len(captions))]
    for text, own, phrase in zip(captions.texts, captions.owner, captions.is_phrase, strict=True):
        if not phrase:
            said[own].append(agreement._stems(text))
    shares = []
    for label in found:
        stems = agreement._stems(label)
        times = np.array([sum(stems <= each for each in image) for image in said])
        shares.append(float((times == 1).sum() / times.sum()))
    return float(np.mean(shares))


def known(captions: CaptionSet, chosen: Labels, vectors: dict[str, NDArray[np.float32]]) -> LabelledQueries:
    """The labels' cosines and the images that they are true of."""
    found, owner = chosen
    labelled = CaptionSet(
        captions.image_vectors,
        captions.view_vectors,
        captions.text_vectors,
        captions.owner,
        captions.is_phrase,
        captions.texts,
        captions.out_of_domain,
        captions.out_of_domain_texts,
        np.stack([vectors[label] for label in found]),
        owner,
        tuple(found),
    )
    return labelled.known()["label"]


def measure(fitted: LabelCoefficients, labels: LabelledQueries) -> tuple[float, float]:
    """The area of true against false labels, and the log-loss of their probabilities."""
    counts, true = label_counts(labels.matches), labels.matches
    probability = fitted.scoring(labels.queries).probabilities(labels.scores.T).T.astype(np.float64)
    area = auc(probability[true], probability[~true], counts[true], counts[~true])
    assert area is not None
    return area, float(np.average(-np.log(np.where(true, probability, 1 - probability)), weights=counts))


def halves(captions: CaptionSet, seeds: int) -> Iterator[tuple[CaptionSet, CaptionSet]]:
    for seed in range(seeds):
        one, other = captions.halves(seed)
        yield one, other
        yield other, one


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = Path(os.environ.get("TANDEM_SHARED") or Path(__file__).resolve().parents[2] / "shared")
    parser.add_argument("--data", type=Path, default=shared / "data")
    parser.add_argument("--model")
    parser.add_argument("--seeds", type=int, default=10)
    arguments = parser.parse_args()
    model = tandem.load(arguments.model)
    captions, failures = embed(model, choose(read_captioned([arguments.data / "flickr8k/dev-00000.tar"])))
    if failures:
        raise SystemExit(f"{len(failures)} pictures cannot be read")
    vocabulary = set(read_vocabulary())
    splits = list(halves(captions, arguments.seeds))
    chosen = {(id(part), rule): by_rule(part, rule, vocabulary) for part, _ in splits for rule in RULES}
    every = sorted({label for found, _ in chosen.values() for label in found})
    prompts = [prompt for label in every for prompt in fill(label)]
    vectors = dict(zip(every, model.embed_texts(prompts, truncate=True), strict=True))
    answers = {(id(part), rule): known(part, chosen[id(part), rule], vectors) for part, _ in splits for rule in RULES}

    areas = np.zeros((len(splits), len(RULES), len(RULES)))
    losses = np.zeros_like(areas)
    for split, (one, other) in enumerate(splits):
        for row, rule in enumerate(RULES):
            fitted = fit_labels(answers[id(one), rule], one.image_vectors.mean(axis=0))
            assert fitted is not None
            for column, asked in enumerate(RULES):
                areas[split, row, column], losses[split, row, column] = measure(fitted, answers[id(other), asked])

    print(f"{model.name}, {len(captions):,} pictures of Flickr8k dev, {len(splits)} fits on a half of them")
    for rule in RULES:
        found, _ = by_rule(captions, rule, vocabulary)
        own = areas[:, list(RULES).index(rule), list(RULES).index(rule)]
        of_half = np.mean([len(chosen[id(part), rule][0]) for part, _ in splits])
        print(
            f"{rule:16s} {len(found):4} labels ({of_half:.0f} of a half), "
            f"unconfirmed {unconfirmed(captions, found):.3f}; area on its own labels "
            f"{own.mean():.4f} (deviation {own.std():.4f}, least {own.min():.4f})"
        )
    for name, figures in (("area", areas.mean(0)), ("log-loss", losses.mean(0))):
        print(f"\n{name}, a row for the fit, a column for the labels it is measured on: {', '.join(RULES)}")
        for rule, values in zip(RULES, figures, strict=True):
            print(f"  {rule:16s} {' '.join(f'{value:.4f}' for value in values)}")


if __name__ == "__main__":
    main()
