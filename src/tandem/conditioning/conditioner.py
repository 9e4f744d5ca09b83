"""`Conditioner`: prompts to what an image generator takes. Joins text towers, their consumer's description and prompts.

Arithmetic of the towers is the engine's; here are the interpolation of weights (as ComfyUI:
z = (z - z_empty) w + z_empty), pooling at the end token's place, and how the parts are put together.

Shapes: n prompts, k chunks of each, t tokens of a chunk, w width of a tower, l layers.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from tandem import engine as engines
from tandem.arrays import Vectors
from tandem.conditioning.chunks import LongPrompts, Rows, Word
from tandem.conditioning.consumers import CONSUMERS, Consumer
from tandem.conditioning.encoding import TextEncoder
from tandem.conditioning.inversions import TextualInversion, read_inversions
from tandem.conditioning.prompt_syntax import Segment, parse_prompt
from tandem.conditioning.result import Conditioning, TowerStates
from tandem.errors import ConditioningError, did_you_mean
from tandem.files import user_path
from tandem.weights import published
from tandem.weights.text_tower import TextCheckpoint, read_text_tower

TowerSource = str | Path | TextCheckpoint
Syntax = Literal["weights", "plain"]


class Conditioner:
    """Text encoders of one consumer. Thread-safe; nothing of it is written to."""

    def __init__(
        self,
        consumer: str | Consumer,
        source: str | Path | None = None,
        *,
        embeddings: Mapping[str, str | Path | TextualInversion] | Iterable[str | Path | TextualInversion] = (),
        engine: engines.EngineName = "auto",
        device: str | None = None,
        precision: engines.Precision = "auto",
        **towers: TowerSource,
    ) -> None:
        """Load the text towers that a consumer takes.

        Args:
            consumer: "sd1", "sd2", "sdxl", "sd3", "flux", or "states" for any CLIP; or a description of your own.
            source: a diffusers repository or its local folder, with `text_encoder` and so on in it. For a consumer of
                one text tower also a CLIP, by path or name.
            embeddings: files of textual inversion, or words with files.
            engine, device, precision: as for `tandem.load`.
            towers: instead of `source`, each tower by its name (`clip_l=..., clip_g=...`): a folder or file of a text
                encoder, or a whole CLIP by path or name ("openai/clip-vit-large-patch14").

        Raises `ConditioningError` for towers that the consumer does not take; otherwise as `read_text_tower`.
        """
        self.consumer = _consumer(consumer)
        self.inversions = read_inversions(embeddings)
        names = [use.name for use in self.consumer.towers]
        surplus = [name for name in towers if name not in names]
        missing = [name for name in names if name not in towers]
        if surplus or (missing and source is None):
            raise ConditioningError(
                f"{self.consumer.name}: expected the source of a pipeline, or each of its towers by name "
                f"({', '.join(f'{name}=...' for name in names)}); got {', '.join(towers) or 'neither'}"
            )
        self.encoders: dict[str, TextEncoder] = {}
        for use in self.consumer.towers:
            given = towers.get(use.name)
            if not isinstance(given, TextCheckpoint):
                given = (
                    read_text_tower(given) if given is not None else _of_source(source, self.consumer, use.subfolder)
                )
            self.encoders[use.name] = TextEncoder(
                self.consumer, use, given, self.inversions, engine=engine, device=device, precision=precision
            )

    @property
    def context_length(self) -> int:
        """The tokens of one chunk, start and end included."""
        return next(iter(self.encoders.values())).context_length

    def release(self) -> None:
        """Give back the memory of compiled graphs, of which there is one for each set of layers that was asked for."""
        for encoder in self.encoders.values():
            encoder.release()

    def encode(
        self,
        prompt: str | Sequence[str],
        negative_prompt: str | Sequence[str] | None = None,
        *,
        clip_skip: int | None = None,
        negative_clip_skip: int | None = None,
        syntax: Syntax = "weights",
        long: LongPrompts = "chunk",
        t5_states: Vectors | None = None,
        negative_t5_states: Vectors | None = None,
    ) -> Conditioning:
        """What the consumer takes for prompts.

        Args:
            prompt: one or several.
            negative_prompt: one for all, or one for each. None is what the consumer was trained with: zeros for SDXL,
                else the empty prompt.
            clip_skip: blocks that are left out at the end, beside those that the consumer leaves out anyway; 1 is what
                the web UIs call 2. As in diffusers it does not reach negative prompts: see `negative_clip_skip`.
            syntax: "weights" reads `(word:1.3)` and its like; "plain" takes parentheses as text.
            long: what becomes of prompts of more than a chunk: "chunk" encodes several, "truncate" cuts and tells the
                words, "error" raises. A consumer of a pooled vector alone reads one chunk: the rest is cut.
            t5_states: float32 [n t w] of T5, for the consumers that take them; Tandem has no T5.

        Raises `ConditioningError` for a prompt, a clip skip or T5 states that do not fit.
        """
        if long not in get_args(LongPrompts):
            raise ConditioningError(f"long: expected {', '.join(get_args(LongPrompts))}, got {long!r}")
        prompts = (prompt,) if isinstance(prompt, str) else tuple(prompt)
        negatives = _negatives(negative_prompt, len(prompts))
        for each in (*prompts, *negatives):
            if each is not None and not isinstance(each, str):
                raise ConditioningError(f"prompt: expected text, got {type(each).__name__}")
        if not prompts:
            raise ConditioningError("prompt: expected at least one, got none")
        if not any(use.in_states for use in self.consumer.towers) and long == "chunk":
            long = "truncate"
        read = [_segments(each or "", syntax) for each in (*prompts, *negatives)]
        n = len(prompts)
        skips = [clip_skip or 0] * n + [negative_clip_skip or 0] * n
        cut: list[tuple[str, ...]] = [()] * len(read)
        words: tuple[tuple[Word, ...], ...] = ()
        positive: dict[str, TowerStates] = {}
        negative: dict[str, TowerStates] = {}
        for name, encoder in self.encoders.items():
            rows = [encoder.rows(segments, long) for segments in read]
            cut = [max(known, each.cut, key=len) for known, each in zip(cut, rows, strict=True)]
            words = words or tuple(each.words for each in rows[:n])
            both = encoder.encode(_even(rows, encoder), skips)
            positive[name], negative[name] = (_part(both, part) for part in (slice(n), slice(n, None)))
        zeroed = self.consumer.zeros_without_negative
        zeros = np.array([zeroed and each is None for each in negatives])
        return Conditioning(
            self.consumer.name,
            self.context_length,
            prompts,
            negatives,
            self._with_t5(self._states(positive), t5_states, "t5_states"),
            self._pooled(positive),
            _zeroed(self._with_t5(self._states(negative), negative_t5_states, "negative_t5_states"), zeros),
            _zeroed(self._pooled(negative), zeros),
            positive,
            negative,
            words,
            tuple(cut[:n]),
            tuple(cut[n:]),
            self._missing(t5_states),
        )

    def _states(self, towers: Mapping[str, TowerStates]) -> Vectors:
        """[n kt w], of the towers side by side; of none, no tokens: [n 0 w]."""
        first = next(iter(towers.values())).states
        some = [towers[use.name].states for use in self.consumer.towers if use.in_states]
        return np.concatenate(some, axis=2) if some else np.empty((len(first), 0, self.consumer.t5_width), np.float32)

    def _pooled(self, towers: Mapping[str, TowerStates]) -> Vectors:
        forms = [(towers[use.name], use.pooled) for use in self.consumer.towers if use.pooled != "none"]
        some = [tower.projected if form == "projected" else tower.pooled for tower, form in forms]
        count = len(next(iter(towers.values())).states)
        return np.concatenate(some, axis=1) if some else np.empty((count, 0), np.float32)

    def _with_t5(self, states: Vectors, given: Vectors | None, argument: str) -> Vectors:
        """[n kt w] -> [n kt+t5 w5]: narrower states are filled with zeros up to T5's width."""
        consumer = self.consumer
        if not consumer.t5_tokens:
            if given is not None:
                raise ConditioningError(f"{argument}: {consumer.name} takes no T5 states; leave them out")
            return states
        n, width = len(states), consumer.t5_width
        if given is None:
            tokens = consumer.t5_tokens if consumer.zeros_without_t5 else 0
            given = np.zeros((n, tokens, width), np.float32)
        given = np.asarray(given, np.float32)
        if given.ndim != 3 or len(given) != n or given.shape[2] != width:
            raise ConditioningError(f"{argument}: expected float32 [{n} t {width}], got {list(given.shape)}")
        missing = width - states.shape[2]
        return np.concatenate([np.pad(states, ((0, 0), (0, 0), (0, missing))), given], axis=1)

    def _missing(self, t5_states: Vectors | None) -> str:
        consumer = self.consumer
        if not consumer.t5_tokens or t5_states is not None:
            return ""
        if consumer.zeros_without_t5:
            return ""
        return f"T5 states [n t {consumer.t5_width}] of the prompts: give them as t5_states; Tandem has no T5"


def _consumer(consumer: str | Consumer) -> Consumer:
    if isinstance(consumer, Consumer):
        return consumer
    if consumer not in CONSUMERS:
        raise ConditioningError(
            f"consumer: expected one of {', '.join(CONSUMERS)}, got {consumer!r}{did_you_mean(consumer, CONSUMERS)}"
        )
    return CONSUMERS[consumer]


def _of_source(source: str | Path | None, consumer: Consumer, subfolder: str) -> TextCheckpoint:
    """The text encoder in a pipeline; for a consumer of a single one also that of a CLIP."""
    assert source is not None  # checked before
    return read_text_tower(source, subfolder=None if _is_one_tower(str(source), consumer, subfolder) else subfolder)


def _is_one_tower(source: str, consumer: Consumer, subfolder: str) -> bool:
    if len(consumer.towers) > 1:
        return False
    path = user_path(source)
    if path.exists():
        return not (path / subfolder).is_dir()
    return not consumer.towers[0].width or published.shipped_folder(source) is not None or bool(published.find(source))


def _negatives(given: str | Sequence[str] | None, count: int) -> tuple[str | None, ...]:
    if given is None or isinstance(given, str):
        return (given,) * count
    if len(given) != count:
        raise ConditioningError(f"negative_prompt: expected one, or {count} as prompts, got {len(given)}")
    return tuple(given)


def _segments(prompt: str, syntax: Syntax) -> tuple[Segment, ...]:
    if syntax == "weights":
        return parse_prompt(prompt)
    if syntax != "plain":
        raise ConditioningError(f"syntax: expected 'weights' or 'plain', got {syntax!r}")
    return (Segment(prompt),) if prompt else ()


def _even(rows: list[Rows], encoder: TextEncoder) -> list[Rows]:
    """As many chunks for each: those of no words follow."""
    most = max(len(each.token_ids) for each in rows)
    empty = encoder.rows((), "chunk")
    return [
        Rows(
            np.concatenate([each.token_ids, *[empty.token_ids] * (most - len(each.token_ids))]),
            np.concatenate([each.weights, *[empty.weights] * (most - len(each.weights))]),
            each.words,
            each.cut,
        )
        for each in rows
    ]


def _part(towers: TowerStates, part: slice) -> TowerStates:
    return TowerStates(
        towers.states[part],
        towers.pooled[part],
        towers.projected[part],
        towers.token_ids[part],
        towers.attention_mask[part],
    )


def _zeroed(array: Vectors, rows: NDArray[np.bool_]) -> Vectors:
    array[rows] = 0
    return array
