"""The batches of a run, by step, prepared in worker processes."""

from collections.abc import Iterator

from tandem.tokenizer import Tokenizer
from tandem.train.data.batch import Batch
from tandem.train.recipe import Recipe


class Loader:
    """This process's share of every step's batch. Raises `DataError` where the training sets cannot be read."""

    def __init__(self, recipe: Recipe, tokenizer: Tokenizer, *, rank: int = 0, processes: int = 1) -> None:
        self.recipe, self.tokenizer, self.rank, self.processes = recipe, tokenizer, rank, processes

    def stream(self, start: int, stop: int) -> Iterator[Batch]:
        """The batches of the steps, in order; made ahead of their use in `recipe.workers` processes (0: here)."""
        raise NotImplementedError

    def batch(self, step: int) -> Batch:
        """The batch of one step, made here."""
        raise NotImplementedError

    def all_sentences(self) -> Iterator[str]:
        """Every distinct sentence that any batch can hold, in a fixed order: for vocabularies and teachers."""
        raise NotImplementedError

    def left_out(self) -> list[tuple[str, str]]:
        """(key, reason) of what the files hold that can never be drawn: no words, or behind a tar's damage."""
        raise NotImplementedError
