"""Texts of requests to token ids, within limits that are checked before a text is looked at, and beside the event loop.

Cleaning and tokenizing takes 0.7 us for a character of plain ASCII, up to 28 us for one of odd scripts (measured with
the longest texts that a server takes), and several times that where a text is split. So characters are counted first,
and what is more than a line is tokenized in a thread of its own: a large request waits there behind others, and nobody
waits for it. Knows a tokenizer and limits; no encoder and no routes.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from tandem.defaults import LongTexts
from tandem.errors import TextError
from tandem.long_texts import TextParts, split_texts
from tandem.serve.encoding.batching import QueueFullError
from tandem.serve.http import text_limits
from tandem.serve.http.problems import too_many_tokens
from tandem.serve.settings import Settings
from tandem.tokenizer import Tokenizer

AT_ONCE = 256  # characters that are tokenized at once: at most a few milliseconds
MAX_WAITING = 64  # requests whose texts wait for the thread
NOT_ASCII = 10  # what a character outside ASCII counts for
SPLIT = 5  # what a character of a text that has to be split counts for

Row = NDArray[np.int32]
_Result = TypeVar("_Result")


class TextReader:
    """The texts of requests. `names` in the methods are what errors call them."""

    def __init__(self, tokenizer: Tokenizer, context_length: int, settings: Settings) -> None:
        self.tokenizer = tokenizer
        self.context_length = context_length
        self.pending = 0
        self._settings = settings
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tandem-tokenize")

    def close(self) -> None:
        self._thread.shutdown(cancel_futures=True)

    def check(self, texts: Sequence[str], names: Sequence[str], long: LongTexts = "error") -> None:
        """Raises `ProblemError` 413 for more than the server takes at once."""
        text_limits.check_number(len(texts), self._settings)
        text_limits.check_lengths(texts, names, self._settings)
        count = sum(self._weight(text, long) for text in texts)
        how = f", of which one outside ASCII counts as {NOT_ASCII}, and one of a text to split as {SPLIT}"
        text_limits.check_together(count, "all texts together, in their templates", self._settings, how)

    async def rows(self, texts: Sequence[str], names: Sequence[str], *, truncate: bool = False) -> list[Row]:
        """Token ids of each text [t], start and end included. Raises `ProblemError` as `check`, and 422."""
        self.check(texts, names)

        def tokenized() -> list[Row]:
            try:
                return list(self.tokenizer(texts, self.context_length, truncate))
            except TextError:  # which tells users of Python what to do
                for text, name in zip(texts, names, strict=True):
                    if (count := self._count([text])) > self.context_length:
                        raise too_many_tokens(name, count, self.context_length) from None
                raise

        return await self._run(texts, tokenized)

    async def parts(self, texts: Sequence[str], names: Sequence[str]) -> TextParts:
        """Texts of any length in parts that the model takes. Raises `ProblemError` as `check`."""
        self.check(texts, names, "split")
        return await self._run(texts, lambda: split_texts(texts, self.tokenizer, self.context_length))

    async def token_count(self, texts: Sequence[str], long: LongTexts = "error") -> int:
        """Of all texts together, start and end included, as far as they are read."""
        most = self.context_length if long == "truncate" else None
        return await self._run(texts, lambda: self._count(texts, most))

    async def run(self, texts: Sequence[str], work: Callable[[], _Result]) -> _Result:
        """The result of other work with texts, after `check`."""
        self.check(texts, ["texts"] * len(texts))
        return await self._run(texts, work)

    def _count(self, texts: Sequence[str], most: int | None = None) -> int:
        counts = (len(ids) + self.tokenizer.format.added for ids in self.tokenizer.encode(texts))
        return sum(count if most is None else min(count, most) for count in counts)

    def _weight(self, text: str, long: LongTexts) -> int:
        plain = len(text) if text.isascii() else NOT_ASCII * len(text)
        return SPLIT * plain if long == "split" and len(text) > self.context_length else plain

    async def _run(self, texts: Sequence[str], work: Callable[[], _Result]) -> _Result:
        if sum(map(len, texts)) <= AT_ONCE:
            return work()
        if self.pending >= MAX_WAITING:
            raise QueueFullError(f"the texts of {self.pending:,} requests wait to be read")
        self.pending += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        finally:
            self.pending -= 1
