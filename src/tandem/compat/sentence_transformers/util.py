"""`sentence_transformers.util`: cosines, and the nearest of a corpus. Knows arrays; no models.

Shapes: n and m vectors, d their dimension.
"""

from typing import Any

import numpy as np

from tandem.arrays import Vectors
from tandem.compat import arrays, tensors
from tandem.compat.refusals import check_options, module_names


def cos_sim(a: Any, b: Any) -> Any:
    """The cosine of every pair of vectors, [n d] and [m d] -> [n m]."""
    return _answer(unit(rows_of(a)) @ unit(rows_of(b)).T)


pytorch_cos_sim = cos_sim  # its name before version 2


def dot_score(a: Any, b: Any) -> Any:
    """The product of every pair of vectors, [n d] and [m d] -> [n m]."""
    return _answer(rows_of(a) @ rows_of(b).T)


def pairwise_cos_sim(a: Any, b: Any) -> Any:
    """The cosine of each vector with that beside it, [n d] twice -> [n]."""
    return _answer((unit(rows_of(a)) * unit(rows_of(b))).sum(axis=1))


def normalize_embeddings(embeddings: Any) -> Any:
    """Vectors of unit length [n d]."""
    return _answer(unit(rows_of(embeddings)))


def semantic_search(
    query_embeddings: Any, corpus_embeddings: Any, *, top_k: int = 10, **options: Any
) -> list[list[dict[str, float]]]:
    """For each query the `top_k` nearest of the corpus: `corpus_id` and `score`, the cosine, best first."""
    check_options("semantic_search", options, {"query_chunk_size": ..., "corpus_chunk_size": ...}, _SEARCH)
    queries, corpus = unit(rows_of(query_embeddings)), unit(rows_of(corpus_embeddings))
    found = []
    for query in queries:
        scores = corpus @ query
        best = np.argsort(-scores, kind="stable")[:top_k]
        found.append([{"corpus_id": int(place), "score": float(scores[place])} for place in best])
    return found


def paraphrase_mining_embeddings(
    embeddings: Any, *, max_pairs: int = 500_000, top_k: int = 100, **options: Any
) -> list[list[float | int]]:
    """[cosine, i, j] with i < j of the pairs that are nearest to each other, best first.

    Of each vector [n d] its `top_k` nearest count, and of all those pairs the best `max_pairs`.
    """
    check_options("paraphrase_mining_embeddings", options, {"query_chunk_size": ..., "corpus_chunk_size": ...}, _SEARCH)
    vectors = unit(rows_of(embeddings))
    found: dict[tuple[int, int], float] = {}
    for i, vector in enumerate(vectors):
        scores = vectors @ vector
        scores[i] = -np.inf  # which leaves it last
        for j in np.argsort(-scores, kind="stable")[: min(top_k, len(vectors) - 1)].tolist():
            found.setdefault((min(i, j), max(i, j)), float(scores[j]))
    best = sorted(found.items(), key=lambda pair: (-pair[1], pair[0]))[:max_pairs]
    return [[score, i, j] for (i, j), score in best]


_SEARCH = {"score_function": "cosines rank; a collection (tandem.open) searches millions"}


def rows_of(vectors: Any) -> Vectors:
    """Tensors, arrays or lists of them as float32 [n d]."""
    listed = isinstance(vectors, list | tuple) and vectors and tensors.is_torch(vectors[0])
    plain = (
        np.stack([tensors.numbers(row, "vectors") for row in vectors])
        if listed
        else tensors.numbers(vectors, "vectors")
    )
    return np.atleast_2d(plain).astype(np.float32)


def unit(vectors: Vectors) -> Vectors:
    """Of unit length; zeros stay zeros."""
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12), np.float32)


def _answer(array: Vectors) -> Any:
    return arrays.tensor(np.asarray(array, np.float32))


_find = module_names(
    __name__,
    {},
    {
        "community_detection": "`tandem explore` groups and finds duplicates in collections of any size",
        "http_get": "urllib.request.urlretrieve(url, path) downloads; images may be URLs themselves",
        "paraphrase_mining": "paraphrase_mining_embeddings(model.encode(...)) is",
        "": "docs/compat.md lists what is covered; tandem collections search millions",
    },
)


def __getattr__(name: str) -> Any:
    return _find(name)
