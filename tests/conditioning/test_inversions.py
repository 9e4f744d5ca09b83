"""Textual inversion: the files that people have, and what a word with embeddings of its own does to a prompt."""

import os

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from support import conditioning_toys as toys

from tandem.conditioning import Conditioner, read_inversion
from tandem.errors import ConditioningError, WeightsError

WIDE = toys.SIZES["clip_l"][0]


@pytest.fixture(scope="module")
def rows():
    """Embeddings of three ordinary words: a new word made of them must do what they do."""
    tower = toys.tower("clip_l")
    ids = [i for word in ("red", "blue", "fox") for i in tower.tokenizer.encode(word)[0]]
    return tower.tensors["token_embedding.weight"][ids]


@pytest.fixture(scope="module")
def plain():
    return Conditioner(toys.consumer("sd1"), **toys.towers("sd1"))


def with_files(*files, **words):
    return Conditioner(toys.consumer("sd1"), embeddings=words or files, **toys.towers("sd1"))


def test_every_layout_is_read(tmp_path, rows):
    tensor = torch.from_numpy(rows.copy())
    saved = {
        "named.bin": {"<cat-toy>": tensor},
        "one.pt": {"<cat-toy>": tensor[0]},
        "webui.pt": {
            "string_to_token": {"*": 265},
            "string_to_param": {"*": torch.nn.Parameter(tensor)},
            "name": "something",
            "step": 900,
            "sd_checkpoint": None,
        },
    }
    saved["first.pt"] = {
        "string_to_token": {"*": torch.tensor(265)},
        "string_to_param": torch.nn.ParameterDict({"*": torch.nn.Parameter(tensor)}),
    }
    for name, content in saved.items():
        torch.save(content, tmp_path / name)
    save_file({"<cat-toy>": rows}, tmp_path / "named.safetensors")
    save_file({"emb_params": rows}, tmp_path / "learnt.safetensors")
    save_file({"clip_l": rows, "clip_g": np.zeros((3, 48), np.float16)}, tmp_path / "xl.safetensors")
    words = {each.name: read_inversion(each).token for each in tmp_path.iterdir()}
    assert words == {
        "named.bin": "<cat-toy>",
        "one.pt": "<cat-toy>",
        "webui.pt": "webui",
        "first.pt": "first",
        "named.safetensors": "<cat-toy>",
        "learnt.safetensors": "learnt",
        "xl.safetensors": "xl",
    }
    for name in ("named.bin", "webui.pt", "first.pt", "named.safetensors", "learnt.safetensors"):
        np.testing.assert_array_equal(read_inversion(tmp_path / name).vectors[""], rows)
    assert read_inversion(tmp_path / "one.pt", "toy").token == "toy"
    assert read_inversion(tmp_path / "one.pt").vectors[""].shape == (1, WIDE)
    found = read_inversion(tmp_path / "xl.safetensors").vectors
    assert {name: each.shape for name, each in found.items()} == {"clip_l": (3, WIDE), "clip_g": (3, 48)}
    assert found["clip_g"].dtype == np.float32


def test_nothing_in_a_file_is_executed(tmp_path):
    class Bad:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "executed"),)

    torch.save({"<x>": Bad()}, tmp_path / "bad.pt")
    with pytest.raises(WeightsError, match=r"refused: the file asks for '(posix|nt).mkdir'"):
        read_inversion(tmp_path / "bad.pt")
    assert not (tmp_path / "executed").exists()


def test_a_word_of_several_vectors_does_what_they_do(tmp_path, rows, plain):
    save_file({"emb_params": rows}, tmp_path / "animal.safetensors")
    one = with_files(tmp_path / "animal.safetensors")
    expected = plain.encode("a red blue fox, at night").states
    for prompt in ("a animal, at night", "a Animal, at night", "a embedding:animal, at night"):
        found = one.encode(prompt)
        np.testing.assert_allclose(found.states, expected, atol=1e-5)
        # the end token is found by its place: the new ids are larger than it
        ids = found.towers["clip_l"].token_ids[0]
        assert ids.max() > 49407
        np.testing.assert_allclose(
            found.towers["clip_l"].pooled, plain.encode("a red blue fox, at night").towers["clip_l"].pooled, atol=1e-5
        )
    np.testing.assert_array_equal(one.encode("animals").states, plain.encode("animals").states)
    weighted = one.encode("a (animal:1.4), at night").states
    np.testing.assert_allclose(weighted, plain.encode("a (red blue fox:1.4), at night").states, atol=1e-5)


def test_words_in_signs_and_several_files(tmp_path, rows, plain):
    save_file({"<cat-toy>": rows[:1]}, tmp_path / "a.safetensors")
    save_file({"<cat-toy>": rows[1:]}, tmp_path / "b.safetensors")
    both = with_files(**{"<red>": tmp_path / "a.safetensors", "thing": tmp_path / "b.safetensors"})
    found = both.encode("a <red> thing")
    np.testing.assert_allclose(found.states, plain.encode("a red blue fox").states, atol=1e-5)
    cut = both.encode("apple " * 74 + "thing", long="truncate")
    assert cut.cut == (("thing",),)
    with pytest.raises(ConditioningError, match="two embeddings stand for '<cat-toy>'"):
        with_files(tmp_path / "a.safetensors", tmp_path / "b.safetensors")


@pytest.mark.slow
def test_of_two_towers_each_has_its_own(tmp_path, rows):
    wide = toys.tower("clip_g").tensors["token_embedding.weight"][[320, 736, 1000]]
    save_file({"clip_l": rows, "clip_g": wide}, tmp_path / "xl.safetensors")
    save_file({"emb_params": rows}, tmp_path / "small.safetensors")
    towers = toys.towers("sdxl")
    found = Conditioner(toys.consumer("sdxl"), embeddings=[tmp_path / "xl.safetensors"], **towers).encode("xl")
    expected = Conditioner(toys.consumer("sdxl"), **towers).encode("red blue fox")
    np.testing.assert_allclose(found.states[..., :WIDE], expected.states[..., :WIDE], atol=1e-4)
    assert abs(found.states[..., WIDE:] - expected.states[..., WIDE:]).max() > 1e-2
    with pytest.raises(ConditioningError, match="sdxl takes embeddings for clip_l, clip_g; the file has one tensor"):
        Conditioner(toys.consumer("sdxl"), embeddings=[tmp_path / "small.safetensors"], **towers)


def test_what_does_not_fit_is_refused(tmp_path, rows):
    for name, tensors, says in (
        ("other", {"<x>": np.zeros((1, 40), np.float32)}, f"expected vectors of width {WIDE}, got 40"),
        ("many", {"<x>": np.zeros((76, WIDE), np.float32)}, "expected 1 to 75 vectors"),
        ("whole", {"<x>": np.zeros((1, 2, WIDE), np.float32)}, "expected 1 to 75 vectors"),
        ("nan", {"<x>": np.full((1, WIDE), np.nan, np.float32)}, "expected finite numbers"),
        ("two", {"<x>": rows, "<y>": rows}, "expected embeddings of one word, or clip_l and clip_g; found 2 tensors"),
        ("uneven", {"clip_l": rows, "clip_g": np.zeros((1, 48), np.float32)}, "as many vectors for each tower"),
    ):
        save_file(tensors, tmp_path / f"{name}.safetensors")
        with pytest.raises(ConditioningError, match=says):
            with_files(tmp_path / f"{name}.safetensors")
