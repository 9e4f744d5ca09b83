"""Readers count bytes where bytes are meant and elements where elements are; what only a shape tells; odd merges."""

import json
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from support import weights_toys as toys

from tandem import bpe
from tandem.errors import ConfigError, WeightsError, in_words
from tandem.weights import shapes, text_tower, torch_zip, unpickler
from tandem.weights.arrays import map_file
from tandem.weights.safetensors_file import read_safetensors
from tandem.weights.tensor_files import read_archive, shard_names


def rewritten(path: Path, ending: str, content: bytes) -> Path:
    """A zip archive with another content of the entry that ends like this."""
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, old in entries.items():
            archive.writestr(name, content if name.endswith(ending) else old)
    return path


@pytest.mark.parametrize("size", [15, 8, 4])
def test_a_storage_has_a_byte_for_each_byte_of_its_elements(tmp_path: Path, size: int) -> None:
    torch.save({"w": torch.arange(4.0)}, tmp_path / "a.pt")
    rewritten(tmp_path / "a.pt", "data/0", bytes(16))
    assert read_archive(tmp_path / "a.pt").tensors["w"].tolist() == [0] * 4
    with pytest.raises(WeightsError, match=rf"data/0: expected 16 bytes, got {size}"):
        read_archive(rewritten(tmp_path / "a.pt", "data/0", bytes(size)))


def test_an_entry_that_would_end_past_the_file_is_refused(tmp_path: Path) -> None:
    """Its size in bytes, not in elements, is what must fit."""
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data/0", bytes(64))
    mapped = map_file(path)
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo("data/0")
        start = 30 + len("data/0")
        most = (len(mapped) - start) // 4
        whole = torch_zip._entry_array(path, mapped, info, np.dtype("f4"), most)
        assert len(whole) == most
        with pytest.raises(WeightsError, match="ends past the end of the file"):
            torch_zip._entry_array(path, mapped, info, np.dtype("f4"), most + 1)


@pytest.mark.parametrize("lost", [1, 4, 12])
def test_an_old_file_that_lost_bytes_of_its_last_storage_is_refused(tmp_path: Path, lost: int) -> None:
    torch.save({"w": torch.arange(4.0)}, tmp_path / "a.pt", _use_new_zipfile_serialization=False)
    whole = (tmp_path / "a.pt").read_bytes()
    (tmp_path / "a.pt").write_bytes(whole[:-lost])
    with pytest.raises(WeightsError, match=r"a\.pt: truncated"):
        read_archive(tmp_path / "a.pt")


def test_an_old_file_whose_tensor_needs_more_than_its_storage_is_refused(tmp_path: Path) -> None:
    torch.save({"w": torch.arange(4.0)}, tmp_path / "a.pt", _use_new_zipfile_serialization=False)
    whole = (tmp_path / "a.pt").read_bytes()
    at = len(whole) - 16 - 8
    assert whole[at : at + 8] == struct.pack("<q", 4)
    (tmp_path / "a.pt").write_bytes(whole[:at] + struct.pack("<q", 3) + whole[at + 8 :])
    with pytest.raises(WeightsError, match=r"a\.pt.*of 4 elements is missing"):
        read_archive(tmp_path / "a.pt")


@pytest.mark.parametrize("program", [b"]p%d\n.", b"]q%c.", b"]r%b."], ids=["PUT", "BINPUT", "LONG_BINPUT"])
def test_memo_slots_past_the_length_of_the_program_are_refused(tmp_path: Path, program: bytes) -> None:
    """A slot of 2**31 would allocate 16 GB; as many slots as a program has bytes are enough for any."""

    def of(slot: int) -> bytes:
        return program % (struct.pack("<I", slot) if b"%b" in program else slot)

    def run(code: bytes) -> object:
        return unpickler.run(tmp_path / "a.pt", code, lambda key, dtype, count: np.zeros(count, dtype), modules=False)

    length = len(of(1))
    assert run(of(length)) == []
    with pytest.raises(WeightsError, match=f"memo slot {length + 1}"):
        run(of(length + 1))
    if b"%c" not in program:
        with pytest.raises(WeightsError, match=f"memo slot {2**31}"):
            run(of(2**31))


def test_many_memo_slots_within_the_length_are_fine(tmp_path: Path) -> None:
    values = {str(i): [i] for i in range(400)}
    program = pickle.dumps(values, protocol=2)
    assert unpickler.run(tmp_path / "a.pt", program, lambda *_: np.zeros(0), modules=False) == values


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "/model.safetensors", "a/b.safetensors", "..", ".", "", "../a", "a\\b", "./a"]
)
def test_an_index_of_shards_names_files_beside_it(name: str) -> None:
    with pytest.raises(WeightsError, match="expected a file in the same folder"):
        shard_names({"weight_map": {"a": "model.safetensors", "b": name}}, Path("index.json"))


@pytest.mark.parametrize(("width", "heads"), [(1280, 16), (1408, 16), (1664, 16), (1792, 16), (1024, 16), (768, 12)])
def test_the_widths_of_open_clips_large_towers_have_sixteen_heads(width: int, heads: int) -> None:
    """No shape tells: heads are of 80, 88, 104 and 112 there, and of 64 elsewhere."""
    vision = {
        "visual.conv1.weight": (width, 3, 14, 14),
        "visual.class_embedding": (width,),
        "visual.positional_embedding": (17, width),
        "visual.transformer.resblocks.0.mlp.c_fc.weight": (4 * width, width),
    }
    assert shapes._vit_from(shapes._Shapes(vision, "toy"), "gelu").heads == heads


def test_a_merge_that_begins_with_a_number_sign_is_a_merge(tmp_path: Path) -> None:
    """Only the line of the version is none."""
    plain = bpe.from_merges([*toys.MERGES, ("#", "a</w>")])
    (tmp_path / "vocab.json").write_text(json.dumps(plain.vocabulary), encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in plain.merges), ""]
    (tmp_path / "merges.txt").write_text("\n".join(lines), encoding="utf-8")
    read = bpe.from_files(tmp_path / "vocab.json", tmp_path / "merges.txt")
    assert read.merges == plain.merges
    assert read.merges[-1] == ("#", "a</w>")


def test_a_mobileclip_file_without_a_tensor_that_tells_its_size_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^toy\.pt: .*visual\.stages\.0\.blocks\.0\.mlp\.fc1\.weight"):
        shapes._mobile_from("fastvit_mci0", {"visual.stem.0.conv_kxk.0.conv.weight": (64, 3, 3, 3)}, "toy.pt")


@pytest.mark.parametrize(("encoder", "tokenizer"), [("text_encoder", "tokenizer"), ("text_encoder_2", "tokenizer_2")])
def test_the_tokenizer_of_an_encoder_lies_beside_it(tmp_path: Path, encoder: str, tokenizer: str) -> None:
    """Each encoder of a repository has a folder of its own, and so has each tokenizer."""
    for name, pad in (("tokenizer", 3), ("tokenizer_2", 4)):
        (tmp_path / name).mkdir()
        plain = json.loads(bpe.to_json(bpe.from_merges(toys.MERGES), None, None))
        plain["added_tokens"].append({"id": pad, "content": "<pad>"})
        (tmp_path / name / "tokenizer.json").write_text(json.dumps(plain))
        (tmp_path / name / "tokenizer_config.json").write_text(json.dumps({"pad_token": "<pad>"}))
    folder = tmp_path / encoder
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "clip_text_model"}))
    (folder / "model.safetensors").touch()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(text_tower, "special_tokens", _seen)
        with pytest.raises(LookupError, match=rf"/{tokenizer}$"):
            text_tower._read_folder(folder, None)


def _seen(folder: Path) -> None:
    raise LookupError(str(folder))


def test_a_bias_of_the_projection_is_added() -> None:
    """SigLIP's text towers have one, CLIP's have none."""
    config = toys.siglip()
    weights = np.arange(config.text.width * 3, dtype=np.float32).reshape(config.text.width, 3)
    tensors = {text_tower._PROJECTION: weights}
    pooled = np.ones((2, config.text.width), np.float32)
    plain = text_tower.TextCheckpoint(config.text, 3, tensors, toys.tokenizer(config), "toy")
    np.testing.assert_allclose(plain.project(pooled), pooled @ weights)
    tensors[f"{text_tower._PROJECTION}_bias"] = np.array([1, 2, -3], np.float16)
    np.testing.assert_allclose(plain.project(pooled), pooled @ weights + [1, 2, -3])


DIGITS = "1" * 5000


@pytest.mark.parametrize(
    ("raised", "says"),
    [
        (lambda: json.loads(DIGITS), "a number with far too many digits"),
        (lambda: float(10**400), "a number with far too many digits"),
        (lambda: json.loads("[" * 200_000), "too many values inside each other"),
        (b"ab\xff".decode, "not in UTF-8 (byte 2)"),
        (lambda: open("/nowhere/at/all"), "No such file or directory"),  # noqa: SIM115
        (lambda: {}["a"], "its parts do not fit together"),
        (lambda: json.loads("{"), "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        (lambda: pickle.loads(b"X"), "pickle data was truncated"),
    ],
)
def test_errors_of_parsers_in_words(raised: Callable[[], object], says: str) -> None:
    with pytest.raises(Exception) as caught:  # noqa: PT011
        raised()
    assert in_words(caught.value) == says


def test_numbers_that_no_file_has_are_named_without_pythons_words(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    for header, says in (
        (
            '{"a": {"dtype": "F32", "shape": [4611686018427387904], "data_offsets": [0, 0]}}',
            r"impossible numbers: the shape \[4611686018427387904\] and bytes 0 to 0$",
        ),
        (f'{{"a": {{"dtype": "F32", "shape": [{DIGITS}], "data_offsets": [0, 0]}}}}', "header: a number with far too"),
    ):
        path.write_bytes(struct.pack("<Q", len(header)) + header.encode())
        with pytest.raises(WeightsError, match=says):
            read_safetensors(path)
    path = tmp_path / "a.pt"
    torch.save({"w": torch.arange(4.0)}, path)
    with pytest.raises(WeightsError, match=r"contents \(a number with far too many digits\)"):
        read_archive(rewritten(path, "data.pkl", b"\x80\x02I" + DIGITS.encode() + b"\n."))
