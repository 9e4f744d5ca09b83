"""The module for a pipeline and the conditioner say the same of one tower, without diffusers."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from safetensors.numpy import save_file  # noqa: E402
from support import conditioning_toys as toys  # noqa: E402

from tandem.conditioning import Conditioner  # noqa: E402
from tandem.conditioning.diffusers import CLIPTextModule, load_text_encoder, replace_text_encoders  # noqa: E402
from tandem.errors import ConditioningError  # noqa: E402


class Pipe(SimpleNamespace):
    """What `replace_text_encoders` asks of a pipeline."""

    def register_modules(self, **modules):
        vars(self).update(modules)


def with_tensors(checkpoint, **tensors):
    return dataclasses.replace(checkpoint, tensors={**checkpoint.tensors, **tensors})


@pytest.mark.slow
def test_the_bias_of_a_projection_is_added():
    plain = toys.tower("clip", projection_bias=True)
    bias = np.full(toys.DIM, 5, np.float32)
    tower = with_tensors(plain, text_projection_bias=bias)
    found = Conditioner("states", clip=tower).encode("a red fox").towers["clip"]
    ids = torch.from_numpy(found.token_ids).long()
    projected = CLIPTextModule(tower)(ids).text_embeds.numpy()
    np.testing.assert_allclose(projected, found.projected, atol=1e-5)
    without = found.pooled @ tower.tensors["text_projection"]
    np.testing.assert_allclose(projected, without + bias, atol=1e-4)


def test_states_that_are_not_finite_are_refused():
    plain = toys.tower("clip_l")
    positions = np.full_like(plain.tensors["positional_embedding"], np.nan)
    module = CLIPTextModule(with_tensors(plain, positional_embedding=positions))
    with pytest.raises(ConditioningError, match="toy clip_l: its states are not finite"):
        module(torch.zeros((1, 77), dtype=torch.long))


@pytest.mark.parametrize(("tower", "place"), [("clip_l", ""), ("clip_h", ""), ("clip_g", "_2")])
def test_embeddings_by_the_names_of_towers(tower, place, tmp_path):
    """A file may name the tower: that of Stable Diffusion 2 is clip_h."""
    checkpoint = toys.tower(tower)
    (fox,) = checkpoint.tokenizer.encode("fox")[0]
    row = checkpoint.tensors["token_embedding.weight"][fox][None]
    save_file({tower: row}, tmp_path / "animal.safetensors")
    pipe = Pipe(**{f"text_encoder{place}": CLIPTextModule(checkpoint), f"tokenizer{place}": None})
    (name,) = replace_text_encoders(pipe, embeddings=[tmp_path / "animal.safetensors"])
    encoder, words = getattr(pipe, name), getattr(pipe, f"tokenizer{place}")
    options = {"padding": "max_length", "return_tensors": "pt"}
    found, expected = (encoder(words(text, **options).input_ids)[0] for text in ("a animal, red", "a fox, red"))
    np.testing.assert_allclose(found.numpy(), expected.numpy(), atol=1e-5)


@pytest.mark.slow
def test_embeddings_of_an_encoder_by_its_width(tmp_path):
    toys.save(toys.tower("clip_h"), tmp_path / "text_encoder")
    rows = {name: np.zeros((2, toys.SIZES[name][0]), np.float32) for name in ("clip_l", "clip_h")}
    save_file(rows, tmp_path / "both.safetensors")
    _, words = load_text_encoder(tmp_path / "text_encoder", embeddings=[tmp_path / "both.safetensors"])
    assert words("both").input_ids[1:-1] == [49408, 49409]
    with pytest.raises(ConditioningError, match="expected embeddings of width 40 for"):
        load_text_encoder(tmp_path / "text_encoder", embeddings=[tmp_path / "both.safetensors"], tower="clip_l")
