"""The Vision Transformer of SigLIP and SigLIP 2: what it is beside its sizes. Pure."""

from typing import Any

from tandem.towers.parts.description import Activation
from tandem.towers.vision_transformer.description import VisionTransformer

# What is not CLIP's: no class token, no first norm, no projection
VARIATIONS: dict[str, Any] = {"class_token": False, "patch_bias": True, "first_norm": False, "projection": "none"}
NORM_EPSILON = 1e-6


def described(
    image_size: int,
    patch_size: int,
    width: int,
    layers: int,
    heads: int,
    mlp_width: int,
    activation: Activation,
    pool_mlp_width: int,
) -> VisionTransformer:
    """The tower of these sizes: attention pooling has as many heads as the blocks."""
    return VisionTransformer(
        image_size,
        patch_size,
        width,
        layers,
        heads,
        mlp_width,
        activation,
        pooling="attention",
        pool_heads=heads,
        pool_mlp_width=pool_mlp_width,
        norm_epsilon=NORM_EPSILON,
        **VARIATIONS,
    )


def activation_in_timm(size: str, patch_size: int) -> Activation:
    """What timm computes for a published size, under its name: transformers computes gelu_tanh everywhere."""
    return "gelu_tanh" if size == "giantopt" or (size, patch_size) == ("base", 32) else "gelu"
