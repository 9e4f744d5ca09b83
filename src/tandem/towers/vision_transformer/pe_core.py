"""PE-Core's image towers (Bolya et al. 2025) under timm's names: what the tensors of one do not show."""

import re

from tandem.towers.vision_transformer.description import VisionTransformer

# (width, layers) -> the size, and what it was trained on: pixels of a patch and of an image
_SIZES = {
    (192, 12): "tiny_patch16_384",
    (384, 12): "small_patch16_384",
    (768, 12): "base_patch16_224",
    (1024, 24): "large_patch14_336",
    (1536, 50): "gigantic_patch14_448",
}
_NAME = re.compile(r"vit_pe_core_(tiny|small|base|large|gigantic)_patch([1-9]\d{0,3})_(\d{1,5})")
_POOL_HEADS = 8  # in every size


def described(
    name: str, image_size: int, patch_size: int, width: int, layers: int, mlp_width: int, pool_mlp_width: int
) -> VisionTransformer | None:
    """The tower of this name with these sizes; None for other names."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    gigantic = match[1] == "gigantic"
    return VisionTransformer(
        image_size,
        patch_size,
        width,
        layers,
        max(1, width // (96 if gigantic else 64)),
        mlp_width,
        "gelu",
        class_token=not gigantic,
        pooling="attention",
        pool_heads=_POOL_HEADS,
        pool_mlp_width=pool_mlp_width,
        projection="biased",
        rotary_grid=int(match[3]) // int(match[2]),
        rotary_offset=0 if gigantic else 1,
    )


def name_by_size(width: int, layers: int) -> str:
    """timm's name of the published tower of this size; empty where there is none."""
    size = _SIZES.get((width, layers))
    return f"vit_pe_core_{size}" if size else ""


def name_of(vision: VisionTransformer) -> str | None:
    """timm's name for a tower of any image size; None where it is no PE-Core."""
    name = name_by_size(vision.width, vision.layers)
    sizes = (vision.image_size, vision.patch_size, vision.width, vision.layers, vision.mlp_width, vision.pool_mlp_width)
    return name if described(name, *sizes) == vision else None
