"""One text tower as its consumer reads it: layers, pooled forms, pad ids, words with embeddings of their own.

Shapes: n prompts, k chunks of each, r rows (n k), t tokens of a chunk, w width, d shared dimension, l layers.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tandem import engine as engines
from tandem.arrays import Vectors
from tandem.conditioning.chunks import LongPrompts, Rows, rows_of, words_in
from tandem.conditioning.consumers import Consumer, TowerUse
from tandem.conditioning.inversions import TextualInversion
from tandem.conditioning.learnt_words import learnt_words
from tandem.conditioning.prompt_syntax import Segment
from tandem.conditioning.result import TowerStates
from tandem.engine.inputs import read_positions
from tandem.errors import ConditioningError
from tandem.towers import tower_type
from tandem.weights.text_tower import TextCheckpoint


class TextEncoder:
    """A text tower and its tokenizer, checked against what the consumer takes."""

    def __init__(
        self,
        consumer: Consumer,
        use: TowerUse,
        checkpoint: TextCheckpoint,
        inversions: Sequence[TextualInversion] = (),
        *,
        engine: engines.EngineName = "auto",
        device: str | None = None,
        precision: engines.Precision = "auto",
    ) -> None:
        _check(consumer, use, checkpoint)
        self.use, self.checkpoint = use, checkpoint
        text = checkpoint.text
        self.context_length = text.context_length
        self.tokenizer = checkpoint.tokenizer
        self.end = min(use.layers, text.layers) if use.layers else text.layers
        if consumer.context_length:
            self.pad_id = use.pad_id if use.pad_id is not None else (text.end_id or 0)
        else:
            self.pad_id = text.pad_id
        self._engine = engines.build_text(
            text, checkpoint.embed_dim, checkpoint.tensors, engine=engine, device=device, precision=precision
        )

        def chosen(inversion: TextualInversion) -> Vectors:
            vectors = inversion.of(use.name, consumer)
            if vectors.shape[1] != text.width:
                raise ConditioningError(
                    f"{inversion.source}: {use.name}: expected vectors of width {text.width}, got {vectors.shape[1]}: "
                    "they were learnt for another text encoder"
                )
            return vectors

        self._learnt = learnt_words(inversions, text.vocabulary_size, chosen)

    def rows(self, segments: Sequence[Segment], long: LongPrompts) -> Rows:
        """The parts of a prompt as rows of ids."""
        words = words_in(segments, self.tokenizer, self._learnt.divide)
        return rows_of(words, self.tokenizer, self.context_length, self.pad_id, long)

    def encode(self, prompts: Sequence[Rows], skips: Sequence[int]) -> TowerStates:
        """The states of prompts of equally many chunks, each with its clip skip."""
        n, k = len(prompts), len(prompts[0].token_ids)
        t = self.context_length
        ids = np.concatenate([each.token_ids for each in prompts])  # [r t]
        weights = np.concatenate([each.weights for each in prompts])
        weighted = bool((weights != 1).any())
        empty = self.rows((), "chunk").token_ids if weighted else ids[:0]
        # Chunks of no words, and one negative prompt for all, come many times
        unique, places = np.unique(np.concatenate([ids, empty]), axis=0, return_inverse=True)
        places = places.reshape(-1)
        layers = [self._layer(skip) for skip in skips]
        wanted = sorted(set(layers))
        found, last = self._hidden(unique, wanted)
        states = np.empty((n * k, t, last.shape[2]), np.float32)
        for i, layer in enumerate(layers):
            at = wanted.index(layer)
            part = slice(i * k, (i + 1) * k)
            states[part] = found[at][places[part]]
            if weighted:
                z_empty = found[at][places[-1]]
                w = weights[part, :, None]
                states[part] = np.where(w == 1, states[part], (states[part] - z_empty) * w + z_empty)
        first = ids[::k]  # [n t]
        ends = read_positions(first, self.checkpoint.text)
        pooled = last[places[: n * k : k], ends]
        mask = np.arange(t) <= read_positions(ids, self.checkpoint.text)[:, None]
        return TowerStates(
            states.reshape(n, k * t, -1),
            pooled,
            self.checkpoint.project(pooled),
            ids.reshape(n, k * t),
            mask.astype(np.int32).reshape(n, k * t),
        )

    def release(self) -> None:
        """Give back what the engine can build again."""
        self._engine.release()

    def _hidden(self, ids: NDArray[np.int32], layers: Sequence[int]) -> tuple[Vectors, Vectors]:
        """The states at each of the layers [l r t w], and those that pooled vectors are read from [r t w]."""
        if self.use.norm:
            found = self._engine.hidden_states(ids, [*layers, self.end], norm=True, added=self._learnt.vectors)
        else:
            found = self._engine.hidden_states(ids, [*layers, -1], added=self._learnt.vectors)
        check_finite(found, self.checkpoint.source, self._engine.precision)
        return found[:-1], found[-1]

    def _layer(self, skip: int) -> int:
        most = self.end - self.use.skip - 1
        if isinstance(skip, bool) or not isinstance(skip, int) or not 0 <= skip <= most:
            raise ConditioningError(
                f"clip_skip: expected 0 to {most}, got {skip!r}: {self.use.name} has {self.end} blocks"
            )
        return self.end - self.use.skip - skip


def check_finite(states: Vectors, source: str, precision: str) -> None:
    """Refuse states that no image can come of. Raises `ConditioningError`."""
    if not np.isfinite(states).all():
        raise ConditioningError(
            f"{source}: its states are not finite; the weights are damaged, or overflow in {precision}: try precision "
            "float32"
        )


def _check(consumer: Consumer, use: TowerUse, checkpoint: TextCheckpoint) -> None:
    """Refuse a tower that the consumer does not take. Raises `ConditioningError`."""
    text, where = checkpoint.text, f"{consumer.name}: {use.name} ({checkpoint.source})"
    if tower_type(text) != "text_transformer":
        raise ConditioningError(
            f"{where}: expected a text transformer, as CLIP has; this text tower is {tower_type(text)}"
        )
    if use.width and text.width != use.width:
        raise ConditioningError(
            f"{where}: expected a text tower of width {use.width} with {use.layers} blocks, got width {text.width} "
            f"with {text.layers}: it is the text tower of another model; any CLIP is taken by 'states'"
        )
    if use.layers and (text.layers < use.layers or (text.layers > use.layers and not use.norm)):
        raise ConditioningError(f"{where}: expected {use.layers} blocks, got {text.layers}")
    if consumer.context_length and text.context_length != consumer.context_length:
        raise ConditioningError(
            f"{where}: expected a context of {consumer.context_length} tokens, got {text.context_length}"
        )
    if use.pooled == "projected" and not checkpoint.has_projection:
        raise ConditioningError(
            f"{where}: expected a text_projection, which its pooled vector goes through; the weights have none "
            "(CLIPTextModelWithProjection has)"
        )
