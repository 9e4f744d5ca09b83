"""Embeds photos or texts in batches for `tandem embed`, and streams states. Knows no files.

Shapes: n photos or texts of a batch, d dimensions.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tandem.defaults import LongTexts
from tandem.errors import ImageError
from tandem.image import ImageSource, source_name
from tandem.image_states import ImageStates
from tandem.model import Model

_TEXT_BATCH = 4096

Rows = Iterator[tuple[list[str], NDArray[np.float32]]]


def embed_images(
    model: Model,
    images: Sequence[ImageSource],
    batch_size: int,
    skipped: list[ImageError],
    advance: Callable[[int], None],
    *,
    fast_decode: bool = False,
) -> Rows:
    """Batches of names and vectors [n d]; the errors of what cannot be read go to `skipped`."""
    ids: list[str] = []
    some: list[NDArray[np.float32]] = []
    for index, item in model.iter_embed_images(images, batch_size=batch_size, fast_decode=fast_decode):
        advance(1)
        if isinstance(item, ImageError):
            skipped.append(item)
            continue
        ids.append(source_name(images[index]))
        some.append(item)
        if len(ids) == batch_size:
            yield ids, np.stack(some)
            ids, some = [], []
    if ids:
        yield ids, np.stack(some)


def image_states(
    model: Model,
    images: Sequence[ImageSource],
    batch_size: int,
    skipped: list[ImageError],
    advance: Callable[[int], None],
    **options: Any,
) -> Iterator[tuple[str, ImageStates]]:
    """Each image's name and states, with the options of `Model.image_states`; errors go to `skipped`."""
    for index, item in model.iter_image_states(images, batch_size=batch_size, **options):
        advance(1)
        if isinstance(item, ImageError):
            skipped.append(item)
        else:
            yield source_name(images[index]), item


def embed_texts(model: Model, texts: list[str], *, long: LongTexts, advance: Callable[[int], None]) -> Rows:
    """Batches of texts and their vectors [n d]."""
    for start in range(0, len(texts), _TEXT_BATCH):
        chunk = texts[start : start + _TEXT_BATCH]
        yield chunk, model.embed_texts(chunk, long=long)
        advance(len(chunk))
