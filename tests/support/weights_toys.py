"""Toy checkpoints for the tests of `tandem.weights`: a few thousand weights, drawn from a seed, in any dtype."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tandem import bpe
from tandem.config import ModelConfig, Preprocessing, ResNet, TextTransformer, VisionTransformer
from tandem.tokenizer import TextFormat, Tokenizer
from tandem.weights import Checkpoint, expected_shapes

MERGES = [("c", "a"), ("ca", "t</w>"), ("d", "o"), ("do", "g</w>"), ("a", "n</w>")]
VOCABULARY = 512 + len(MERGES) + 2  # bytes, bytes that end a word, merges, start, end


def text(**changes: Any) -> TextTransformer:
    values: dict[str, Any] = {
        "context_length": 16,
        "vocabulary_size": VOCABULARY,
        "width": 64,
        "layers": 2,
        "heads": 1,
        "mlp_width": 128,
        "activation": "quick_gelu",
        "start_id": VOCABULARY - 2,
        "end_id": VOCABULARY - 1,
    }
    return TextTransformer(**{**values, **changes})


def vit(**changes: Any) -> ModelConfig:
    vision = VisionTransformer(32, 8, 64, 2, 1, 256, changes.get("activation", "quick_gelu"))
    return ModelConfig(48, vision, text(**changes), Preprocessing(32), name="toy-vit")


def resnet(**changes: Any) -> ModelConfig:
    return ModelConfig(48, ResNet(64, (1, 2, 1, 1), 8, 4), text(**changes), Preprocessing(64), name="toy-resnet")


def basic(**changes: Any) -> ModelConfig:
    vision = ResNet(32, (1, 2, 1, 1), 8, 4, "basic", 2)
    return ModelConfig(48, vision, text(**changes), Preprocessing(32), name="toy-basic")


def siglip(**changes: Any) -> ModelConfig:
    """SigLIP as transformers describes it: attention pooling, padded texts read at their last position, a bias."""
    activation = changes.pop("activation", "gelu_tanh")
    width, heads = changes.pop("image_width", 128), 2
    vision = VisionTransformer(
        32, 8, width, 2, heads, 192, changes.pop("image_activation", activation), class_token=False, patch_bias=True,
        first_norm=False, pooling="attention", pool_heads=heads, pool_mlp_width=192, projection="none",
        norm_epsilon=1e-6,
    )  # fmt: skip
    timm_model = changes.pop("timm_model", "")
    varied: dict[str, Any] = {
        "causal": False,
        "pooling": "last",
        "projection_bias": True,
        "norm_epsilon": 1e-6,
        "cleaning": "canonical",
        "start_id": None,
    }
    half = (0.5, 0.5, 0.5)
    words = text(**{"activation": activation, **varied, **changes})
    preprocessing = Preprocessing(32, half, half, "squash")
    return ModelConfig(width, vision, words, preprocessing, "toy-siglip", timm_model=timm_model, logit_bias=True)


def tensors(config: ModelConfig, dtype: Any = np.float32, seed: int = 0) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(seed)
    return {
        name: np.asarray(draw.standard_normal(shape) * 0.05 + (name.endswith("var") * 1.0)).astype(dtype)
        for name, shape in expected_shapes(config).items()
    }


def tokenizer(config: ModelConfig) -> Tokenizer:
    ids = config.text
    return Tokenizer(bpe.from_merges(MERGES), TextFormat(ids.start_id, ids.end_id, ids.pad_id))


def checkpoint(config: ModelConfig | None = None, dtype: Any = np.float32) -> Checkpoint:
    config = config or vit()
    return Checkpoint(config, tensors(config, dtype), tokenizer(config), "toy")


def to_torch(arrays: Mapping[str, np.ndarray]) -> dict[str, torch.Tensor]:
    def convert(array: np.ndarray) -> torch.Tensor:
        if array.dtype.name == "bfloat16":
            return torch.from_numpy(array.view(np.int16).copy()).view(torch.bfloat16)
        return torch.from_numpy(np.array(array))

    return {name: convert(array) for name, array in arrays.items()}


class Node(torch.nn.Module):
    """A part of a TorchScript tree: it has parameters and children, and a method that means nothing."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 1


def save_torchscript(path: Path, state: Mapping[str, torch.Tensor], sizes: Mapping[str, int]) -> None:
    """What OpenAI published: a scripted module tree with the original's attribute names and three extra buffers."""
    root = Node()
    for name, tensor in state.items():
        node = root
        *parents, leaf = name.split(".")
        for part in parents:
            if part not in dict(node.named_children()):
                node.add_module(part, Node())
            node = node.get_submodule(part)  # type: ignore[assignment]
        if "running_" in leaf:
            node.register_buffer(leaf, tensor)
        else:
            node.register_parameter(leaf, torch.nn.Parameter(tensor, requires_grad=False))
    for name, size in sizes.items():
        root.register_buffer(name, torch.tensor(size))
    torch.jit.save(torch.jit.script(root), str(path))


def same(ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray]) -> None:
    """Equal names, dtypes, shapes and bits."""
    assert sorted(ours) == sorted(theirs)
    for name, array in ours.items():
        other = theirs[name]
        assert (array.dtype, array.shape) == (other.dtype, other.shape), name
        assert array.tobytes() == other.tobytes(), name


def edit(path: Path, **changes: Any) -> None:
    """Change keys of a JSON file; `a__b` goes one mapping deeper; None removes."""
    content = json.loads(path.read_text())
    for key, value in changes.items():
        *parents, leaf = key.split("__")
        inner = content
        for parent in parents:
            inner = inner[parent]
        if value is None:
            inner.pop(leaf, None)
        else:
            inner[leaf] = value
    path.write_text(json.dumps(content))
