"""Toy models for the engine tests: a few thousand random weights of every architecture."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open

from tandem.config import FastViT, ModelConfig, NaFlex, Preprocessing, ResNet, TextTransformer, VisionTransformer
from tandem.weights import expected_shapes

END = 99
TEXT = TextTransformer(24, 100, 32, 3, 4, 128, "quick_gelu", start_id=98, end_id=END)
ODD_TEXT = TextTransformer(13, 100, 30, 2, 3, 70, "gelu", start_id=98, end_id=END)
PADDED_TEXT = TextTransformer(
    20, 100, 24, 2, 4, 64, "gelu_tanh", None, END, 3, causal=False, pooling="last", projection_bias=True,
    norm_epsilon=1e-6, cleaning="canonical",
)  # fmt: skip
HALF = (0.5, 0.5, 0.5)

TOYS: dict[str, ModelConfig] = {
    "vit": ModelConfig(20, VisionTransformer(32, 8, 32, 3, 4, 128, "quick_gelu"), TEXT, Preprocessing(32)),
    # heads of 7, a narrow MLP, a patch that leaves a border of 3 pixels, one layer
    "vit-gelu-odd": ModelConfig(
        18,
        VisionTransformer(31, 7, 42, 1, 6, 50, "gelu"),
        ODD_TEXT,
        Preprocessing(31, mean=(0.5, 0.4, 0.3), std=(0.5, 0.6, 0.7)),
    ),
    "pe-core": ModelConfig(
        20,
        VisionTransformer(
            32,
            8,
            32,
            3,
            2,
            80,
            "gelu",
            pooling="attention",
            pool_heads=4,
            pool_mlp_width=96,
            projection="biased",
            rotary_grid=6,
            rotary_offset=1,
        ),
        TEXT,
        Preprocessing(32),
    ),
    # As the largest: no class token, wider heads
    "pe-core-patches": ModelConfig(
        20,
        VisionTransformer(
            28,
            7,
            48,
            2,
            2,
            80,
            "gelu",
            class_token=False,
            pooling="attention",
            pool_heads=8,
            pool_mlp_width=96,
            projection="biased",
            rotary_grid=4,
        ),
        ODD_TEXT,
        Preprocessing(28),
    ),
    # Rotary positions with the class token's own vector: the last block computes that token alone
    "rotary-class": ModelConfig(
        20, VisionTransformer(32, 8, 32, 2, 4, 64, "gelu", rotary_grid=4, rotary_offset=1), TEXT, Preprocessing(32)
    ),
    "clipa": ModelConfig(
        20,
        VisionTransformer(32, 8, 32, 2, 4, 64, "gelu", first_norm=False, pooling="mean", norm_after_pooling=True),
        TEXT,
        Preprocessing(32),
    ),
    # no class token, no projection, texts padded and read at the last position
    "siglip": ModelConfig(
        32,
        VisionTransformer(
            32,
            8,
            32,
            2,
            4,
            64,
            "gelu_tanh",
            class_token=False,
            patch_bias=True,
            first_norm=False,
            pooling="attention",
            pool_heads=4,
            pool_mlp_width=64,
            projection="none",
            norm_epsilon=1e-6,
        ),
        PADDED_TEXT,
        Preprocessing(32, HALF, HALF, "squash"),
        logit_bias=True,
    ),
    "naflex": ModelConfig(
        32,
        NaFlex(8, 3, 20, 32, 2, 4, 64, "gelu"),
        PADDED_TEXT,
        Preprocessing(32, HALF, HALF, "naflex", "bilinear", patch_size=8, max_patches=20),
        logit_bias=True,
    ),
    "resnet-bottleneck": ModelConfig(20, ResNet(64, (1, 2, 1, 1), 8, 4), TEXT, Preprocessing(64)),
    "resnet-basic": ModelConfig(20, ResNet(32, (1, 2, 1, 2), 8, 4, "basic", 2), ODD_TEXT, Preprocessing(32)),
    "resnet-basic-stem4": ModelConfig(20, ResNet(64, (2, 1, 1, 1), 8, 2, "basic", 4), TEXT, Preprocessing(64)),
    "resnet-bottleneck-stem2": ModelConfig(
        20, ResNet(48, (1, 1, 1, 1), 6, 4, "bottleneck", 2), TEXT, Preprocessing(48)
    ),
    "fastvit": ModelConfig(20, FastViT(64, (1, 2, 1, 2), 8), TEXT, Preprocessing(64, (0, 0, 0), (1, 1, 1))),
    # five stages, attention in two, layer norms before it
    "fastvit-large": ModelConfig(
        18, FastViT(64, (1, 1, 1, 2, 1), 8, 4, 2, "layer", 0, stem_scale=False), ODD_TEXT, Preprocessing(64)
    ),
    # a stem of convolutions with batch norms, a class token without a position, a biased projection
    "vit-stem": ModelConfig(
        20,
        VisionTransformer(
            64,
            16,
            32,
            2,
            4,
            64,
            "gelu",
            class_position=False,
            patch_bias=True,
            stem_width=8,
            first_norm=False,
            projection="biased",
        ),
        TEXT,
        Preprocessing(64),
    ),
}


# One of each architecture, for every day; with the others, which vary within one, `make test` has them all.
EVERY_DAY = ("vit", "siglip", "naflex", "resnet-bottleneck", "fastvit")


def toys(*others: str, without: tuple[str, ...] = ()) -> list[Any]:
    """The names of the toys, and of others, as parameters: all but those for every day are marked slow."""
    names = [name for name in (*TOYS, *others) if name not in without]
    return [pytest.param(name, marks=() if name in EVERY_DAY else pytest.mark.slow) for name in names]


def random_tensors(config: ModelConfig, seed: int = 0) -> dict[str, np.ndarray]:
    """Every tensor, large enough that each matters: no norm is 1, no bias and no running statistic is trivial.

    Values that float16 holds exactly: weights stored in half precision are the same weights.
    """
    rng = np.random.default_rng(seed)
    tensors = {}
    for name, shape in expected_shapes(config).items():
        kind = name.rpartition(".")[2]
        if kind == "running_var":
            array = rng.uniform(0.5, 2, shape)
        elif kind == "weight" and len(shape) == 1:
            array = rng.uniform(0.6, 1.4, shape)  # gains of norms
        elif kind == "gamma":
            array = rng.uniform(0.2, 0.5, shape)  # of what a block adds
        elif len(shape) >= 2 and "embedding" not in name:
            fan_in = shape[0] if name.endswith(("proj", "projection")) else int(np.prod(shape[1:]))
            gain = 1.1 if name.endswith(".conv.weight") else 1.5  # several of these are added up
            array = rng.standard_normal(shape) * gain / np.sqrt(fan_in)
        else:
            array = rng.standard_normal(shape) * 0.3
        tensors[name] = np.asarray(array, np.float16).astype(np.float32)
    tensors["logit_scale"] = np.array(np.log(20), np.float32)
    return tensors


def random_pixels(config: ModelConfig, n: int = 5, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (n, *config.preprocessing.pixel_shape), dtype=np.uint8)
    if config.preprocessing.resize_mode == "naflex":
        pixels[..., -4:] = np.array([(0, rows, 0, 6 - rows) for rows in rng.integers(1, 6, n)])[:, None]
    return pixels


def random_ids(config: ModelConfig, lengths: tuple[int, ...] = (9, 3, 12, 2, 7, 3), seed: int = 2) -> np.ndarray:
    """Start token, words, end token, then padding, to the longest text."""
    text, rng = config.text, np.random.default_rng(seed)
    ids = np.full((len(lengths), max(lengths)), text.pad_id, np.int32)
    for row, length in zip(ids, lengths, strict=True):
        framed = [text.start_id, *rng.integers(1, 90, length - 2), text.end_id]
        row[:length] = framed if text.start_id is not None else [5, *framed[1:]]
    return ids


def golden(shared: Path, which: str) -> tuple[ModelConfig, dict[str, np.ndarray], Any]:
    """Configuration, tensors and the original's inputs and outputs.

    The golden pixels are normalised already: a mean of 0 and a std of 1/255 make the engine's own step leave them be.
    """
    with safe_open(shared / "golden" / f"{which}.safetensors", "np") as file:
        arguments = json.loads(file.metadata()["config"])
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  no mapping
    size, width = arguments["image_resolution"], arguments["vision_width"]
    if which == "vit-tiny":
        vision = VisionTransformer(
            size,
            arguments["vision_patch_size"],
            width,
            arguments["vision_layers"],
            width // 64,
            4 * width,
            "quick_gelu",
        )
    else:
        vision = ResNet(size, tuple(arguments["vision_layers"]), width, width * 32 // 64)
    text_width, vocabulary = arguments["transformer_width"], arguments["vocab_size"]
    text = TextTransformer(
        arguments["context_length"],
        vocabulary,
        text_width,
        arguments["transformer_layers"],
        arguments["transformer_heads"],
        4 * text_width,
        "quick_gelu",
        start_id=vocabulary - 2,
        end_id=vocabulary - 1,
    )
    plain = Preprocessing(size, mean=(0, 0, 0), std=(1 / 255,) * 3)
    config = ModelConfig(arguments["embed_dim"], vision, text, plain)
    tensors = {key: tensors[key] for key in expected_shapes(config)}
    return config, tensors, np.load(shared / "golden" / f"{which}.npz")
