"""Prompts to rows of token ids with a weight for each: 75 tokens a chunk, between start and end tokens, padded.

A word that does not fit into a chunk goes into the next, unless it has more than eight tokens (as in ComfyUI). What is
cut, where chunks are not wanted, is told word by word.

Shapes: k chunks, t tokens of a chunk.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tandem.conditioning.prompt_syntax import Segment
from tandem.conditioning.words import words_of
from tandem.errors import ConditioningError
from tandem.tokenizer import Tokenizer

LongPrompts = Literal["chunk", "truncate", "error"]
LONGEST_WHOLE_WORD = 8  # tokens
MOST_CHUNKS = 100  # bounds the memory of a prompt


@dataclass(frozen=True)
class Word:
    """A word of a prompt: its ids, spelling and weight. `breaks`: a new chunk begins before it.

    chunk: where it begins; None for one that was cut, and before it is known.
    """

    ids: tuple[int, ...]
    text: str
    weight: float = 1.0
    breaks: bool = False
    chunk: int | None = None


@dataclass(frozen=True, eq=False)
class Rows:
    """A prompt as a tower takes it."""

    token_ids: NDArray[np.int32]  # [k t]
    weights: NDArray[np.float32]  # [k t]; 1 at start, end and padding
    words: tuple[Word, ...]  # all of the prompt's
    cut: tuple[str, ...]  # those that no row has whole


def words_in(
    segments: Sequence[Segment],
    tokenizer: Tokenizer,
    learnt: Callable[[str], list[str | tuple[str, Sequence[int]]]] = lambda text: [text],
) -> tuple[Word, ...]:
    """The words of a prompt's parts.

    `learnt` divides a text at words with embeddings of their own, and has their ids.
    """
    found: list[Word] = []
    for segment in segments:
        breaks = segment.breaks
        for piece in learnt(segment.text):
            if isinstance(piece, str):
                ids = tokenizer.encode(piece)[0]
                at = 0
                for text, count in words_of(ids, tokenizer):
                    found.append(Word(tuple(ids[at : at + count]), text, segment.weight, breaks))
                    at, breaks = at + count, False
            else:
                found.append(Word(tuple(piece[1]), piece[0], segment.weight, breaks))
                breaks = False
    return tuple(found)


def rows_of(words: Sequence[Word], tokenizer: Tokenizer, context_length: int, pad_id: int, long: LongPrompts) -> Rows:
    """A prompt's words as rows. Raises `ConditioningError` for a prompt that is too long where `long` is "error"."""
    room = tokenizer.room(context_length)
    tokens = [(i, word.weight) for word in words for i in word.ids]
    if long == "chunk":
        chunks, places = _chunks(words, room)
    else:
        chunks, places = [tokens[:room]], _places_in_first(words, room)
    placed = tuple(replace(word, chunk=chunk) for word, chunk in zip(words, places, strict=True))
    cut = tuple(word.text for word in placed if word.chunk is None)
    if len(chunks) > MOST_CHUNKS:
        raise ConditioningError(
            f"the prompt has {len(chunks)} chunks of {room} tokens; expected at most {MOST_CHUNKS}: shorten it"
        )
    if long == "error" and cut:
        raise ConditioningError(
            f"the prompt has {len(tokens) + tokenizer.format.added} tokens, start and end included, and one chunk has "
            f"{context_length}: shorten it, or choose long='chunk' or 'truncate'"
        )
    ids = np.full((len(chunks), context_length), pad_id, np.int32)
    weights = np.ones(ids.shape, np.float32)
    first = 0 if tokenizer.start_id is None else 1
    for row, weight, chunk in zip(ids, weights, chunks, strict=True):
        end = first + len(chunk)
        if tokenizer.start_id is not None:
            row[0] = tokenizer.start_id
        row[first:end] = [i for i, _ in chunk]
        weight[first:end] = [w for _, w in chunk]
        if tokenizer.end_id is not None:
            row[end] = tokenizer.end_id
    return Rows(ids, weights, placed, cut)


def _chunks(words: Sequence[Word], room: int) -> tuple[list[list[tuple[int, float]]], list[int | None]]:
    """The ids and weights of each chunk, and in which one each word begins."""
    chunks: list[list[tuple[int, float]]] = [[]]
    places: list[int | None] = []
    for word in words:
        whole = len(word.ids) <= min(LONGEST_WHOLE_WORD, room)
        full = len(chunks[-1]) + (len(word.ids) if whole else 1) > room
        if chunks[-1] and (word.breaks or full):
            chunks.append([])
        places.append(len(chunks) - 1)
        for i in word.ids:
            if len(chunks[-1]) == room:
                chunks.append([])
            chunks[-1].append((i, word.weight))
    return chunks, places


def _places_in_first(words: Sequence[Word], room: int) -> list[int | None]:
    """0 for the words that are whole in the first chunk, None for those that are not."""
    places: list[int | None] = []
    at = 0
    for word in words:
        at += len(word.ids)
        places.append(0 if at <= room else None)
    return places
