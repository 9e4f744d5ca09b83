"""Added tokens, one of which begins with another."""

import pytest
from support import weights_toys as toys

from tandem import bpe
from tandem.tokenizer.clip_vocabulary import ClipVocabulary
from tandem.tokenizer.text_format import TextFormat


@pytest.mark.parametrize("names", [("<x>", "<x>y", "<x>yz"), ("<x>yz", "<x>y", "<x>")])
def test_the_longest_added_token_counts(names: tuple[str, ...]) -> None:
    table = bpe.from_merges(toys.MERGES)
    size = len(table.vocabulary)
    added = {**table.added, **{name: size + i for i, name in enumerate(names)}}
    vocabulary = ClipVocabulary(bpe.Table(table.vocabulary, table.merges, added)).formatted(TextFormat(None, None))
    for name in names:
        assert vocabulary.encode([name]) == [[added[name]]]
    assert vocabulary.encode(["<x>yzz"]) == [[added["<x>yz"], *vocabulary.encode(["z"])[0]]]
