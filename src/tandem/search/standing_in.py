"""Whether a model that stands in for a collection's own gives the vectors in it: a few photos are encoded again.

What a model says of its agreement stands in a file beside its weights, and no fingerprint is of both.
"""

from contextlib import closing, suppress
from typing import TYPE_CHECKING

import numpy as np

from tandem.errors import ImageError, StoreError
from tandem.search import indexed_files
from tandem.search.stores.protocol import Store

if TYPE_CHECKING:
    from tandem.model import Model

COMPARED = 8  # photos: their median cosine decides, since one may have been shrunk while it was decoded
LOOKED_AT = 64  # records, until so many are found whose files are at hand
LEAST_COSINE = 0.9  # models that keep their promise have 0.99; other weights, even of the same training, far less


def check_vectors(store: Store, model: "Model") -> None:
    """Raise `StoreError` for a model, not the collection's own, whose vectors of photos in it are not those in it.

    Nothing is compared where no file of the first records is at hand.
    """
    notes = store.notes
    if notes.get("model_fingerprint") == model.fingerprint:
        return
    cosines = _cosines(store, model)
    if cosines and not (found := float(np.median(cosines))) >= LEAST_COSINE:
        theirs, measured = notes.get("model_name", "another model"), f"{found:.2f}, needed {LEAST_COSINE}"
        raise StoreError(
            f"{store.url} holds vectors of {theirs}, and {model.name} gives others for the same photos (median cosine "
            f"of {len(cosines)}: {measured}): it is not what it says it is; leave the model out"
        )


def _cosines(store: Store, model: "Model") -> list[float]:
    found: list[float] = []
    with closing(store.scan(columns=("path", "paths"), batch_size=LOOKED_AT)) as batches:  # type: ignore[type-var]
        for records in batches:
            assert records.vectors is not None
            for row, identifier in enumerate(records.ids):
                content = indexed_files.content(identifier, records.row(row), model.limits.max_bytes)
                if content is not None:
                    with suppress(ImageError):
                        found.append(float(model.embed_images([content])[0] @ records.vectors[row]))
                if len(found) == COMPARED:
                    return found
            return found
    return found
