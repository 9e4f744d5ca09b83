"""Damaged files for each reader, drawn from a seed; what a reader makes of them must be an error of ours, or a value.

`tests/hostile/corpus` keeps every case that ever ended in anything else.
"""

import io
import json
import pickle
import random
import shutil
import struct
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image

from support import toy
from support.hostile_images import REFUSED, encoded
from support.hostile_models import _tensor, legacy, safetensors, text, zipped
from tandem.errors import TandemError

CORPUS = Path(__file__).parents[1] / "hostile" / "corpus"
_NUMBERS = (0, 1, -1, 2**15, 2**31, 2**32 - 1, 2**48, 2**63, 10**40, 0.5, -1e308, 1e999)


# --- damage ----------------------------------------------------------------------------------------------------------


def damaged(content: bytes, chance: random.Random) -> bytes:
    """Bits turned, bytes changed, numbers made huge, parts lost, repeated or moved."""
    made = bytearray(content)
    for _ in range(chance.randrange(1, 5)):
        at = chance.randrange(len(made)) if made else 0
        match chance.randrange(6):
            case 0:
                made[at : at + 1] = bytes([chance.randrange(256)])
            case 1 if made:
                made[at] ^= 1 << chance.randrange(8)
            case 2:
                made[at : at + 4] = struct.pack("<I", chance.choice((0, 1, 2**16, 2**31 - 1, 2**32 - 1)))
            case 3:
                del made[at : at + chance.randrange(1, 20)]
            case 4:
                made[at:at] = made[at : at + chance.randrange(1, 30)] * chance.randrange(1, 4)
            case _:
                if chance.random() < 0.2:
                    del made[at:]
    return bytes(made)


def changed(value: Any, chance: random.Random) -> Any:
    """A JSON document with a value or two of another kind somewhere in it."""
    places: list[tuple[Any, Any]] = []

    def visit(inside: Any) -> None:
        for key in inside if isinstance(inside, dict) else range(len(inside)):
            places.append((inside, key))
            if isinstance(inside[key], dict | list) and len(places) < 2000:
                visit(inside[key])

    visit(value)
    for _ in range(chance.randrange(1, 4)):
        inside, key = chance.choice(places)
        kinds = [None, True, "", "a" * 50, [], {}, [[]], {"type": "Sequence"}, *_NUMBERS]
        if chance.random() < 0.15 and isinstance(inside, dict):
            inside.pop(key, None)
        else:
            inside[key] = chance.choice(kinds)
    return value


# --- readers ---------------------------------------------------------------------------------------------------------


@cache
def _model() -> Path:
    return toy.folder(Path(tempfile.mkdtemp(prefix="tandem-fuzz-")) / "model")


@cache
def _programs() -> tuple[bytes, ...]:
    turned = b"\x80\x02}(" + text("w") + _tensor(16, (4, 4), (1, 4)) + text("v") + _tensor(16, (16,), (1,)) + b"u."
    return turned, pickle.dumps({"state_dict": {"a": [1, (2, 3)]}, "b": {4}}, 4), pickle.dumps([(), {}, {"a": b"b"}], 0)


def _opcodes(chance: random.Random) -> bytes:
    """Instructions in any order, with plausible arguments."""
    parts = (b"(", b")", b"]", b"}", b"N", b"0", b"2", b"a", b"e", b"s", b"u", b"t", b"\x85", b"\x86", b"R", b"b", b"Q")
    parts += (
        b"q\0",
        b"h\0",
        b"q\1",
        b"h\1",
        b"\x94",
        b"K\5",
        b"J\xff\xff\xff\x7f",
        text("w"),
        b"\x8f",
        b"\x90",
        b"\x81",
    )
    parts += (b"ctorch._utils\n_rebuild_tensor_v2\n", b"ctorch\nFloatStorage\n", b"ccollections\nOrderedDict\n")
    parts += (
        b"cbuiltins\nset\n",
        b"ctorch\nSize\n",
        b"c__torch__\nM\n",
        _tensor(16, (4,), (1,)),
        b"i",
        b"o",
        b"d",
        b"l",
    )
    return b"\x80\x02" + b"".join(chance.choices(parts, k=chance.randrange(1, 40))) + b"."


def _pickle(chance: random.Random) -> bytes:
    program = _opcodes(chance) if chance.random() < 0.5 else damaged(chance.choice(_programs()), chance)
    return (zipped if chance.random() < 0.5 else legacy)(program)


def _zip(chance: random.Random) -> bytes:
    return damaged(zipped(_programs()[0]), chance)


def _safetensors(chance: random.Random) -> bytes:
    whole = (_model() / "model.safetensors").read_bytes()
    start = 8 + int.from_bytes(whole[:8], "little")
    if chance.random() < 0.5:
        return damaged(whole[:start], chance) + whole[start:]
    return safetensors(changed(json.loads(whole[8:start]), chance), whole[start:])


def _read_file(content: bytes, folder: Path) -> None:
    from tandem.weights.tensor_files import read_tensor_file

    (folder / "a.bin").write_bytes(content)
    read_tensor_file(folder / "a.bin")


def _configuration(chance: random.Random) -> bytes:
    whole = (_model() / "config.json").read_bytes()
    return damaged(whole, chance) if chance.random() < 0.3 else json.dumps(changed(json.loads(whole), chance)).encode()


def _read_configuration(content: bytes, folder: Path) -> None:
    from tandem import weights

    for name in ("model.safetensors", "tokenizer.json"):
        if not (folder / name).exists():
            shutil.copy(_model() / name, folder / name)
    (folder / "config.json").write_bytes(content)
    weights.read(folder)


def _tokenizer(chance: random.Random) -> bytes:
    steps = [{"type": "NFC"}, {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "}, {"type": "Lowercase"}]
    words = {"type": "WordLevel", "vocab": {"<|startoftext|>": 0, "<|endoftext|>": 1, "a": 2, "b": 3}, "unk_token": "a"}
    pieces = {"type": "Unigram", "vocab": [["<|startoftext|>", 0], ["<|endoftext|>", 0], ["a", -1.5]], "unk_id": 2}
    plain = {
        **dict.fromkeys(("truncation", "padding", "decoder", "post_processor")),
        "version": "1.0",
        "added_tokens": [{"id": 2, "content": "a", **dict.fromkeys(("single_word", "lstrip", "rstrip"), False)}],
        "normalizer": {"type": "Sequence", "normalizers": steps},
        "pre_tokenizer": {"type": "Metaspace", "replacement": "_", "prepend_scheme": "always", "split": True},
        "model": chance.choice([words, pieces]),
    }
    plain["added_tokens"][0] |= {"normalized": False, "special": True}  # type: ignore[index]
    written = json.dumps(changed(plain, chance)).encode()
    return damaged(written, chance) if chance.random() < 0.2 else written


def _read_tokenizer(content: bytes, folder: Path) -> None:
    from tandem.tokenizer import Tokenizer

    (folder / "tokenizer.json").write_bytes(content)
    tokenizer = Tokenizer.from_folder(folder)
    if tokenizer is not None:
        tokenizer(["a cat", "", "\u00e9\u4e16" * 20, "a" * 100], 400)
        tokenizer.to_json()


@cache
def _images() -> tuple[bytes, ...]:
    kinds = ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "ICO", "PPM")
    small = [encoded(kind, (24, 16)) for kind in kinds]
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112], exif[0x0132] = 6, "2020:01:01 00:00:00"
    Image.new("RGB", (24, 16)).save(file, "JPEG", exif=exif)
    crafted = ("an icon that holds a huge BMP", "a TIFF of floats", "a TIFF of huge tiles", "a WebP canvas")
    return (*small, file.getvalue(), *(REFUSED[name][0]() for name in crafted))


def _image(chance: random.Random) -> bytes:
    return damaged(chance.choice(_images()), chance)


def _read_image(content: bytes, folder: Path) -> None:
    from tandem.config import Preprocessing
    from tandem.image import Limits, decode
    from tandem.pixels import preprocess
    from tandem.search.indexing.image_record import describe

    decoded = decode(content, limits=Limits(max_pixels=1_000_000, slow_formats=False))
    preprocess(decoded.image, Preprocessing(16))
    describe(decoded.image, content)


READERS: dict[str, tuple[Callable[[random.Random], bytes], Callable[[bytes, Path], None]]] = {
    "pickle": (_pickle, _read_file),
    "zip": (_zip, _read_file),
    "safetensors": (_safetensors, _read_file),
    "configuration": (_configuration, _read_configuration),
    "tokenizer": (_tokenizer, _read_tokenizer),
    "image": (_image, _read_image),
}


# --- runs ------------------------------------------------------------------------------------------------------------


def run(reader: str, seed: str, count: str, keep: str = "") -> dict[str, int]:
    """Cases that were read and refused. A case that ends in anything else is raised, and kept in the folder `keep`."""
    make, read = READERS[reader]
    counts = {"read": 0, "refused": 0}
    with tempfile.TemporaryDirectory() as temporary:
        for number in range(int(count)):
            content = make(random.Random(f"{reader} {seed} {number}"))
            if keep:  # a case that ends the process is the last one that was written
                (Path(keep) / f"{reader}-{seed}-{number}").write_bytes(content)
            counts[_outcome(reader, read, content, Path(temporary))] += 1
            if keep:
                (Path(keep) / f"{reader}-{seed}-{number}").unlink()
    return counts


def replay(reader: str) -> dict[str, int]:
    """The cases of the corpus."""
    _, read = READERS[reader]
    counts = {"read": 0, "refused": 0}
    for path in sorted(CORPUS.glob(f"{reader}-*")):
        with tempfile.TemporaryDirectory() as temporary:
            counts[_outcome(reader, read, path.read_bytes(), Path(temporary))] += 1
    return counts


def _outcome(reader: str, read: Callable[[bytes, Path], None], content: bytes, folder: Path) -> str:
    try:
        read(content, folder)
    except TandemError as error:
        said = str(error)
    else:
        return "read"
    assert len(said.splitlines()) == 1, f"{reader}: {said!r}"
    return "refused"
