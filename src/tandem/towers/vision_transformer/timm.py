"""timm's names for Vision Transformers, as open_clip's configurations give them, to and from descriptions.

A name tells what tensors do not show: heads, activation, pooling, rotary positions. Sizes are read from the tensors.
"""

import math
import re

from tandem.errors import ConfigError
from tandem.towers.parts.shapes import Shapes
from tandem.towers.vision_transformer import mobileclip, pe_core, siglip
from tandem.towers.vision_transformer.description import VisionTransformer

_SIGLIP = re.compile(r"vit_([a-z0-9]+)_patch(\d+)_siglip_(\d+)")
_HEAD_WIDTHS = {"so400m": 72, "giantopt": 96}  # 64 elsewhere
_SIZES = {(768, 12): "base", (1024, 24): "large", (1152, 27): "so400m", (1536, 40): "giantopt"}


def siglip_name(shapes: Shapes) -> str | None:
    """The published SigLIP tower that has these tensors; None where sizes do not tell which one it is."""
    width, _, patch, _ = _of("visual.conv1.weight", 4, shapes)
    positions = _of("visual.positional_embedding", 2, shapes)[0]
    size, grid = _SIZES.get((width, _layers(shapes))), math.isqrt(positions)
    if size is None or grid * grid != positions or grid * patch == 378:  # 384 pixels give as many patches of 14
        return None
    return f"vit_{size}_patch{patch}_siglip_{grid * patch}"


def description(name: str, image_size: int, shapes: Shapes) -> VisionTransformer | None:
    """The tower that a name of timm and tensors under our names describe; None for the name of another tower."""
    if name.startswith("vit_pe_core_"):
        return _pe_core(name, image_size, shapes)
    if name in mobileclip.NAMES:
        return _mobileclip(name, image_size, shapes)
    match = _SIGLIP.fullmatch(name)
    if match is None:
        return None
    size, patch = match[1], int(match[2])
    width, _, patch_size, _ = _of("visual.conv1.weight", 4, shapes)
    mlp_width, pool_mlp_width = (
        _of(f"visual.{name}.c_fc.weight", 2, shapes)[0] for name in ("transformer.resblocks.0.mlp", "pool.mlp")
    )
    sizes = (image_size, patch_size, width, _layers(shapes), _heads(size, width), mlp_width)
    return siglip.described(*sizes, siglip.activation_in_timm(size, patch), pool_mlp_width)


def name_of(vision: VisionTransformer) -> str | None:
    """timm's name for a tower, whatever its activation; None where it has none."""
    size = _SIZES.get((vision.width, vision.layers), "")
    name = f"vit_{size}_patch{vision.patch_size}_siglip_{vision.image_size}"
    heads = _heads(size, vision.width)
    sizes = (vision.image_size, vision.patch_size, vision.width, vision.layers, heads, vision.mlp_width)
    if size and siglip.described(*sizes, vision.activation, vision.mlp_width) == vision:
        return name
    return pe_core.name_of(vision) or mobileclip.name_of(vision)


def settings(vision: VisionTransformer) -> dict[str, object]:
    """What open_clip's configuration says beside the name."""
    pool = {"class": "token", "attention": "map", "mean": "avg"}[vision.pooling]
    # Without a `timm_proj`, timm's own head is the projection
    return {"timm_pool": pool, "timm_proj": "none" if vision.projection == "none" else None}


def _pe_core(name: str, image_size: int, shapes: Shapes) -> VisionTransformer | None:
    width, _, patch_size, _ = _of("visual.conv1.weight", 4, shapes)
    mlp_width, _ = _of("visual.transformer.resblocks.0.mlp.c_fc.weight", 2, shapes)
    pool_mlp_width, _ = _of("visual.pool.mlp.c_fc.weight", 2, shapes)
    return pe_core.described(name, image_size, patch_size, width, _layers(shapes), mlp_width, pool_mlp_width)


def _mobileclip(name: str, image_size: int, shapes: Shapes) -> VisionTransformer:
    stem = name == mobileclip.B
    first, _, side, _ = _of("visual.stem.0.conv.weight" if stem else "visual.conv1.weight", 4, shapes)
    mlp_width, width = _of("visual.transformer.resblocks.0.mlp.c_fc.weight", 2, shapes)
    sizes = (side * 4 if stem else side, width, _layers(shapes), mlp_width)
    return mobileclip.described(image_size, *sizes, stem_width=first if stem else 0)


def _heads(size: str, width: int) -> int:
    return max(1, width // _HEAD_WIDTHS.get(size, 64))


def _layers(shapes: Shapes) -> int:
    return len({found[1] for key in shapes if (found := re.match(r"visual\.transformer\.resblocks\.(\d+)\.", key))})


def _of(name: str, rank: int, shapes: Shapes) -> tuple[int, ...]:
    shape = shapes.get(name, ())
    if len(shape) != rank or min(shape, default=0) < 1:
        raise ConfigError(f"tensor {name}: expected {rank} dimensions, got {list(shape) or 'none'}")
    return shape
