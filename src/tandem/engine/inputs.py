"""Checks of pixels and token ids, shared by all engines, and buckets of texts by length.

Knows shapes, dtypes and ranges. It knows no graph and no device.

Shapes: n images or texts, h height, w width, t tokens.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from tandem.config import ImageTower, TextTower
from tandem.errors import EngineError
from tandem.towers import tower_type

BATCH_TOKENS = 1024  # of a bucket, padding included: enough to fill the cores, and small enough for the caches

LENGTH_STEP = 8  # of `fixed_buckets`: ten lengths for a context of 77, for at most 7 tokens too many

Pixels = NDArray[np.uint8] | NDArray[np.float32]


def check_pixels(pixels: Pixels, shape: tuple[int, ...]) -> Pixels:
    """The same pixels, C-contiguous. Raises `EngineError` unless they are uint8 or float32 [n, *shape]."""
    wanted = f"pixels: expected uint8 or float32 [n {' '.join(map(str, shape))}] in 0..255"
    if not isinstance(pixels, np.ndarray):
        raise EngineError(f"{wanted}, got {type(pixels).__name__}")
    if pixels.dtype not in (np.uint8, np.float32) or not pixels.ndim or pixels.shape[1:] != shape:
        raise EngineError(f"{wanted}, got {pixels.dtype} {_shape(pixels)}")
    return np.ascontiguousarray(pixels)  # type: ignore[return-value]  # the dtype was checked


def check_token_ids(token_ids: NDArray[np.int32], text: TextTower, added: int = 0) -> NDArray[np.int32]:
    """The same ids as int32. Raises `EngineError` unless they are whole numbers [n t] that the model knows.

    added: how many ids follow those of the vocabulary.
    """
    wanted = f"token_ids: expected int32 [n t] with t in 1..{text.context_length}"
    if not isinstance(token_ids, np.ndarray):
        raise EngineError(f"{wanted}, got {type(token_ids).__name__}")
    if token_ids.dtype.kind not in "iu" or token_ids.ndim != 2 or not 1 <= token_ids.shape[1] <= text.context_length:
        raise EngineError(f"{wanted}, got {token_ids.dtype} {_shape(token_ids)}")
    if token_ids.size and (token_ids.min() < 0 or token_ids.max() >= text.vocabulary_size + added):
        raise EngineError(
            f"token_ids: expected ids in 0..{text.vocabulary_size + added - 1}, "
            f"got {token_ids.min()}..{token_ids.max()}; make them with the model's own tokenizer"
        )
    if text.masks_padding:
        empty = np.flatnonzero((token_ids == text.pad_id).all(axis=1))
        if empty.size:
            raise EngineError(f"token_ids: row {empty[0]} is nothing but padding; make the ids with the tokenizer")
    return np.ascontiguousarray(token_ids, dtype=np.int32)


def check_layer(layer: int, layers: int) -> tuple[int, bool]:
    """The meaning of `layer` in states: (number of blocks to apply, whether the final norm follows).

    -1 is the end of the tower, after the final norm. Any other index counts the hidden states, as transformers does:
    0 is the embedding, k the state after k blocks, -2 the state before the last block.
    """
    if isinstance(layer, bool) or not isinstance(layer, int | np.integer):
        raise EngineError(f"layer: expected a whole number in {-layers - 1}..{layers}, got {layer!r}")
    if not -layers - 1 <= layer <= layers:
        raise EngineError(f"layer: expected {-layers - 1}..{layers}, got {layer}")
    if layer == -1:
        return layers, True
    return (layer if layer >= 0 else layers + 1 + layer), False


def check_text_layers(text: TextTower, layers: Sequence[int], norm: bool | None) -> tuple[tuple[int, bool], ...]:
    """What each of `layers` means in states of texts: see `check_layer`. `norm` overrules whether the norm follows.

    Raises `EngineError` for no layer, and for one that the tower does not have.
    """
    if not layers:
        raise EngineError("layers: expected at least one, got none")
    found = [check_layer(layer, text.layers) for layer in layers]
    return tuple((blocks, at_end if norm is None else norm) for blocks, at_end in found)


def check_added(added: NDArray[np.float32] | None, width: int) -> NDArray[np.float32] | None:
    """The same embeddings as float32, C-contiguous. Raises `EngineError` unless they are finite floats [m w]."""
    if added is None:
        return None
    if added.ndim != 2 or added.shape[1] != width or added.dtype.kind != "f":
        raise EngineError(f"added: expected float32 [m {width}], got {added.dtype} {_shape(added)}")
    if not np.isfinite(added).all():
        raise EngineError("added: expected finite numbers; the file they come from is damaged")
    return np.ascontiguousarray(added, np.float32)


def check_image_layer(vision: ImageTower, layer: int, norm: bool | None, projection: bool) -> tuple[int, bool, bool]:
    """The meaning of `image_states`' arguments: (layers to apply, whether the last norm follows, and the projection).

    Raises `EngineError` for a layer, a norm or a projection that the tower does not have.
    """
    layers, at_end = check_layer(layer, vision.state_layers)
    if norm and not vision.has_last_norm:
        raise EngineError(f"norm: this image tower ({tower_type(vision)}) has no last norm; leave norm out")
    if projection and not vision.projects_states:
        raise EngineError(
            f"projection: this image tower ({tower_type(vision)}) has no projection of its tokens; leave it out"
        )
    wanted = (at_end or projection) if norm is None else norm
    return layers, wanted and vision.has_last_norm, projection


def check_dense(vision: ImageTower) -> None:
    """Raises `EngineError` for an image tower whose patches have no vectors of their own."""
    if vision.dense_method is None:
        raise EngineError(
            f"this image tower ({tower_type(vision)}) gives its patches no vectors of their own; locate with "
            'method="windows"'
        )


def end_positions(token_ids: NDArray[np.int32], end_id: int) -> NDArray[np.int32]:
    """Where each text's first end token is: [n t] -> int32 [n]. Raises `EngineError` for one that has none."""
    is_end = token_ids == end_id
    without = np.flatnonzero(~is_end.any(axis=1))
    if without.size:
        raise EngineError(
            f"token_ids: expected the end token {end_id} in every row, but row {without[0]} has none; "
            "make the ids with the model's tokenizer"
        )
    ends: NDArray[np.int32] = is_end.argmax(axis=1).astype(np.int32)
    return ends


def padded(token_ids: NDArray[np.int32], text: TextTower) -> NDArray[np.int32]:
    """The ids as the text tower takes them: of the context length where padding reaches the vectors."""
    missing = text.context_length - token_ids.shape[1]
    if not text.fixed_length or missing == 0:
        return token_ids
    return np.pad(token_ids, ((0, 0), (0, missing)), constant_values=text.pad_id)


def read_positions(token_ids: NDArray[np.int32], text: TextTower) -> NDArray[np.int32]:
    """The last token of each text that reaches its vector: [n t], padded -> int32 [n].

    It is the end token where vectors are read there. Raises `EngineError` for a text that has none.
    """
    if text.pooling == "end":
        assert text.end_id is not None  # checked by the description
        return end_positions(token_ids, text.end_id)
    if text.fixed_length:
        return np.full(len(token_ids), token_ids.shape[1] - 1, np.int32)
    last: NDArray[np.int32] = (token_ids.shape[1] - 1 - (token_ids != text.pad_id)[:, ::-1].argmax(axis=1)).astype(
        np.int32
    )
    return last


def buckets(
    token_ids: NDArray[np.int32], text: TextTower, batch_tokens: int = BATCH_TOKENS
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.int32], NDArray[np.int32]]]:
    """Cut a batch into buckets: (rows, their ids [rows t] as the tower takes them, `read_positions` of the rows)."""
    token_ids = padded(token_ids, text)
    last = read_positions(token_ids, text)
    reach = np.full_like(last, token_ids.shape[1] - 1) if text.fixed_length else last
    for rows, tokens in length_buckets(reach, batch_tokens):
        yield rows, np.ascontiguousarray(token_ids[rows, :tokens]), last[rows]


def fixed_buckets(
    token_ids: NDArray[np.int32], text: TextTower, batch_tokens: int
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.int32]]]:
    """Cut a batch into buckets of few different lengths: (rows, their ids [rows t]).

    The lengths are multiples of `LENGTH_STEP`, and the context's; there is padding up to them, which reaches no vector.
    As many texts are in a bucket as a power of two that fits in `batch_tokens`, or fewer in the last of a length.
    """
    token_ids = padded(token_ids, text)
    last = np.full(len(token_ids), token_ids.shape[1] - 1) if text.fixed_length else read_positions(token_ids, text)
    lengths = np.minimum(-(-(last + 1) // LENGTH_STEP) * LENGTH_STEP, text.context_length)
    for length in np.unique(lengths):
        most = 1 << max(batch_tokens // int(length), 1).bit_length() - 1
        of_length = np.flatnonzero(lengths == length)
        for start in range(0, len(of_length), most):
            rows = of_length[start : start + most]
            ids = token_ids[rows, :length]
            missing = int(length) - ids.shape[1]
            yield rows, np.pad(ids, ((0, 0), (0, missing)), constant_values=text.pad_id)


def length_buckets(ends: NDArray[np.int32], batch_tokens: int = BATCH_TOKENS) -> Iterator[tuple[NDArray[np.intp], int]]:
    """Cut a batch into buckets of similar length, shortest first: (rows, tokens to keep) for each.

    `ends` [n] are the last tokens that reach the vectors. Under a causal mask nothing after the end token does, nor
    does masked padding: encoding the tokens up to there gives the same vector for a part of the work. A bucket holds
    as many texts as fit in `batch_tokens`, and at least one.
    """
    order = np.argsort(ends, kind="stable")
    start = 0
    while start < len(order):
        # `stop` is the largest for which every text of the bucket, padded to its longest, fits
        stop = start + 1
        while stop < len(order) and (stop + 1 - start) * (int(ends[order[stop]]) + 1) <= batch_tokens:
            stop += 1
        rows = order[start:stop]
        yield rows, int(ends[rows[-1]]) + 1
        start = stop


def _shape(array: NDArray[np.generic]) -> str:
    return "[" + " ".join(map(str, array.shape)) + "]"
