"""Files of heads: what is written is read, and nothing else is."""

import dataclasses
import errno
import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open

from tandem.errors import HeadError
from tandem.heads.head import Head
from tandem.heads.head_file import FORMAT, check_model, read_head, write_head
from tandem.weights.safetensors_file import write_safetensors

CARD = {"model": "tandem-mini", "shots": {"cat": 4, "Hund ü": 1}, "accuracy": {"value": 0.75, "n": 5}}


def a_head(**changes: Any) -> Head:
    weights = np.random.default_rng(0).normal(size=(2, 8)).astype(np.float32)
    head = Head(("cat", "Hund ü"), weights, np.array([0.5, -1], np.float32), "a" * 64, "clap", CARD)
    return dataclasses.replace(head, **changes)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    head = a_head()
    path = write_head(head, tmp_path / "mine.tandem-head")
    found = read_head(path)
    assert np.array_equal(found.weights, head.weights)
    assert np.array_equal(found.bias, head.bias)
    assert (found.classes, found.fingerprint, found.method, found.card) == (head.classes, "a" * 64, "clap", CARD)
    assert [each.name for each in tmp_path.iterdir()] == ["mine.tandem-head"]


def test_equal_heads_are_equal_bytes(tmp_path: Path) -> None:
    """The library's own metadata comes in another order each time."""
    files = [write_head(a_head(), tmp_path / f"{number}.tandem-head").read_bytes() for number in range(8)]
    assert len(set(files)) == 1
    assert safe_open(tmp_path / "0.tandem-head", "numpy").metadata()["format"] == FORMAT  # the library reads it


def test_names_in_other_scripts_and_pictures_are_names(tmp_path: Path) -> None:
    names = ("\u0645\u06cc\u200c\u0631\u0648\u062f", "\U0001f468\u200d\U0001f373")
    assert read_head(write_head(a_head(classes=names), tmp_path / "x.tandem-head")).classes == names


def test_a_full_disk_is_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(HeadError, match=r"x\.tandem-head: cannot be written: No space left on device"):
        write_head(a_head(), tmp_path / "x.tandem-head")
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_not_replaced_unasked(tmp_path: Path) -> None:
    path = write_head(a_head(), tmp_path / "mine.tandem-head")
    with pytest.raises(HeadError, match="exists already"):
        write_head(a_head(method="gda"), path)
    assert read_head(path).method == "clap"
    write_head(a_head(method="gda"), path, overwrite=True)
    assert read_head(path).method == "gda"


@pytest.mark.parametrize(
    ("name", "expected"),
    [("mine.json", "ends in .tandem-head"), ("away/mine.tandem-head", "no folder"), (".tandem-head", "ends in")],
)
def test_targets_that_cannot_be(tmp_path: Path, name: str, expected: str) -> None:
    with pytest.raises(HeadError, match=expected):
        write_head(a_head(), tmp_path / name)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"classes": ("cat", "cat")}, "there twice"),
        ({"classes": ("cat", "Cat ")}, "there twice, as 'cat'"),
        ({"classes": ("cat", "a\ud800")}, "as text in one line"),
        ({"classes": ("cat", "\x1b[31mred")}, "as text in one line"),
        ({"classes": ("cat", "a\nb")}, "as text in one line"),
        ({"classes": ("cat", "a\u202eb")}, r"as text in one line, got 'a\\u202eb'"),
        ({"classes": ("cat", "dog", "cow")}, r"expected weights \[3 d\]"),
        ({"classes": ("cat",), "weights": np.ones((1, 8), np.float32), "bias": np.ones(1, np.float32)}, "2 to 50,000"),
        ({"classes": ("cat", " ")}, "names of classes"),
        ({"classes": ("cat", "x" * 501)}, "names of classes"),
        ({"weights": np.full((2, 8), np.nan, np.float32)}, "not finite"),
        ({"weights": np.full((2, 8), 3.4e38, np.float32)}, "beyond 1,000,000,000"),  # their products are infinite
        ({"bias": np.full(2, -np.inf, np.float32)}, "not finite"),
        ({"bias": np.ones(3, np.float32)}, r"bias \[2\]"),
        ({"fingerprint": "abc"}, "64 hexadecimal"),
    ],
)
def test_heads_that_cannot_answer(tmp_path: Path, changes: dict[str, Any], expected: str) -> None:
    with pytest.raises(HeadError, match=expected) as caught:
        write_head(a_head(**changes), tmp_path / "mine.tandem-head")
    assert "\n" not in str(caught.value)


# --- files that others made ------------------------------------------------------------------------------------------


def packed(header: Any, content: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + content


def described(**changes: Any) -> dict[str, str]:
    plain = {"classes": ["a", "b"], "fingerprint": "b" * 64, "method": "gda", "card": {}}
    return {"format": FORMAT, "head": json.dumps(plain | changes)}


TENSORS = {"weights": np.ones((2, 4), np.float32), "bias": np.zeros(2, np.float32)}
INFINITE = {"weights": {"dtype": "F32", "shape": [2, 4], "data_offsets": [0, 32]}}
HOSTILE: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda path: path.write_bytes(b""), "empty"),
    "text": (lambda path: path.write_text("no head"), "not a safetensors file"),
    "pickle": (lambda path: path.write_bytes(b"\x80\x04cos\nsystem\n" * 9), "not a safetensors file"),
    "long header": (lambda path: path.write_bytes(struct.pack("<Q", 2**63) + bytes(64)), "not a safetensors file"),
    "list": (lambda path: path.write_bytes(packed([])), "expected a mapping"),
    "nested": (lambda path: path.write_bytes(packed(b"[" * 99_000)), "damaged safetensors header"),
    "beyond": (lambda path: path.write_bytes(packed(INFINITE, bytes(8))), "truncated"),
    "infinite": (
        lambda path: path.write_bytes(packed(b'{"bias":{"dtype":"F32","shape":[1e999],"data_offsets":[0,4]}}')),
        "damaged safetensors header",
    ),
    "foreign": (lambda path: write_safetensors(path, {"x": np.ones(2)}, {}), "no head"),
    "later": (lambda path: write_safetensors(path, TENSORS, {"format": "tandem-head 2"}), "'tandem-head 2'"),
    "others": (lambda path: write_safetensors(path, {"x": np.ones(2)}, described()), "the tensors weights and bias"),
    "doubles": (
        lambda path: write_safetensors(path, {k: v.astype(float) for k, v in TENSORS.items()}, described()),
        "in float32",
    ),
    "undescribed": (lambda path: write_safetensors(path, TENSORS, {"format": FORMAT}), "not JSON"),
    "not a mapping": (
        lambda path: write_safetensors(path, TENSORS, {"format": FORMAT, "head": "[1]"}),
        "expected a mapping",
    ),
    "numbers": (lambda path: write_safetensors(path, TENSORS, described(classes=[1, 2])), r"head\.classes\[0\]"),
    "no method": (lambda path: write_safetensors(path, TENSORS, described(method=None)), "head.method"),
    "one more": (lambda path: write_safetensors(path, TENSORS, described(run="rm")), "unknown key"),
    "three classes": (
        lambda path: write_safetensors(path, TENSORS, described(classes=["a", "b", "c"])),
        r"expected weights \[3 d\]",
    ),
    "flat": (
        lambda path: write_safetensors(path, TENSORS | {"weights": np.ones(2, np.float32)}, described()),
        "weights",
    ),
    "folder": (lambda path: path.mkdir(), "got a folder"),
    "nothing": (lambda path: None, "no such file"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_others_are_refused_in_a_line(tmp_path: Path, name: str) -> None:
    make, expected = HOSTILE[name]
    path = tmp_path / "x.tandem-head"
    make(path)
    with pytest.raises(HeadError, match=expected) as caught:
        read_head(path)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(path))
    assert len(str(caught.value)) < len(str(path)) + 300


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    whole = write_head(a_head(), tmp_path / "whole.tandem-head").read_bytes()
    path = tmp_path / "cut.tandem-head"
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(HeadError):
            read_head(path)


def test_a_large_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "x.tandem-head"
    with path.open("wb") as file:
        file.truncate(300 * 2**20)  # a hole, no bytes
    with pytest.raises(HeadError, match="at most 256 MB"):
        read_head(path)


def test_another_model_is_refused_by_both_names() -> None:
    check_model(a_head(), name="tandem-mini", fingerprint="a" * 64)
    with pytest.raises(HeadError, match=r"of?.*tandem-mini \(fingerprint a{12}\), got ViT-B/32 \(b{12}\)"):
        check_model(a_head(), name="ViT-B/32", fingerprint="b" * 64)
