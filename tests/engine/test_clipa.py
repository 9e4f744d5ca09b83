"""CLIPA: its towers against the published formulas, its tokenizer against transformers', and its folder."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support import weights_toys as toys
from support.engine_toys import random_pixels, random_tensors
from tokenizers import Tokenizer as Core
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors
from torch import Tensor

from tandem import engine as engines
from tandem import weights
from tandem.config import ModelConfig, Preprocessing, TextTransformer, VisionTransformer
from tandem.engine import numpy_engine
from tandem.engine.inputs import read_positions
from tandem.errors import WeightsError
from tandem.nn import from_arrays
from tandem.tokenizer import Tokenizer
from tandem.weights.safetensors_file import write_safetensors

pytestmark = pytest.mark.slow_if("openvino")  # that it agrees with torch, test_engine_contract.py shows every day


WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "photo", "of", "dog", "##s", "snow", "in", "the", "!", "."]
PAD, UNKNOWN, START, SEPARATOR = 0, 1, 2, 3
CONTEXT = 9
VISION = VisionTransformer(32, 8, 48, 2, 3, 96, "gelu", first_norm=False, pooling="mean", norm_after_pooling=True)
TEXT = TextTransformer(
    CONTEXT, len(WORDS) + 5, 32, 2, 2, 64, "gelu", START, PAD, PAD, causal=False, pooling="last", cleaning="whitespace"
)
MODEL = ModelConfig(
    20, VISION, TEXT, Preprocessing(32, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "squash", "bilinear")
)
VARIANTS = {
    "clipa": MODEL,
    # The same with the last norm before the mean, and CLIP with a mean in place of its class token
    "norm-first": replace(MODEL, vision=replace(VISION, norm_after_pooling=False)),
    "clip-mean": replace(MODEL, vision=replace(VISION, first_norm=True)),
    "class": replace(MODEL, vision=replace(VISION, pooling="class", norm_after_pooling=False)),
    "causal": replace(MODEL, text=replace(TEXT, causal=True)),
}


# --- the published formulas --------------------------------------------------------------------------------------


def block(x: Tensor, get: Mapping[str, Tensor], name: str, heads: int, causal: bool = False) -> Tensor:
    """A pre-norm block of torch's own layers, [n t w] -> [n t w]."""
    width = x.shape[-1]
    mask = torch.full((x.shape[1],) * 2, -torch.inf, dtype=x.dtype).triu(1) if causal else None
    y = norm(x, get, f"{name}.ln_1").transpose(0, 1)
    attended, _ = F.multi_head_attention_forward(
        y, y, y, width, heads, get[f"{name}.attn.in_proj_weight"], get[f"{name}.attn.in_proj_bias"], None, None, False,
        0.0, get[f"{name}.attn.out_proj.weight"], get[f"{name}.attn.out_proj.bias"], training=False,
        need_weights=False, attn_mask=mask,
    )  # fmt: skip
    x = x + attended.transpose(0, 1)
    y = F.linear(norm(x, get, f"{name}.ln_2"), get[f"{name}.mlp.c_fc.weight"], get[f"{name}.mlp.c_fc.bias"])
    return x + F.linear(F.gelu(y), get[f"{name}.mlp.c_proj.weight"], get[f"{name}.mlp.c_proj.bias"])


def norm(x: Tensor, get: Mapping[str, Tensor], name: str) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], get[f"{name}.weight"], get[f"{name}.bias"], 1e-5)


def image_reference(pixels: np.ndarray, config: ModelConfig, get: Mapping[str, Tensor]) -> Tensor:
    vision = config.vision
    assert isinstance(vision, VisionTransformer)
    mean, std = (torch.tensor(each).double() for each in (config.preprocessing.mean, config.preprocessing.std))
    x = ((torch.from_numpy(pixels).double() / 255 - mean) / std).permute(0, 3, 1, 2)
    x = F.conv2d(x, get["visual.conv1.weight"], stride=vision.patch_size).flatten(2).transpose(1, 2)
    x = torch.cat([get["visual.class_embedding"].expand(len(x), 1, -1), x], dim=1)
    x = x + get["visual.positional_embedding"]
    if vision.first_norm:
        x = norm(x, get, "visual.ln_pre")
    for i in range(vision.layers):
        x = block(x, get, f"visual.transformer.resblocks.{i}", vision.heads)
    if vision.pooling == "class":
        x = norm(x[:, 0], get, "visual.ln_post")
    elif vision.norm_after_pooling:
        x = norm(x[:, 1:].mean(1), get, "visual.ln_post")
    else:
        x = norm(x, get, "visual.ln_post")[:, 1:].mean(1)
    return F.normalize(x @ get["visual.proj"])


def text_reference(ids: np.ndarray, config: ModelConfig, get: Mapping[str, Tensor]) -> Tensor:
    """Ids [n t], padded to the context length."""
    x = get["token_embedding.weight"][torch.from_numpy(ids).long()] + get["positional_embedding"]
    for i in range(config.text.layers):
        x = block(x, get, f"transformer.resblocks.{i}", config.text.heads, config.text.causal)
    return F.normalize(norm(x, get, "ln_final")[:, -1] @ get["text_projection"])


def ids_of(*rows: list[int]) -> np.ndarray:
    return np.array([[START, *row, *[PAD] * (CONTEXT - 1 - len(row))] for row in rows], np.int32)


IDS = ids_of([5, 6, 7, 5, 8], [8], [], [5, 6, 7, 5, 8, 11, 12])  # the last with the one zero that ends it


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("engine", ["openvino", "torch", "numpy"])
def test_the_engines_compute_the_published_formulas(variant: str, engine: str) -> None:
    config = VARIANTS[variant]
    tensors, pixels = random_tensors(config), random_pixels(config)
    get = {name: torch.from_numpy(array).double() for name, array in tensors.items()}
    if engine == "numpy":
        images = numpy_engine.encode_images(config, tensors, pixels)
        texts = numpy_engine.encode_texts(config, tensors, IDS, read_positions(IDS, config.text))
    else:
        built = engines.build(config, tensors, engine=engine)
        images = built.encode_images(np.concatenate([pixels] * 12))[: len(pixels)]
        texts = built.encode_texts(np.concatenate([IDS] * 40))[: len(IDS)]
        # Whatever padding a caller leaves out is put back: it reaches the vector
        np.testing.assert_allclose(built.encode_texts(IDS[:1, :6]), texts[:1], atol=1e-6)
        np.testing.assert_allclose(built.encode_texts(IDS[1:2, :2]), texts[1:2], atol=1e-6)
    np.testing.assert_allclose(images, image_reference(pixels, config, get).numpy(), atol=2e-6)
    np.testing.assert_allclose(texts, text_reference(IDS, config, get).numpy(), atol=2e-6)


def test_gradients_are_those_of_the_published_formulas() -> None:
    tensors, pixels = random_tensors(MODEL), random_pixels(MODEL)
    model = from_arrays(MODEL, tensors).double().train()
    mean, std = (torch.tensor(each).double() for each in (MODEL.preprocessing.mean, MODEL.preprocessing.std))
    x = ((torch.from_numpy(pixels).double() / 255 - mean) / std).permute(0, 3, 1, 2)
    ids = torch.from_numpy(IDS).long()
    (F.normalize(model.encode_image(x))[: len(IDS)] * F.normalize(model.encode_text(ids))).sum().backward()
    get = {name: torch.from_numpy(array).double().requires_grad_() for name, array in tensors.items()}
    (image_reference(pixels, MODEL, get)[: len(IDS)] * text_reference(IDS, MODEL, get)).sum().backward()
    ours = {name: parameter.grad for name, parameter in model.state_dict(keep_vars=True).items()}
    for name, leaf in get.items():
        if not name.startswith("logit_"):
            torch.testing.assert_close(ours[name], leaf.grad, rtol=1e-9, atol=1e-12)


# --- the tokenizer -----------------------------------------------------------------------------------------------


def bert() -> Core:
    """BERT's kind of tokenizer: lower case, word pieces, [CLS] and [SEP] around a text."""
    core = Core(models.WordPiece({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    core.normalizer = normalizers.BertNormalizer(lowercase=True)
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.decoder = decoders.WordPiece()
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", START), ("[SEP]", SEPARATOR)]
    )
    core.add_special_tokens(WORDS[:5])
    return core


def folder_of(path: Path, dtype: Any = np.float32, **text: Any) -> Path:
    """A folder as CLIPA's are published: open_clip's configuration, plain names, BERT's tokenizer."""
    path.mkdir(parents=True)
    plain = {
        "model_cfg": {
            "embed_dim": 20,
            "vision_cfg": {
                "image_size": 32, "layers": 2, "width": 48, "head_width": 16, "mlp_ratio": 2.0, "patch_size": 8,
                "no_ln_pre": True, "pool_type": "avg", "final_ln_after_pool": True,
            },
            "text_cfg": {
                "context_length": CONTEXT, "vocab_size": len(WORDS) + 5, "hf_tokenizer_name": "bert-base-uncased",
                "tokenizer_kwargs": {"strip_sep_token": True}, "width": 32, "heads": 2, "layers": 2, "mlp_ratio": 2.0,
                "pool_type": "last", "no_causal_mask": True, **text,
            },
        },
        "preprocess_cfg": {
            "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "interpolation": "bilinear",
            "resize_mode": "squash",
        },
    }  # fmt: skip
    (path / "open_clip_config.json").write_text(json.dumps(plain))
    bert().save(str(path / "tokenizer.json"))
    special = {"unk_token": "[UNK]", "sep_token": "[SEP]", "pad_token": "[PAD]", "cls_token": "[CLS]"}
    (path / "special_tokens_map.json").write_text(json.dumps(special))
    (path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer", **special}))
    tensors = {name: array.astype(dtype) for name, array in random_tensors(MODEL).items()}
    write_safetensors(path / "open_clip_model.safetensors", tensors, {"format": "pt"})
    return path


def test_the_published_layout_says_what_clipa_is(tmp_path: Path) -> None:
    config = weights.read(folder_of(tmp_path / "m")).config
    assert (config.vision, config.text, config.preprocessing) == (VISION, TEXT, MODEL.preprocessing)


TEXTS = ["a photo of a dog", "Dogs  in the SNOW!", "", "zebra", "a photo of a dog in the snow of the dog of a dog"]


def test_ids_are_those_of_the_reference(tmp_path: Path) -> None:
    """transformers' tokenizer, padded and cut to the context, with 0 in place of [SEP]: as open_clip calls it."""
    transformers = pytest.importorskip("transformers")
    theirs = transformers.PreTrainedTokenizerFast(
        tokenizer_object=bert(), unk_token="[UNK]", sep_token="[SEP]", pad_token="[PAD]", cls_token="[CLS]"
    )
    expected = theirs(TEXTS, padding="max_length", truncation=True, max_length=CONTEXT, return_tensors="np").input_ids
    expected = np.where(expected == SEPARATOR, 0, expected)
    ours = weights.read(folder_of(tmp_path / "m")).tokenizer
    np.testing.assert_array_equal(ours(TEXTS, CONTEXT, truncate=True, pad_to=CONTEXT), expected)
    assert expected[-1, -1] == 0  # a text that is cut keeps the place of its end


# --- round trips -------------------------------------------------------------------------------------------------


bfloat16 = pytest.importorskip("ml_dtypes").bfloat16


@pytest.mark.parametrize("dtype", [np.float32, np.float16, bfloat16], ids=["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("to", ["tandem", "open_clip"])
def test_a_round_trip_keeps_every_bit_and_the_tokenizer(tmp_path: Path, to: Any, dtype: Any) -> None:
    checkpoint = weights.read(folder_of(tmp_path / "m", dtype))
    back = weights.read(weights.write(checkpoint, tmp_path / "out", to))
    toys.same(back.tensors, checkpoint.tensors)
    for field in ("embed_dim", "vision", "text", "preprocessing"):
        assert getattr(back.config, field) == getattr(checkpoint.config, field), field
    np.testing.assert_array_equal(back.tokenizer(TEXTS, CONTEXT, True), checkpoint.tokenizer(TEXTS, CONTEXT, True))
    assert weights.fingerprint(back) == weights.fingerprint(checkpoint)


def test_what_is_written_for_open_clip_gives_its_tokenizer_the_same_ids(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    checkpoint = weights.read(folder_of(tmp_path / "m"))
    folder = weights.write(checkpoint, tmp_path / "out", "open_clip")
    text = json.loads((folder / "open_clip_config.json").read_text())["model_cfg"]["text_cfg"]
    assert text["tokenizer_kwargs"] == {"clean": "whitespace", "strip_sep_token": True}
    assert text["hf_tokenizer_name"]  # then open_clip takes the tokenizer that lies beside
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    ids = theirs(TEXTS, padding="max_length", truncation=True, max_length=CONTEXT, return_tensors="np").input_ids
    ids = np.where(ids == theirs.sep_token_id, 0, ids)
    np.testing.assert_array_equal(ids, checkpoint.tokenizer(TEXTS, CONTEXT, truncate=True, pad_to=CONTEXT))


def test_transformers_has_no_such_model(tmp_path: Path) -> None:
    checkpoint = weights.read(folder_of(tmp_path / "m"))
    with pytest.raises(WeightsError, match="transformers has no model type for this combination"):
        weights.write(checkpoint, tmp_path / "out", "transformers")


def test_a_tokenizer_in_memory_has_the_ids_of_the_folder(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "m")
    ours = Tokenizer.from_folder(folder, TEXT)
    assert ours is not None
    assert (ours.start_id, ours.end_id, ours.pad_id) == (START, PAD, PAD)
    assert ours(["a zebra"]).tolist() == [[START, WORDS.index("a"), UNKNOWN, PAD]]
