"""Retrieval: each image searched for by its captions, and a caption of its own by each image.

Shapes: n images, m captions, d the shared dimension.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tandem.arrays import Vectors
from tandem.errors import DataError
from tandem.evaluate import intervals
from tandem.evaluate.caption_vectors import caption_vectors
from tandem.evaluate.features import Features
from tandem.evaluate.figures import Figure
from tandem.evaluate.metrics import chance_recall
from tandem.evaluate.model_checks import check_same_model, note_of_training
from tandem.evaluate.result import DatasetRecord, TaskResult
from tandem.evaluate.retrieval_ranks import Ranks, retrieval_ranks
from tandem.model import Model

KS = (1, 5, 10)
_WORST = 20  # queries that are shown


def retrieval(model: Model, data: Features, *, ks: Sequence[int] = KS, seed: int = 0, cache: bool = True) -> TaskResult:
    """Recall at each k, median and mean rank, in both directions; any of an image's own captions counts.

    Every image needs a caption. Captions past the model's context are cut, and counted in a note; with `cache` their
    vectors are kept, as those of images are. Only values of k below the number of images are measured. Intervals are
    over resampled images, each with all of its captions. Raises `DataError` for fewer than two images, for images
    without captions, and for vectors of another model.
    """
    check_same_model(model, data)
    dataset = data.dataset
    without = [key for key, texts in zip(dataset.keys, dataset.captions, strict=False) if not texts]
    if len(dataset.captions) != len(dataset) or without:
        which = f"{len(without)} images have none, the first is {without[0]}" if without else "it has none"
        raise DataError(f"{dataset.name}: retrieval needs a caption for every image, but {which}")
    texts = [text for own in dataset.captions for text in own]
    owner = np.repeat(np.arange(len(dataset)), [len(own) for own in dataset.captions])
    room = model.tokenizer.room(model.config.text.context_length)
    long = sum(len(ids) > room for ids in model.tokenizer.encode(texts))
    found = retrieval_figures(
        data.vectors, caption_vectors(model, texts, cache=cache), owner, ks=ks, seed=seed, name=dataset.name
    )
    figures, tables, outcomes, ranks = found
    cut = (f"{long:,} of {len(texts):,} captions are longer than {room} tokens, and were cut.",) if long else ()
    worst = np.argsort(-ranks[0], kind="stable")[:_WORST]
    return TaskResult(
        "retrieval",
        DatasetRecord.of(dataset),
        {"ks": list(ks), "seed": seed, "resamples": intervals.RESAMPLES, "captions": len(texts), "long": "truncate"},
        figures,
        {
            **tables,
            "worst_queries": [
                {"caption": texts[i], "key": dataset.keys[owner[i]], "rank": int(ranks[0][i])} for i in worst
            ],
        },
        dataset.keys,
        outcomes,
        (*dataset.notes, *cut, *note_of_training(model)),
    )


Found = tuple[dict[str, Figure], dict[str, Any], dict[str, NDArray[np.float32]], tuple[Ranks, Ranks]]


def retrieval_figures(
    images: Vectors,
    texts: Vectors,
    owner: NDArray[np.integer],
    *,
    ks: Sequence[int] = KS,
    seed: int = 0,
    name: str = "retrieval",
) -> Found:
    """Figures, tables, outcomes for each image, and ranks, from vectors [n d], [m d] and the image of each text [m]."""
    n, m = len(images), len(texts)
    measured = [k for k in ks if k < n]
    if not measured or min(ks) < 1:
        raise DataError(
            f"{name}: retrieval at {', '.join(map(str, ks))} needs k of at least 1, and more images than k, got {n}"
        )
    captions = np.bincount(owner, minlength=n)
    ranks = retrieval_ranks(images, texts, owner)
    figures: dict[str, Figure] = {}
    outcomes: dict[str, NDArray[np.float32]] = {}
    curves: list[dict[str, Any]] = []
    directions = (
        ("text_to_image", ranks[0], owner, captions, n, np.ones(n, dtype=np.int64)),
        ("image_to_text", ranks[1], np.arange(n), np.ones(n, dtype=np.int64), m, captions),
    )
    for direction, rank, image, queries, gallery, matches in directions:
        hits = np.stack([np.bincount(image, weights=rank <= k, minlength=n) for k in measured], axis=1)  # [n k]
        total = np.bincount(image, weights=rank, minlength=n)
        averages = intervals.bootstrap(
            intervals.means(np.column_stack([hits, total]), queries.astype(np.float64)), n, seed=seed
        )
        (median,) = intervals.bootstrap(intervals.medians(rank, image), n, seed=seed)
        for place, (k, average) in enumerate(zip(measured, averages, strict=False)):
            key, sure = f"{direction}_recall@{k}", intervals.share(average, n)
            figures[key] = Figure.of(sure, len(rank), chance=_mean_chance(gallery, matches, queries, k))
            # Of an image with more captions than others more is counted, so that the mean is the figure.
            outcomes[key] = np.asarray(hits[:, place] * (n / queries.sum()), dtype=np.float32)
        mean, chance = averages[-1], _chance_ranks(gallery, matches, queries)
        figures[f"{direction}_median_rank"] = Figure.of(median, len(rank), chance=chance[0], unit="rank")
        figures[f"{direction}_mean_rank"] = Figure.of(mean, len(rank), chance=chance[1], unit="rank")
        outcomes[f"{direction}_mean_rank"] = np.asarray(total * (n / queries.sum()), dtype=np.float32)
        curves += [
            {
                "direction": direction,
                "k": k,
                "value": float(np.mean(rank <= k)),
                "chance": _mean_chance(gallery, matches, queries, k),
            }
            for k in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
            if k < n
        ]
    return figures, {"recall_curve": curves}, outcomes, ranks


def _mean_chance(gallery: int, matches: NDArray[np.int64], queries: NDArray[np.int64], k: int) -> float:
    """The recall of random orders, exactly: the mean over queries, whose images have different numbers of matches."""
    kinds, place = np.unique(matches, return_inverse=True)
    weight = np.bincount(place, weights=queries)
    return float(np.average([chance_recall(gallery, int(r), k) for r in kinds], weights=weight))


def _chance_ranks(gallery: int, matches: NDArray[np.int64], queries: NDArray[np.int64]) -> tuple[float, float]:
    """The median and the mean rank of random orders. The best of r places among g has the mean (g + 1) / (r + 1)."""
    low, high = 1, gallery
    while low < high:
        middle = (low + high) // 2
        if _mean_chance(gallery, matches, queries, middle) < 0.5:
            low = middle + 1
        else:
            high = middle
    return float(low), float(np.average((gallery + 1) / (matches + 1), weights=queries))
