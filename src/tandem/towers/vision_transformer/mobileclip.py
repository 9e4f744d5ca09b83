"""The Vision Transformers of MobileCLIP: B, whose stem is convolutions, and MobileCLIP 2's L-14. Pure."""

from typing import Any

from tandem.towers.vision_transformer.description import VisionTransformer

B, L_14 = "vit_base_mci_224", "vit_large_patch14_clip_224"
NAMES = (B, L_14)  # timm's
# Patch size, width, layers, the MLP's width, channels of the stem
_SIZES = {B: (16, 768, 12, 3072, 192), L_14: (14, 1024, 24, 4096, 0)}
_WITH_STEM: dict[str, Any] = {"class_position": False, "patch_bias": True, "first_norm": False, "norm_epsilon": 1e-6}


def described(
    image_size: int, patch_size: int, width: int, layers: int, mlp_width: int, stem_width: int
) -> VisionTransformer:
    """The tower of these sizes: heads of 64, the class token read, a projection with a bias."""
    sizes = (image_size, patch_size, width, layers, max(1, width // 64), mlp_width)
    varied = _WITH_STEM if stem_width else {}
    return VisionTransformer(*sizes, "gelu", stem_width=stem_width, projection="biased", **varied)


def published(name: str) -> VisionTransformer:
    """The published tower of this name."""
    return described(224, *_SIZES[name])


def name_of(vision: VisionTransformer) -> str | None:
    """timm's name for a tower; None where it is neither."""
    return next((name for name, sizes in _SIZES.items() if vision == described(vision.image_size, *sizes)), None)
