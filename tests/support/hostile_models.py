"""Weights, configurations and tokenizers that ask for far more than a model does, written as files."""

import base64
import io
import json
import os
import pickle
import shutil
import socket
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

_MAGIC = 0x1950A86A20F9469CFC6C
_KEY = b"X\1\0\0\0a"


def load(path: str) -> list[str]:
    """What the bounded process does with a model: read it, and tokenize a text."""
    from tandem import weights

    checkpoint = weights.read(Path(path))
    checkpoint.tokenizer("a cat", checkpoint.config.text.context_length)
    return sorted(checkpoint.tensors)


def split(characters: str) -> int:
    """A text without spaces, in the parts that a model reads."""
    from tandem.long_texts import split_texts
    from tandem.tokenizer import Tokenizer

    return len(split_texts(["a" * int(characters)], Tokenizer.clip(), 77).ids)


# --- files of torch ------------------------------------------------------------------------------------------------


def zipped(program: bytes, storage: bytes = bytes(64), kind: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", kind) as archive:
        archive.writestr("a/data.pkl", program)
        archive.writestr("a/data/0", storage)
    return file.getvalue()


def legacy(program: bytes, storage: bytes = bytes(64)) -> bytes:
    """As torch wrote files before 1.6."""
    parts = [pickle.dumps(_MAGIC, 2), pickle.dumps(1001, 2), pickle.dumps({"little_endian": True}, 2), program]
    return b"".join(parts) + pickle.dumps(["0"], 2) + struct.pack("<q", len(storage) // 4) + storage


def text(name: str) -> bytes:
    return b"X" + struct.pack("<I", len(name)) + name.encode()


def _number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def _tensor(count: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> bytes:
    """The instructions that build a tensor over storage 0."""
    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + _number(count) + b"tQ"
    sizes, steps = (b"(" + b"".join(map(_number, values)) + b"t" for values in (shape, strides))
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + _number(0) + sizes + steps + b"\x89NtR"


def _views(count: int, side: int) -> bytes:
    """Tensors that all lie, turned, over one storage: each would become a copy."""
    turned = _tensor(side * side, (side, side), (1, side))
    return b"\x80\x02}(" + b"".join(text(f"w{i}") + turned for i in range(count)) + b"u."


def _shared_key(width: int, levels: int) -> bytes:
    """A key of tuples that hold the same tuple again and again."""
    program = b"}N\x85q\1"
    for _ in range(levels):
        program += b"0(" + b"h\1" * width + b"tq\1"
    return b"\x80\x02" + program + b"Ns."


def _long_names(levels: int) -> bytes:
    """Modules inside modules, each under a name of 100 kB that is written once."""
    program = b"\x80\x02" + text("n" * 100_000) + b"q\x01" + b"0c__torch__\nM\nq\x02)\x81"
    return program + b"}(h\1h\2)\x81" * levels + b"}b" + b"ub" * levels + b"."


def _torchscript(program: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a/data.pkl", program)
        archive.writestr("a/constants.pkl", b")\x81.")
    return file.getvalue()


def _directory(size: int) -> bytes:
    """An archive whose list of entries is said to be so long."""
    content = zipped(b"}.")
    at = content.rindex(b"PK\5\6") + 12
    return content[:at] + struct.pack("<I", size) + content[at + 4 :]


_DEEP_KEY = b"\x80\x02}N" + b"\x85" * 300_000 + b"Ns."

# A program and words that its refusal has; each in both containers
PROGRAMS: dict[str, tuple[Callable[[], bytes], str]] = {
    "a description of 20 MB": (lambda: b"}" + b"B" + struct.pack("<I", 2 * 10**7) + bytes(2 * 10**7) + b"0.", ""),
    "a million instructions": (lambda: b"}" + b"N0" * 500_000 + b".", "instructions"),
    "a key of deep tuples": (lambda: _DEEP_KEY, "inside each other"),
    "a key of shared tuples": (lambda: _shared_key(1000, 12), "a container of more than"),
    "deep lists": (lambda: b"\x80\x02" + b"](" * 100_000 + b"e" * 100_000 + b".", "inside each other"),
    "many keys of tuples": (
        lambda: b"\x80\x02(" + b"N" * 100_000 + b"tq\1" + b"0" + b"}h\1Ns0" * 70_000 + b"}.",
        "keys of more than",
    ),
    "a memo slot": (lambda: b"\x80\x02}r" + struct.pack("<I", 2**31 - 1) + b".", "memo slot"),
    "views that overlap": (lambda: _views(2000, 4), ""),
    "a tensor of many dimensions": (
        lambda: b"\x80\x02}" + text("w") + _tensor(16, (1,) * 60, (1,) * 60) + b"s.",
        "60 dimensions",
    ),
    "a tensor outside its storage": (
        lambda: b"\x80\x02}" + text("w") + _tensor(16, (2**30, 2**30), (0, 0)) + b"s.",
        "storage of 16",
    ),
    "nothing on the stack": (lambda: b"\x80\x02s.", "without its values"),
    "no mark": (lambda: b"\x80\x02}u.", "without its mark"),
    "a number of many digits": (lambda: b"L" + b"9" * 1_000_000 + b"L\n.", ""),
    "a foreign name": (lambda: b"\x80\x02cposix\nsystem\n.", "posix.system"),
}

ARCHIVES: dict[str, tuple[Callable[[], bytes], str]] = {
    "a compressed pickle": (lambda: zipped(b"}" + b"N0" * 10**6 + b".", kind=zipfile.ZIP_DEFLATED), "is compressed"),
    "views of a megabyte": (lambda: zipped(_views(2000, 512), bytes(4 * 512 * 512)), "that overlap in"),
    "names of megabytes": (lambda: _torchscript(_long_names(10)), "nested in themselves"),
    "a directory of gigabytes": (lambda: _directory(2**31), "too many for a checkpoint"),
}


# --- safetensors -----------------------------------------------------------------------------------------------------


def safetensors(header: bytes | dict[str, Any], data: bytes = bytes(64)) -> bytes:
    encoded = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(encoded)) + encoded + data


def _entry(shape: object = (2,), offsets: object = (0, 8), dtype: object = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


SAFETENSORS: dict[str, tuple[Callable[[], bytes], str]] = {
    "a header of 90 MB": (lambda: safetensors(b'{"a":' + b"[]," * 30_000_000 + b"}"), "expected at most"),
    "a header of many lists": (lambda: safetensors(b'{"a":[' + b"[]," * 2_000_000 + b"[]]}"), "damaged"),
    "a deep header": (lambda: safetensors(b'{"a":' * 100_000), "damaged"),
    "a name twice": (lambda: safetensors(b'{"a":{},"a":{}}'), "'a' comes twice"),
    "a key twice": (
        lambda: safetensors(b'{"a":{"dtype":"F32","shape":[2],"shape":[1],"data_offsets":[0,8]}}'),
        "'shape' comes twice",
    ),
    "ranges that overlap": (lambda: safetensors({"a": _entry(), "b": _entry(offsets=(4, 12))}), "a and b overlap"),
    "the same range": (lambda: safetensors({"a": _entry(), "b": _entry()}), "overlap"),
    "a number without end": (
        lambda: safetensors(b'{"a":{"dtype":"F32","shape":[1e999],"data_offsets":[0,8]}}'),
        "impossible",
    ),
    "a fraction": (lambda: safetensors({"a": _entry(shape=(2.0,))}), "impossible"),
    "a truth": (lambda: safetensors({"a": _entry(shape=(True, 2))}), "impossible"),
    "a text": (lambda: safetensors({"a": _entry(shape=("2",))}), "impossible"),
    "a negative number": (lambda: safetensors({"a": _entry(shape=(-2,))}), "impossible"),
    "many dimensions": (lambda: safetensors({"a": _entry(shape=[1] * 60, offsets=(0, 4))}), "impossible"),
    "huge dimensions": (lambda: safetensors({"a": _entry(shape=[2**40] * 6)}), "expected"),
    "none of huge dimensions": (
        lambda: safetensors({"a": _entry(shape=[0, 2**47, 2**47], offsets=(0, 0))}),
        "impossible",
    ),
    "a million dimensions": (lambda: safetensors({"a": _entry(shape=[2**40] * 500_000)}), "impossible"),
    "a number of many digits": (lambda: safetensors(b'{"a":' + b"9" * 1_000_000 + b"}"), "damaged"),
    "an offset past the file": (lambda: safetensors({"a": _entry(shape=(2**40,), offsets=(0, 2**42))}), "truncated"),
}


# --- configurations and tokenizers, in a folder -----------------------------------------------------------------------


def _changed(name: str, change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        plain = json.loads((folder / name).read_text())
        change(plain)
        (folder / name).write_text(json.dumps(plain))

    return write


def _config(part: str, key: str, value: object) -> Callable[[Path], None]:
    return _changed("config.json", lambda plain: plain[part].update({key: value}))


def _tokenizer(normalizer: object = None, pre_tokenizer: object = None) -> Callable[[Path], None]:
    """A tokenizer of words with these steps."""
    words = {"<|startoftext|>": 0, "<|endoftext|>": 1, "a": 2}
    plain = {
        **dict.fromkeys(("truncation", "padding", "post_processor", "decoder")),
        "version": "1.0",
        "added_tokens": [],
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "model": {"type": "WordLevel", "vocab": words, "unk_token": "a"},
    }
    return lambda folder: (folder / "tokenizer.json").write_text(json.dumps(plain)) and None


def _replace(pattern: object, content: str) -> dict[str, object]:
    return {"type": "Replace", "pattern": pattern, "content": content}


def _sequence(*steps: object) -> dict[str, object]:
    return {"type": "Sequence", "normalizers": list(steps)}


def _charsmap(table: bytes) -> dict[str, object]:
    return {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(table).decode()}


def _logits(value: float) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        import numpy as np

        from tandem.weights.safetensors_file import read_safetensors, write_safetensors

        tensors, metadata = read_safetensors(folder / "model.safetensors")
        changed = {name: np.array(each) for name, each in tensors.items()} | {"logit_scale": np.float32(value)}
        (folder / "model.safetensors").unlink()
        write_safetensors(folder / "model.safetensors", changed, metadata)

    return write


FOLDERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a configuration of 100 MB": (
        lambda folder: (folder / "config.json").write_bytes(b"[" + b"[]," * 33_000_000 + b"[]]"),
        "expected JSON of at most",
    ),
    "a deep configuration": (lambda folder: (folder / "config.json").write_bytes(b'{"a":' * 100_000), "expected JSON"),
    "a configuration of digits": (
        lambda folder: (folder / "config.json").write_bytes(b'{"a":' + b"9" * 100_000 + b"}"),
        "expected JSON",
    ),
    "a billion layers": (_config("vision", "layers", 10**9), "vision.layers: expected"),
    "a thousand layers": (_config("text", "layers", 1000), "do not fit the configuration"),
    "an image of a gigapixel": (_config("vision", "image_size", 2**15), "image_size: expected"),
    "a width of a million": (_config("text", "width", 2**20), "do not fit the configuration"),
    "a vocabulary of millions": (_config("text", "vocabulary_size", 2**24), "do not fit the configuration"),
    "a context of millions": (_config("text", "context_length", 2**24), "do not fit the configuration"),
    "a size that is no number": (_config("text", "width", float("nan")), "text.width: expected"),
    "a scale that is no number": (_logits(float("nan")), "logit_scale: expected"),
    "an infinite scale": (_logits(float("inf")), "logit_scale: expected"),
    "a huge scale": (_logits(88.0), "logit_scale: expected"),
    "a text that doubles": (
        _tokenizer(_sequence(*[_replace({"String": "a"}, "aa")] * 40)),
        "make texts more than 4 times as long",
    ),
    "a text that doubles by a pattern": (
        _tokenizer(_sequence(*[_replace({"Regex": "."}, "aa")] * 40)),
        "make texts more than 4 times as long",
    ),
    "a text that doubles deep inside": (
        _tokenizer(_sequence(_sequence(_sequence(*[_replace({"String": "a"}, "aa")] * 20), *[{"type": "NFC"}] * 3))),
        "make texts more than 4 times as long",
    ),
    "a pattern of nothing": (_tokenizer(_replace({"Regex": "x*"}, " ")), "matches where nothing is"),
    "a million steps": (_tokenizer(_sequence(*[{"type": "Lowercase"}] * 100_000)), "at most 64 steps"),
    "a long beginning": (_tokenizer({"type": "Prepend", "prepend": "a" * 1_000_000}), "times as long"),
    "a table with a false length": (_tokenizer(_charsmap(struct.pack("<I", 0xFFFFFF00) + bytes(8))), "another length"),
    "a table of nothing": (_tokenizer(_charsmap(b"")), "another length"),
    "a pattern without end": (
        _tokenizer(
            pre_tokenizer={"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Removed", "invert": False}
        ),
        "may never end",
    ),
    "a tokenizer of 100 MB": (
        lambda folder: (folder / "tokenizer.json").write_bytes(b'{"a":"' + b"x" * 100_000_000 + b'"}'),
        "at most 67,108,864 bytes",
    ),
    "a tokenizer of lists": (
        lambda folder: (folder / "tokenizer.json").write_bytes(b'{"a":[' + b"1," * 6_000_000 + b"1]}"),
        "at most 4,000,000 values",
    ),
    "a deep tokenizer": (lambda folder: (folder / "tokenizer.json").write_bytes(b'{"a":' * 100_000), "tokenizer.json"),
}


# --- what is no file -------------------------------------------------------------------------------------------------


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        here = os.getcwd()
        os.chdir(path.parent)  # the name of a socket may have 107 characters
        try:
            made.bind(path.name)
        finally:
            os.chdir(here)


def _inside(name: str, make: Callable[[Path], object]) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / name).unlink()
        make(folder / name)

    return write


SPECIAL: dict[str, Callable[[Path], object]] = {
    "a pipe": os.mkfifo,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a socket": _socket,
}
SPECIAL_INSIDE = {
    f"{what} as {name}": _inside(name, make)
    for what, make in SPECIAL.items()
    for name in ("config.json", "model.safetensors", "tokenizer.json")
}


def copied(model: Path, to: Path) -> Path:
    """A model folder that may be changed."""
    return Path(shutil.copytree(model, to))
