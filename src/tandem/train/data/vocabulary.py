"""A small byte-level BPE vocabulary learnt from the texts of a training set, in the style of CLIP's.

Knows texts and merges; no model, no files.
"""

import json
from collections.abc import Iterable

from tandem import bpe
from tandem.errors import DataError
from tandem.tokenizer import TextFormat, Tokenizer
from tandem.tokenizer.cleaning import clean

_FIXED = 2 * 256 + 2  # bytes, bytes that end a word, start, end


def train_bpe(texts: Iterable[str], vocabulary_size: int) -> Tokenizer:
    """A tokenizer of exactly `vocabulary_size` entries; start and end are the last two, padding is 0.

    The same texts in the same order give the same tokenizer. Raises `DataError` if the texts are too few for
    so large a vocabulary.
    """
    if vocabulary_size <= _FIXED:
        raise DataError(
            f"vocabulary_size: expected more than {_FIXED} (each byte has two entries), got {vocabulary_size}"
        )
    from tokenizers import trainers

    symbols = bpe.byte_symbols()
    core = bpe.core(bpe.from_merges([]))
    # Symbols that end a word are numbered in hash order unless they are given, and ties between merges would then fall
    # differently in every run. The trainer accepts them as special tokens only.
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        min_frequency=2,
        show_progress=False,
        initial_alphabet=symbols,
        end_of_word_suffix=bpe.END_OF_WORD,
        special_tokens=[symbol + bpe.END_OF_WORD for symbol in symbols] + [bpe.START, bpe.END],
    )
    core.train_from_iterator(map(clean, texts), trainer)
    learnt = bpe.from_json(json.loads(core.to_str()), "the trained vocabulary")
    assert learnt is not None
    table = bpe.from_merges(learnt.merges)
    if len(table.vocabulary) != vocabulary_size:
        raise DataError(
            f"the texts give a vocabulary of {len(table.vocabulary)} entries (pairs seen twice or more), not "
            f"{vocabulary_size}: ask for fewer, or add texts"
        )
    return Tokenizer(table, TextFormat(table.vocabulary[bpe.START], table.vocabulary[bpe.END]))
