"""Heads on frozen vectors: the linear probe's sweep against scikit-learn, `learn` from vectors, and tandem-mini with 16
shots of data sets.

    python bench/heads.py probe [--images 10000] [--width 512] [--classes 200]
    python bench/heads.py learn [--shots 16] [--classes 100] [--width 512]
    python bench/heads.py mini DATA... [--held-out 0.4] [--model FOLDER]
        each one a data set that `tandem evaluate` reads, or FILE.parquet#PART_OF_ITS_SOURCE

`probe`: vectors with class structure, a decaying spectrum and a common part, as CLIP's have. Both sides fit the same
C's on the same images, at most 1,000 iterations each, choose by the same held-out images, fit again on all, and are
measured on 10,000 others; scikit-learn's loop fits each C by itself. It gets float32, as we do.
`learn`: the head, its left-out figures with intervals, and zero-shot beside it, from vectors to the end.
`mini`: a share of every class is measured on, the rest is learnt from. docs/benchmarks.md has it of tandem-mini's first
edition, which was not trained on those data; the one that ships now was: its figures say how well they were learnt.
"""

import argparse
import time
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import tandem
from tandem.datasets.dataset import Dataset
from tandem.datasets.opening import open_dataset
from tandem.evaluate.features import Features, embed_dataset
from tandem.evaluate.few_shot import few_shot
from tandem.evaluate.learning import learn
from tandem.evaluate.splits import hold_out
from tandem.heads.logistic import ITERATIONS
from tandem.heads.sweep import held_out_fourth, sweep
from tandem.model import Model

UNSEEN = 10_000
Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]


def clip_like(images: int, classes: int, width: int, seed: int = 0) -> Arrays:
    """Vectors, labels and class vectors: classes that a linear probe tells apart four times out of five."""
    draw = np.random.default_rng(seed)
    turned = np.linalg.qr(draw.standard_normal((width, width)))[0]

    spectrum = np.arange(1, width + 1) ** -0.5
    spectrum /= np.linalg.norm(spectrum)
    classes_differ = np.arange(width) < width // 8  # in an eighth of the directions in which images do

    def rows(count: int) -> np.ndarray:
        return draw.standard_normal((count, width)) * spectrum

    centres, labels = rows(classes) * classes_differ, np.arange(images) % classes
    vectors = 2 * rows(1) + centres[labels] + 2 * rows(images)
    texts = 2 * rows(1) + centres + 0.7 * rows(classes)
    return _unit(vectors @ turned), labels, _unit(texts @ turned)


def _unit(rows: np.ndarray) -> np.ndarray:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


def probe(images: int, width: int, classes: int, tolerance: float) -> None:
    from sklearn.linear_model import LogisticRegression

    vectors, labels, _ = clip_like(images + UNSEEN, classes, width)
    unseen, truth, vectors, labels = vectors[images:], labels[images:], vectors[:images], labels[:images]
    held_out = held_out_fourth(labels, seed=0)
    start = time.perf_counter()
    ours = sweep(vectors, labels, classes, held_out)
    seconds = time.perf_counter() - start
    accuracy = float((ours.fit.logits(unseen).argmax(axis=1) == truth).mean())
    print(f"ours: {seconds:.1f} s, C = {ours.best.c:.3g}, accuracy {accuracy:.2%}", flush=True)

    warnings.simplefilter("ignore")
    scaled = np.float32(np.sqrt(width)) * vectors
    print("| C | held out, ours | scikit-learn | iterations, ours | scikit-learn | seconds, scikit-learn |")
    print("|---|---|---|---|---|---|")
    total, best = 0.0, (-1.0, 0.0)
    for point in ours.points:
        start = time.perf_counter()
        fit = LogisticRegression(C=point.c, max_iter=ITERATIONS, tol=tolerance).fit(
            scaled[~held_out], labels[~held_out]
        )
        right = float(fit.score(scaled[held_out], labels[held_out]))
        spent = time.perf_counter() - start
        total += spent
        best = max(best, (right, -point.c))
        both = f"{point.accuracy:.2%} | {right:.2%} | {point.iterations} | {fit.n_iter_[0]}"
        print(f"| {point.c:.3g} | {both} | {spent:.1f} |", flush=True)
    start = time.perf_counter()
    fit = LogisticRegression(C=-best[1], max_iter=ITERATIONS, tol=tolerance).fit(scaled, labels)
    total += time.perf_counter() - start
    theirs = float(fit.score(np.float32(np.sqrt(width)) * unseen, truth))
    print(f"scikit-learn: {total:.1f} s, C = {-best[1]:.3g}, accuracy {theirs:.2%}")
    print(f"{total / seconds:.1f}x; accuracy differs by {100 * abs(accuracy - theirs):.2f} points")


class _GivenTexts(Model):
    """A model whose class vectors are given: what `learn` asks of one, without images and texts."""

    name, fingerprint, logit_scale = "given", "0" * 64, 100.0  # type: ignore[assignment]

    def __init__(self, texts: np.ndarray) -> None:
        self.checkpoint = tandem.load("tandem-mini").checkpoint
        self.texts = texts

    def class_vectors(self, *labels: Any, **settings: Any) -> np.ndarray:
        return self.texts


def learning(shots: int, classes: int, width: int) -> None:
    vectors, labels, texts = clip_like(shots * classes, classes, width)
    names = tuple(f"class {each}" for each in range(classes))
    keys = tuple(f"{each}.jpg" for each in range(len(labels)))
    digests = tuple(each.to_bytes(32, "big") for each in range(len(labels)))
    label_sets = tuple((int(label),) for label in labels)
    dataset = Dataset("made", "made", "folder", None, keys, digests, lambda places: [], names, label_sets)
    given: Any = _GivenTexts(texts)
    for method in ("auto", "clap", "gda"):
        start = time.perf_counter()
        found = learn(given, Features(dataset, vectors, "given", given.fingerprint), method=method)
        seconds = time.perf_counter() - start
        figure, zero = found.figures["accuracy"], found.figures["zero_shot"]
        print(
            f"{method} ({found.head.method}, {found.scheme}): {seconds:.2f} s, {figure.value:.1%} "
            f"({figure.low:.1%} to {figure.high:.1%}), zero-shot {zero.value:.1%}"
        )


def mini(sources: Sequence[str], held_out: float, source_of_model: str) -> None:
    model = tandem.load(source_of_model)
    for source in sources:
        dataset = _opened(source)
        data = embed_dataset(model, dataset)
        learnt, measured = hold_out(dataset.labels, held_out, seed=0)
        found = few_shot(model, data.take(learnt), data.take(measured))
        print(f"\n{source}: {len(dataset.classes)} classes, {len(learnt)} to learn from, {len(measured)} measured")
        print("| method | shots | accuracy | 95% interval | gain | 95% interval |\n|---|---|---|---|---|---|")
        for row in found.tables["few_shot"]:
            gain = f"{row['gain']:+.1%} | {row['gain_low']:+.1%} to {row['gain_high']:+.1%}" if row["shots"] else "|"
            interval = f"{row['low']:.1%} to {row['high']:.1%}"
            print(f"| {row['method']} | {row['shots']} | {row['value']:.1%} | {interval} | {gain} |")
        print(f"chance {1 / len(dataset.classes):.1%}; " + " ".join(found.notes))


def _opened(source: str) -> Dataset:
    """A data set, or the rows of a Parquet file whose column `source` contains what follows the #."""
    path, _, wanted = source.partition("#")
    dataset = open_dataset(path, label="label")
    if not wanted:
        return dataset
    import pyarrow.parquet as pq

    table = pq.read_table(path, columns=["label", "source"]).to_pylist()
    named = [row for row in table if row["label"] is not None]
    if len(named) != len(dataset):
        raise SystemExit(f"{path}: {len(named)} rows with a label, and {len(dataset)} images")
    places = [place for place, row in enumerate(named) if wanted in row["source"]]
    part = dataset.take(places)
    counts = np.bincount(part.labels, minlength=len(part.classes))
    kept = [name for name, count in zip(part.classes, counts, strict=True) if count]
    numbers = {name: number for number, name in enumerate(kept)}
    label_sets = tuple((numbers[part.classes[label]],) for label in part.labels)
    return replace(part, name=f"{Path(path).stem} {wanted}", classes=tuple(kept), label_sets=label_sets)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["probe", "learn", "mini"])
    parser.add_argument("data", nargs="*")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--classes", type=int)
    parser.add_argument("--shots", type=int, default=16)
    parser.add_argument("--held-out", type=float, default=0.4)
    parser.add_argument("--model", default="tandem-mini", help="with mini")
    parser.add_argument("--tolerance", type=float, default=1e-4, help="scikit-learn's; 1e-4 is its default")
    chosen = parser.parse_args()
    if chosen.what == "probe":
        probe(chosen.images, chosen.width, chosen.classes or 200, chosen.tolerance)
    elif chosen.what == "learn":
        learning(chosen.shots, chosen.classes or 100, chosen.width)
    else:
        mini(chosen.data, chosen.held_out, chosen.model)


if __name__ == "__main__":
    main()
