"""Training with a BERT-like text tower: its gradient is transformers', padding has none, and a run begins from one."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support import toy, training_toys

from tandem import weights
from tandem.config import Bert, ModelConfig
from tandem.errors import ConfigError
from tandem.nn import CLIP, from_arrays, initialise
from tandem.tokenizer import TextFormat, Tokenizer
from tandem.towers.bert.hugging_face import config_to
from tandem.train.model.initial_weights import build_model, load_initial, lock
from tandem.train.model.towers import Towers
from tandem.train.objective.device_batch import DeviceBatch
from tandem.train.objective.objective import ContrastiveObjective
from tandem.train.parallel import process
from tandem.train.recipe import Init, Optimiser, Parallel, Recipe, Source, from_dict
from tandem.train.run.loop import train
from tandem.train.step.gradient import gradient
from tandem.train.step.optimiser import build_optimiser

WORDS = toy.tokenizer()
PAD = 7  # an entry that none of the texts here has
TEXT = Bert(
    24, WORDS.vocabulary_size, 16, 2, 2, 32, positions=40, start_id=WORDS.start_id, end_id=WORDS.end_id, pad_id=PAD
)
TEXTS = ["a cat", "do cats dream", "b", "cat cat cat cat", "a dog and a cat", "b"]


def config(**changes: Any) -> ModelConfig:
    return toy.config(text=dataclasses.replace(TEXT, **changes))


def tokenizer() -> Tokenizer:
    return WORDS.with_format(TextFormat.of(TEXT))


def folder(path: Path, **changes: Any) -> str:
    made = config(**changes)
    checkpoint = weights.Checkpoint(made, toy.tensors(made), tokenizer(), "toy")
    return str(weights.write(checkpoint, path, "tandem"))


def original(**changes: Any) -> CLIP:
    made = config(**changes)
    return from_arrays(made, toy.tensors(made))


def ids() -> torch.Tensor:
    return torch.from_numpy(tokenizer()(TEXTS, TEXT.context_length)).long()


def pixels(n: int = 6) -> torch.Tensor:
    return torch.randint(0, 256, (n, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def recipe(made: ModelConfig, **changes: Any) -> Recipe:
    return dataclasses.replace(Recipe("toy", "", made, (Source("x", per_batch=1),), 1), **changes)


def built(chosen: Recipe) -> CLIP:
    initial = load_initial(chosen)
    return build_model(initial, initial.config, 0).eval()


# --- gradients ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pooling", ["mean", "class", "pooler"])
@pytest.mark.slow
def test_the_gradient_is_that_of_transformers(pooling: Any) -> None:
    transformers = pytest.importorskip("transformers")
    clip = original(pooling=pooling).double()
    plain = {key: value for key, value in config_to(TEXT).items() if key != "model_type"}
    theirs = transformers.XLMRobertaModel(
        transformers.XLMRobertaConfig(**plain), add_pooling_layer=pooling == "pooler"
    ).double()
    theirs.load_state_dict(
        {n.removeprefix("transformer."): t for n, t in clip.text.state_dict().items() if "proj." not in n}
    )
    theirs.eval()  # without dropout
    given = ids()
    mask = (given != PAD).long()
    answer = theirs(input_ids=given, attention_mask=mask)
    pooled = {
        "mean": (answer.last_hidden_state * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True),
        "class": answer.last_hidden_state[:, 0],
        "pooler": answer.pooler_output,
    }[pooling]
    first, last = (clip.text.proj[i].weight.detach() for i in (0, 2))
    expected = F.normalize(F.gelu(pooled @ first.T) @ last.T, dim=-1)
    vectors = Towers(clip, "float32").double()(None, given)[1]
    torch.testing.assert_close(vectors, expected, rtol=0, atol=1e-10)
    weight = torch.randn(vectors.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    (vectors * weight).sum().backward()
    (expected * weight).sum().backward()
    ours = dict(clip.text.named_parameters())
    for name, parameter in theirs.named_parameters():
        wanted = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        torch.testing.assert_close(ours[f"transformer.{name}"].grad, wanted, rtol=1e-8, atol=1e-11, msg=name)
    assert ours["transformer.embeddings.word_embeddings.weight"].grad[PAD].abs().max() == 0  # type: ignore[index]


def test_padding_changes_no_vector_and_no_gradient() -> None:
    together, singly = (Towers(original(), "float32").double() for _ in range(2))
    given = ids()
    lengths = (given != PAD).sum(1).tolist()
    assert len(set(lengths)) > 2
    padded = F.pad(given, (0, TEXT.context_length - given.shape[1]), value=PAD)
    found = together(None, padded)[1]
    alone = torch.cat([singly(None, row[None, :length])[1] for row, length in zip(given, lengths, strict=True)])
    torch.testing.assert_close(found, alone, rtol=0, atol=1e-12)
    weight = torch.randn(found.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    (found * weight).sum().backward()
    (alone * weight).sum().backward()
    for (name, one), (_, other) in zip(
        together.clip.text.named_parameters(), singly.clip.text.named_parameters(), strict=True
    ):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-9, atol=1e-12, msg=name)


def test_micro_batches_and_checkpointed_layers_give_the_same_gradient() -> None:
    found = []
    for parallel in (Parallel("none", 1), Parallel("none", 3), Parallel("none", 2, activation_checkpointing=True)):
        clip = original().train()
        towers = Towers(clip, "float32").double()
        objective = ContrastiveObjective(clip, recipe(clip.config)).double()
        blocks = [*clip.visual.blocks(), *clip.text.blocks()]
        from tandem.train.parallel.wrapping import wrap

        alone = process.single_process()
        wrapped = wrap(towers, blocks, clip.scaling(), parallel, alone)
        gradient(wrapped, objective, DeviceBatch(pixels(), ids(), 6, 6), parallel, alone)
        found.append({name: parameter.grad.clone() for name, parameter in clip.named_parameters()})
    for other in found[1:]:
        assert other.keys() == found[0].keys()
        for name, wanted in found[0].items():
            torch.testing.assert_close(other[name], wanted, rtol=1e-8, atol=1e-11, msg=name)


# --- where a run begins ------------------------------------------------------------------------------------------


def test_a_model_that_is_read_whole_gives_its_own_vectors(tmp_path: Path) -> None:
    source = folder(tmp_path / "m")
    clip = built(recipe(config(), init=Init(model=source)))
    assert torch.equal(clip.encode_text(ids()), original().encode_text(ids()))
    assert load_initial(recipe(config(), init=Init(model=source))).notes == ()
    taken = from_dict(
        {"name": "x", "folder": "x", "steps": 1, "data": [{"path": "x", "per_batch": 1}], "init": {"model": source}}
    )
    assert taken.model.text == TEXT


def test_its_text_tower_beside_another_image_tower(tmp_path: Path) -> None:
    source, other = folder(tmp_path / "m"), str(toy.folder(tmp_path / "other", seed=3))
    chosen = recipe(config(), init=Init(image=other, text=source), locked=("image",))
    initial = load_initial(chosen)
    clip = build_model(initial, initial.config, 0)
    lock(clip, chosen.locked, read_names=initial.tensors)
    images, texts = Towers(clip, "float32")(pixels(), ids())
    assert not images.requires_grad  # type: ignore[union-attr]
    texts.sum().backward()  # type: ignore[union-attr]
    assert {name for name, p in clip.named_parameters() if p.grad is not None} == {
        name for name, _ in clip.named_parameters() if name.startswith("text.")
    }
    assert initial.tokenizer is not None
    assert initial.tokenizer.pad_id == PAD


def test_a_locked_text_tower_learns_its_last_layers_and_what_follows(tmp_path: Path) -> None:
    clip = original(pooling="pooler")
    lock(clip, ("text",), unlocked_blocks=1)
    learning = {name for name, p in clip.text.named_parameters() if p.requires_grad}
    after = ("transformer.encoder.layer.1.", "transformer.pooler.", "proj.")
    assert learning == {name for name, _ in clip.text.named_parameters() if name.startswith(after)}


def test_another_shared_dimension_gets_a_fresh_projection(tmp_path: Path) -> None:
    source = folder(tmp_path / "m")
    chosen = recipe(dataclasses.replace(config(), embed_dim=20), init=Init(text=source), locked=("text",))
    initial = load_initial(chosen)
    assert "proj.0.weight, proj.2.weight initialised anew, for 20 dimensions instead of 12" in initial.notes[0]
    clip = build_model(initial, initial.config, 0)
    assert clip.encode_text(ids()).shape == (6, 20)
    lock(clip, chosen.locked, read_names=initial.tensors)
    assert {n for n, p in clip.text.named_parameters() if p.requires_grad} == {"proj.0.weight", "proj.2.weight"}


def test_a_context_within_the_positions_changes_nothing_and_a_longer_one_stretches(tmp_path: Path) -> None:
    source = folder(tmp_path / "m")
    for length in (12, 32):
        initial = load_initial(recipe(config(context_length=length), init=Init(model=source)))
        assert initial.notes == ()
        clip = build_model(initial, initial.config, 0).eval()
        assert torch.equal(clip.encode_text(ids()[:3, :12]), original().encode_text(ids()[:3, :12]))
    # 32 positions after the first 8, which no token has; 63 lie between them and at them
    initial = load_initial(recipe(config(context_length=63, positions=71), init=Init(model=source)))
    assert "positions of the text tower stretched from 32 to 63" in initial.notes[0]
    name = "transformer.embeddings.position_embeddings.weight"
    before, after = toy.tensors(config())[name], initial.tensors[name].numpy()
    np.testing.assert_allclose(after[:8], before[:8])
    np.testing.assert_allclose(after[8::2], before[8:], atol=1e-6)
    assert build_model(initial, initial.config, 0).config.text.context_length == 63


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    source, plain = folder(tmp_path / "m"), str(toy.folder(tmp_path / "plain"))
    with pytest.raises(ConfigError, match=r"model\.text\.pooling: the recipe says 'class', .* has 'mean'"):
        load_initial(recipe(config(pooling="class"), init=Init(text=source)))
    with pytest.raises(ConfigError, match=r"is a text_transformer, the recipe's \[model.text\] a bert; leave"):
        load_initial(recipe(config(), init=Init(text=plain)))
    with pytest.raises(ConfigError, match=r"model\.text\.type: this tower tells padding by its token"):
        load_initial(recipe(config()))


def test_a_new_tower_is_drawn_as_bert_was() -> None:
    clip = initialise(CLIP(config()), 1)
    embeddings = clip.text.transformer.embeddings
    for weight in (embeddings.word_embeddings.weight, clip.text.transformer.encoder.layer[0].output.dense.weight):
        assert weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert embeddings.word_embeddings.weight[PAD].abs().max() == 0
    assert embeddings.position_embeddings.weight[PAD].abs().max() == 0
    assert torch.equal(initialise(CLIP(config()), 1).encode_text(ids()), clip.encode_text(ids()))


def test_each_layer_learns_at_a_share_of_the_rate_of_the_one_above() -> None:
    clip = original(pooling="pooler")
    optimiser = build_optimiser(
        Towers(clip), ContrastiveObjective(clip, recipe(clip.config)), Optimiser(learning_rate=1.0, layer_decay=0.5)
    )
    rate = {id(p): group["lr"] for group in optimiser.param_groups for p in group["params"]}
    text = clip.text.transformer
    for parameter, share in (
        (clip.text.proj[2].weight, 1.0),
        (text.pooler.dense.weight, 1.0),
        (text.encoder.layer[1].output.dense.bias, 0.5),
        (text.encoder.layer[0].attention.self.query.weight, 0.25),
        (text.embeddings.word_embeddings.weight, 0.125),
    ):
        assert rate[id(parameter)] == share


@pytest.mark.slow
def test_a_run_from_a_checkpoint_with_a_locked_image_tower(tmp_path: Path) -> None:
    """Read, trained for a few steps, written and read again: only the texts' vectors have changed."""
    training_toys.write_tar(tmp_path / "captions.tar")
    source = folder(tmp_path / "m")
    table = {
        "name": "x", "folder": str(tmp_path / "run"), "data_root": str(tmp_path), "steps": 4, "precision": "float32",
        "workers": 0, "locked": ["image"], "init": {"model": source}, "log": {"tensorboard": False},
        "data": [{"path": "captions.tar", "text": "captions", "per_batch": 8}],
        "optimiser": {"learning_rate": 1e-2, "warmup_steps": 1},
    }  # fmt: skip
    train(from_dict(table))
    back = weights.read(tmp_path / "run")
    before = weights.read(source)
    assert back.config.text == before.config.text
    changed = {n for n, a in before.tensors.items() if abs(a - back.tensors[n].astype(np.float32)).max() > 1e-3}
    assert changed
    assert not any(name.startswith("visual.") for name in changed)
    assert "proj.2.weight" in changed
