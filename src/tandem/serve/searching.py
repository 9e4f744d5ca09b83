"""Searches of a collection as documents: of the search's route and of health checks. Knows no routes."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tandem.arrays import Vectors
from tandem.search.query import SearchQuery
from tandem.serve.collections.handle import OpenCollection
from tandem.serve.encoding.encoder import Encoder
from tandem.serve.http.problems import not_found
from tandem.serve.image_links import image_link
from tandem.serve.service import Service


async def answer(
    service: Service, query: SearchQuery, collection: str | None, images: Mapping[str, str | bytes]
) -> dict[str, Any]:
    """The document that answers a search. `images` are those of the query, by the names of their fields.

    Raises `ProblemError` and `TandemError`.
    """
    name = service.registry.get(collection).name

    async def vectors_of(encoder: Encoder) -> dict[str, Vectors]:
        return await _vectors(encoder, query, images)

    def work(leased: OpenCollection, vectors: dict[str, Vectors]) -> dict[str, Any]:
        with leased.collection.store.reading():
            if query.like is not None:
                vectors["like"] = _stored(leased, query.like)
            total = leased.collection.count(query.where)
            return leased.collection.search(query, vectors=vectors).as_dict() | {"total": total}

    found = await service.ask_with_encoder(name, vectors_of, work)
    for hit in found["hits"]:
        hit["thumbnail"] = image_link(hit["id"], "/thumbnail", collection and name)
    return found | {"collection": name}


async def _vectors(encoder: Encoder, query: SearchQuery, images: Mapping[str, str | bytes]) -> dict[str, Vectors]:
    """The vector of each text and image, by the name of its field."""
    vectors: dict[str, Vectors] = {}
    if query.texts:
        found = await encoder.embed_texts(list(query.texts.values()), list(query.texts), query.long)
        vectors |= dict(zip(query.texts, found, strict=True))
    for name in query.images:
        vectors[name] = await encoder.embed_image(images[name], name)
    return vectors


def _stored(leased: OpenCollection, identifier: str) -> Vectors:
    """The vector of an image of the collection. Raises `ProblemError` 404."""
    found = leased.collection.store.get([identifier], columns=())
    if not len(found) or found.vectors is None:
        raise not_found(f"no image {identifier[:64]!r} in {leased.name}")
    return np.asarray(found.vectors[0], dtype=np.float32)
