"""What a run reports while it goes on. Plain values."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Judged:
    """A judgement after `step` steps, by views that guidance never takes.

    `similarity` is the cosine with the prompt, `rank` the prompt's among `among` texts, the prompt counted, and `best`
    the text that comes first. A run toward pictures alone has no text to rank: `rank` is None, `best` empty.
    """

    step: int
    similarity: float
    rank: int | None
    among: int
    best: str
