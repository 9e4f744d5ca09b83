"""Vectors in JSON documents: the same bits again, and no more memory than they are worth."""

import base64
import zlib

import numpy as np
import pytest

from tandem.scores.packed_vectors import pack, unpack

VECTORS = np.random.default_rng(0).integers(-127, 128, (5, 8)).astype(np.int8)


def test_the_vectors_come_back_bit_for_bit() -> None:
    assert np.array_equal(unpack(pack(VECTORS)), VECTORS)
    assert unpack(pack(np.zeros((0, 8), np.int8))).shape == (0, 8)


def test_documents_of_before_are_read() -> None:
    plain = {"dimensions": 8, "vectors": base64.b64encode(VECTORS.tobytes()).decode()}
    assert np.array_equal(unpack(plain), VECTORS)


@pytest.mark.slow
def test_what_is_no_such_document_is_refused() -> None:
    whole = pack(VECTORS)
    raw = base64.b64decode(whole["vectors"])
    bomb = zlib.compress(bytes(80 << 20), 9)
    for content in (raw[:-3], raw + b"x", b"nothing deflated", bomb):
        with pytest.raises(ValueError, match="vectors: "):
            unpack({**whole, "vectors": base64.b64encode(content).decode()})
    with pytest.raises(ValueError, match="compression: expected zlib, got 'xz'"):
        unpack({**whole, "compression": "xz"})
    with pytest.raises(ValueError, match="reshape"):
        unpack({**whole, "dimensions": 7})
