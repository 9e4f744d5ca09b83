"""BERT-like text towers: open_clip's and transformers' numbers on both engines, and what padding must not do."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from support.engine_toys import random_tensors

from tandem import engine as engines
from tandem import weights
from tandem.config import Bert, ModelConfig, Preprocessing, VisionTransformer
from tandem.errors import ConfigError, EngineError

pytestmark = pytest.mark.slow_if("openvino")  # that it agrees with torch, test_engine_contract.py shows every day


CONTENDERS = ("openvino", "torch", "numpy")  # numpy: the openvino engine before it has compiled anything
VISION = VisionTransformer(32, 8, 32, 1, 4, 64, "gelu")
TEXT = Bert(20, 100, 32, 3, 4, 48, positions=26)
TOYS = {
    "mean-mlp": TEXT,
    "class-linear": dataclasses.replace(TEXT, pooling="class", projection="linear"),
    "pooler": dataclasses.replace(TEXT, pooling="pooler", layers=1, heads=2),
    "bert": Bert(
        20, 100, 32, 2, 4, 48, positions=20, activation="gelu_tanh", start_id=98, end_id=99, pad_id=0,
        positions_from_zero=True, token_types=2, pooling="class", projection="none", norm_epsilon=1e-12,
    ),
}  # fmt: skip


def build(name: str, model: ModelConfig, tensors: Any) -> Any:
    if name == "torch":
        return engines.build(model, tensors, engine=name)
    from tandem.engine.openvino import OpenVinoEngine

    class Engine(OpenVinoEngine):
        def _still_in_numpy(self, tower: str, amount: int, allowance: int) -> bool:
            return super()._still_in_numpy(tower, amount, 10**9 if name == "numpy" else 0)

    return Engine(model, tensors)


def config(text: Bert) -> ModelConfig:
    return ModelConfig(32 if text.projection == "none" else 21, VISION, text, Preprocessing(32))


def ids_of(text: Bert, lengths: tuple[int, ...], seed: int = 2) -> np.ndarray:
    """Start token, words, end token, then padding, to the longest text."""
    rng = np.random.default_rng(seed)
    ids = np.full((len(lengths), max(lengths)), text.pad_id, np.int32)
    for row, length in zip(ids, lengths, strict=True):
        row[:length] = [text.start_id, *rng.integers(3, 95, length - 2), text.end_id]
    return ids


LENGTHS = (9, 3, 20, 2, 7, 3)


@pytest.fixture(scope="module", params=CONTENDERS)
def name(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(scope="module", params=TOYS)
def text(request: pytest.FixtureRequest) -> Any:
    return TOYS[request.param]


@pytest.fixture(scope="module")
def engine(name: Any, text: Bert) -> Any:
    return build(name, config(text), random_tensors(config(text)))


# --- the originals' numbers --------------------------------------------------------------------------------------


def test_golden(shared: Any, name: Any) -> None:
    folder = shared / "golden" / "families" / "xlm-roberta-tiny"
    model, tensors = weights.read_tensors(folder)
    expected = np.load(folder / "expected.npz")
    engine = build(name, model, tensors)
    images, texts = engine.encode_images(expected["pixels"]), engine.encode_texts(expected["token_ids"])
    np.testing.assert_allclose(images, expected["image_features"], atol=1e-5)
    np.testing.assert_allclose(texts, expected["text_features"], atol=1e-5)
    many = np.concatenate([expected["token_ids"]] * 40)
    np.testing.assert_allclose(engine.encode_texts(many)[-4:], expected["text_features"], atol=1e-5)
    logits = np.exp(tensors["logit_scale"].astype(np.float32)) * images @ texts.T
    np.testing.assert_allclose(logits, expected["logits_per_image"], atol=1e-4)
    for row, vector in zip(expected["token_ids"], expected["text_features"], strict=True):
        own = row[: int(np.flatnonzero(row != 1)[-1]) + 1]  # without its padding
        np.testing.assert_allclose(engine.encode_texts(own[None]), vector[None], atol=1e-5)


def theirs(text: Bert, tensors: Any) -> Any:
    """transformers' model of a tower's description, with its tensors."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from tandem.towers.bert.hugging_face import config_to

    plain = config_to(text)
    kind = transformers.BertModel if plain["model_type"] == "bert" else transformers.XLMRobertaModel
    made = kind.config_class(**{key: value for key, value in plain.items() if key != "model_type"})
    model = kind(made, add_pooling_layer=text.pooling == "pooler").eval()
    state = {
        n.removeprefix("transformer."): torch.from_numpy(a) for n, a in tensors.items() if n[:12] == "transformer."
    }
    report = model.load_state_dict(state, strict=False)
    assert not report.missing_keys
    assert not report.unexpected_keys
    return model


def reference(text: Bert, tensors: Any, ids: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    """What transformers says: every hidden state, and the pooled and projected vectors, of unit length."""
    import torch

    given = torch.from_numpy(ids).long()
    mask = (given != text.pad_id).long()
    with torch.inference_mode():
        answer = theirs(text, tensors)(input_ids=given, attention_mask=mask, output_hidden_states=True)
        last = answer.last_hidden_state
        pooled = {
            "mean": lambda: (last * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True),
            "class": lambda: last[:, 0],
            "pooler": lambda: answer.pooler_output,
        }[text.pooling]()
        weight = {name: torch.from_numpy(tensors[name]) for name in tensors if name.startswith("proj.")}
        if text.projection == "mlp":
            pooled = torch.nn.functional.gelu(pooled @ weight["proj.0.weight"].T) @ weight["proj.2.weight"].T
        elif text.projection == "linear":
            pooled = pooled @ weight["proj.weight"].T
        vectors = torch.nn.functional.normalize(pooled, dim=-1)
    return [state.numpy() for state in answer.hidden_states], vectors.numpy()


@pytest.mark.slow
@pytest.mark.parametrize("size", [*TOYS, "larger"])
def test_transformers_states_and_vectors(name: Any, size: str) -> None:
    text = TOYS.get(size) or Bert(77, 1000, 192, 4, 3, 400, positions=90)
    tensors = random_tensors(config(text))
    ids = ids_of(text, (*LENGTHS, text.context_length))
    ids[0, 3] = text.pad_id  # a padding token within a text is masked, too, and has no position of its own
    states, vectors = reference(text, tensors, ids)
    assert abs(vectors - vectors[::-1]).max() > 1e-2  # the comparison could fail
    engine = build(name, config(text), tensors)
    np.testing.assert_allclose(engine.encode_texts(ids), vectors, atol=1e-4)
    for layer in range(text.layers + 1):
        np.testing.assert_allclose(engine.text_states(ids, layer), states[layer], atol=1e-4, err_msg=f"layer {layer}")
    np.testing.assert_allclose(engine.text_states(ids), states[-1], atol=1e-4)
    np.testing.assert_allclose(engine.text_states(ids, -2), states[-2], atol=1e-4)


# --- padding and batches -----------------------------------------------------------------------------------------


def test_a_text_does_not_depend_on_its_padding_or_its_batch(engine: Any, text: Bert) -> None:
    ids = ids_of(text, LENGTHS)
    together = engine.encode_texts(ids)
    assert together.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    for row, length, vector in zip(ids, LENGTHS, together, strict=True):
        np.testing.assert_allclose(engine.encode_texts(row[None, :length])[0], vector, atol=1e-5)
        padded = np.full((1, text.context_length), text.pad_id, np.int32)
        padded[0, :length] = row[:length]
        np.testing.assert_allclose(engine.encode_texts(padded)[0], vector, atol=1e-5)


def test_many_texts_come_back_in_order(engine: Any, text: Bert) -> None:
    lengths = tuple(np.random.default_rng(3).integers(2, text.context_length + 1, 300))
    ids = ids_of(text, lengths)
    together = engine.encode_texts(ids)
    for i in (0, 1, 150, 298, 299):
        np.testing.assert_allclose(engine.encode_texts(ids[i : i + 1])[0], together[i], atol=1e-5)


def test_the_order_of_tokens_matters_and_what_follows_does_too(engine: Any, text: Bert) -> None:
    ids = ids_of(text, (8,))
    swapped, longer = ids.copy(), np.concatenate([ids, [[50]]], axis=1).astype(np.int32)
    swapped[0, 2], swapped[0, 3] = ids[0, 3], ids[0, 2]
    assert abs(engine.encode_texts(ids) - engine.encode_texts(swapped)).max() > 1e-3
    assert abs(engine.encode_texts(ids) - engine.encode_texts(longer)).max() > 1e-3


def test_a_text_of_padding_alone_is_named(engine: Any, text: Bert) -> None:
    ids = ids_of(text, (5, 5))
    ids[1] = text.pad_id
    for verb in (engine.encode_texts, engine.text_states):
        with pytest.raises(EngineError, match="row 1 is nothing but padding"):
            verb(ids)


def test_nothing_in_nothing_out(engine: Any, text: Bert) -> None:
    assert engine.encode_texts(np.zeros((0, 5), np.int32)).shape == (0, engine.config.embed_dim)
    assert engine.text_states(np.zeros((0, 5), np.int32)).shape == (0, 5, text.width)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_weights_in_half_precision(name: Any, dtype: str) -> None:
    """Stored in half precision, tables of embeddings too, they compute as their float32 values do."""
    ml_dtypes = pytest.importorskip("ml_dtypes")
    kind = np.float16 if dtype == "float16" else ml_dtypes.bfloat16
    model, ids = config(TEXT), ids_of(TEXT, LENGTHS)
    stored = {key: array.astype(kind) for key, array in random_tensors(model).items()}
    whole = {key: array.astype(np.float32) for key, array in stored.items()}
    half, single = (build(name, model, tensors) for tensors in (stored, whole))
    np.testing.assert_allclose(half.encode_texts(ids), single.encode_texts(ids), atol=1e-6)
    np.testing.assert_allclose(half.text_states(ids, 0), single.text_states(ids, 0), atol=1e-6)


# --- the description ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"heads": 5}, "text.width = 32 is not divisible by heads = 5"),
        ({"context_length": 25}, r"text.context_length: expected 1..24, as many as there are positions, got 25"),
        ({"pad_id": 100}, r"text.pad_id: expected 0..99, got 100"),
        ({"projection": "none"}, "text.projection: none leaves 32 dimensions, but embed_dim is 21"),
        ({"pooling": "max"}, "text.pooling: expected one of mean, class, pooler, got 'max'"),
    ],
)
def test_a_tower_that_cannot_be_built_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ModelConfig(21, VISION, dataclasses.replace(TEXT, **changes), Preprocessing(32))


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_a_table_of_embeddings_stays_as_it_is_stored(dtype: str) -> None:
    """XLM-V's would take 3.7 GB more as float32, and 40 s to compile."""
    from tandem.engine.graph import text_graph
    from tandem.openvino_import import ov

    ml_dtypes = pytest.importorskip("ml_dtypes")
    kind = ml_dtypes.bfloat16 if dtype == "bfloat16" else np.dtype(dtype)
    model = config(TEXT)
    tensors = {key: array.astype(kind) for key, array in random_tensors(model).items()}
    compiled = ov.Core().compile_model(text_graph(model, tensors), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    shape = [TEXT.vocabulary_size, TEXT.width]
    nodes = compiled.get_runtime_model().get_ops()
    found = {
        node.get_output_element_type(0).get_type_name()
        for node in nodes
        if node.get_output_partial_shape(0).is_static and list(node.get_output_shape(0)) == shape
    }
    assert found == {{"float32": "f32", "float16": "f16", "bfloat16": "bf16"}[dtype]}
