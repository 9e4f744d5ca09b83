"""Words of prompts with embeddings of their own: which ids they have, and where they are in a text.

Their ids follow those of the vocabulary, in the order of the inversions. Shapes: m vectors of all words, w width.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from tandem.arrays import Vectors
from tandem.conditioning.inversions import TextualInversion, pattern_of

Piece = str | tuple[str, Sequence[int]]  # a text of the tokenizer's, or a learnt word and its ids


@dataclass(frozen=True, eq=False)
class LearntWords:
    """Inversions as one text tower takes them; without any, of no words."""

    inversions: tuple[TextualInversion, ...] = ()
    ids: Mapping[str, tuple[int, ...]] = field(default_factory=dict)  # by word, in lower case
    vectors: Vectors | None = None  # [m w]

    def divide(self, text: str) -> list[Piece]:
        """A text divided at learnt words."""
        pattern = pattern_of(self.inversions)
        if pattern is None:
            return [text]
        pieces: list[Piece] = []
        at = 0
        for match in pattern.finditer(text):
            if before := text[at : match.start()].strip():
                pieces.append(before)
            pieces.append((match["word"], self.ids[match["word"].lower()]))
            at = match.end()
        if rest := text[at:].strip():
            pieces.append(rest)
        return pieces


def learnt_words(
    inversions: Iterable[TextualInversion], vocabulary_size: int, chosen: Callable[[TextualInversion], Vectors]
) -> LearntWords:
    """The words of inversions, with the vectors that `chosen` gives for each."""
    words = tuple(inversions)
    vectors = [chosen(each) for each in words]
    ids = {}
    at = vocabulary_size
    for word, some in zip(words, vectors, strict=True):
        ids[word.token.lower()] = tuple(range(at, at + len(some)))
        at += len(some)
    return LearntWords(words, ids, np.concatenate(vectors) if vectors else None)
