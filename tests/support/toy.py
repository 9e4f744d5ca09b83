"""Whole models of a few thousand weights, with random numbers inside: config, tensors, tokenizer, in memory or in our
folder format. Vectors of different images and texts differ; beyond that they mean nothing.
"""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tandem import bpe, weights
from tandem.config import (
    Activation,
    Bert,
    ModelConfig,
    Preprocessing,
    Quantization,
    ResNet,
    TextTower,
    TextTransformer,
    VisionTransformer,
)
from tandem.quantize import building
from tandem.tokenizer import TextFormat, Tokenizer

SIZE, DIMENSIONS, CONTEXT, TEXT_WIDTH, TEXT_LAYERS = 32, 12, 77, 16, 2


def tokenizer() -> Tokenizer:
    """CLIP's bytes and three merges: 517 entries."""
    table = bpe.from_merges([("c", "a"), ("ca", "t</w>"), ("d", "o")])
    return Tokenizer(table, TextFormat(table.vocabulary[bpe.START], table.vocabulary[bpe.END]))


def config(vision: str = "vit", activation: Activation = "gelu", **changes: Any) -> ModelConfig:
    words = tokenizer()
    towers = {
        "vit": VisionTransformer(SIZE, 8, 24, 2, 3, 48, activation),
        "pe-core": VisionTransformer(
            SIZE,
            8,
            24,
            2,
            3,
            48,
            activation,
            pooling="attention",
            pool_heads=4,
            pool_mlp_width=40,
            projection="biased",
            rotary_grid=6,
            rotary_offset=1,
        ),
        "clipa": VisionTransformer(
            SIZE, 8, 24, 2, 3, 48, activation, first_norm=False, pooling="mean", norm_after_pooling=True
        ),
        "resnet": ResNet(SIZE, (1, 1, 1, 1), 8, 4, block="basic", stem_stride=2),
        "bottleneck": ResNet(SIZE, (1, 1, 1, 1), 8, 4),
    }
    text = TextTransformer(
        CONTEXT, words.vocabulary_size, TEXT_WIDTH, TEXT_LAYERS, 2, 32, activation, words.start_id, words.end_id
    )
    if vision == "clipa":
        text = dataclasses.replace(text, causal=False, pooling="last")
    bert = Bert(
        CONTEXT, words.vocabulary_size, TEXT_WIDTH, TEXT_LAYERS, 2, 32, positions=80,
        start_id=words.start_id, end_id=words.end_id, pad_id=0,
    )  # fmt: skip
    towers["bert"] = towers["vit"]
    written: TextTower = bert if vision == "bert" else text
    made = ModelConfig(DIMENSIONS, towers[vision], written, Preprocessing(SIZE), name="toy", licence="CC0", data="none")
    return dataclasses.replace(made, **changes)


def tensors(config: ModelConfig, seed: int = 0) -> dict[str, np.ndarray]:
    """Random weights under the original names; norms near the identity, so that nothing vanishes."""
    random = np.random.default_rng(seed)
    made = {}
    for name, shape in weights.expected_shapes(config).items():
        values = random.normal(0, 0.3, shape)
        if name.endswith("running_var"):
            values = 1 + values**2
        elif name.endswith(("ln_1.weight", "ln_2.weight", "ln_pre.weight", "ln_post.weight", "ln_final.weight")):
            values = 1 + values / 3
        made[name] = values.astype(np.float32)
    made["logit_scale"] = np.array(3.0, dtype=np.float32)
    return made


def checkpoint(
    vision: str = "vit", seed: int = 0, activation: Activation = "gelu", **changes: Any
) -> weights.Checkpoint:
    described = config(vision, activation, **changes)
    return weights.Checkpoint(described, tensors(described, seed), tokenizer(), "toy")


def quantized(source: weights.Checkpoint) -> weights.Checkpoint:
    """A model of this one whose MLPs have weights of eight bits; it says that it agrees wholly."""
    names = [name for name in source.tensors if name.endswith("c_fc.weight")]
    made = building.build(source.config, source.tensors, building.Plan(), names)
    whole = {"top1": 1.0, "neighbours": 1.0, "mixed_neighbours": 1.0, "mean_cosine": 1.0, "least_cosine": 1.0}
    about = Quantization("int8-weights", source.config.name, weights.fingerprint(source), 9, 9, **whole)
    named = dataclasses.replace(source.config, name=f"{source.config.name} int8-weights", quantization=about)
    return dataclasses.replace(source, config=named, tensors=made)


def folder(path: Path, vision: str = "vit", seed: int = 0, **changes: Any) -> Path:
    """A model folder in our format."""
    weights.write(checkpoint(vision, seed, **changes), path, "tandem")
    return path


def random_image(seed: int = 0, size: tuple[int, int] = (48, 40)) -> Image.Image:
    """An image that no other seed gives."""
    random = np.random.default_rng(seed)
    small = random.integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)


def write_images(path: Path, count: int = 3) -> list[Path]:
    """Files `0.png`, `1.png`, ... in a folder."""
    path.mkdir(parents=True, exist_ok=True)
    files = [path / f"{i}.png" for i in range(count)]
    for i, file in enumerate(files):
        random_image(i).save(file)
    return files
