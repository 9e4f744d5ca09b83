"""The vectors of captions: encoded once, then found in the cache of features beside those of images.

Shapes: m captions, d the shared dimension.
"""

import hashlib
import warnings
from collections.abc import Sequence

import numpy as np

from tandem.arrays import Vectors
from tandem.evaluate.features import feature_cache
from tandem.model import Model
from tandem.progress import Progress

_CHUNK = 2048  # captions that are encoded, and then kept, at once: an interrupted call can be repeated to resume


def caption_vectors(model: Model, texts: Sequence[str], *, cache: bool = True, progress: bool | None = None) -> Vectors:
    """float32 [m d] of unit length; captions past the model's context are cut.

    With `cache`, vectors are kept as those of images are (`embed_dataset`), under the model and the text.
    """
    kept = feature_cache(model) if cache else None
    # No image begins so: the same file holds the vectors of both.
    digests = [hashlib.sha256(b"caption, cut: " + text.encode("utf-8", "surrogatepass")).digest() for text in texts]
    rows = np.zeros((len(texts), 0), dtype=np.float32)
    missing = np.arange(len(texts))
    if kept is not None:
        found, present = kept.lookup(digests)
        if present.all():
            return found
        rows, missing = np.array(found), np.flatnonzero(~present)
    with Progress(len(missing), show=progress, label="embedding", unit="caption") as bar:
        for start in range(0, len(missing), _CHUNK):
            places = missing[start : start + _CHUNK]
            vectors = model.embed_texts([texts[place] for place in places], long="truncate")
            if not rows.shape[1]:
                rows = np.zeros((len(texts), vectors.shape[1]), dtype=np.float32)
            rows[places] = vectors
            if kept is not None:
                try:
                    kept.append([digests[place] for place in places], vectors)
                except OSError as error:
                    warnings.warn(f"vectors are not kept for the next time: {kept.folder}: {error}", stacklevel=2)
                    kept = None
            bar.advance(len(places))
    return rows
