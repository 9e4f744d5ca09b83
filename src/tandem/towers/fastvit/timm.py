"""timm's names for FastViT, as open_clip's configurations give them, to and from descriptions.

The names stand for the published sizes; what a file holds is read from its tensors.
"""

import re
from dataclasses import replace

from tandem.errors import ConfigError
from tandem.towers.fastvit.description import FastViT
from tandem.towers.parts.shapes import Shapes

_LARGE = FastViT(256, (2, 12, 24, 4, 2), 96, 4, 2, "layer", 0, stem_scale=False)
PUBLISHED = {
    "fastvit_mci0": FastViT(256, (2, 6, 10, 2), 64),
    "fastvit_mci1": FastViT(256, (4, 12, 20, 4), 64),
    "fastvit_mci2": FastViT(256, (4, 12, 24, 4), 80),
    "fastvit_mci3": _LARGE,
    "fastvit_mci4": replace(_LARGE, layers=(2, 12, 24, 4, 4), width=128),
}


def description(name: str, image_size: int, shapes: Shapes) -> FastViT | None:
    """The tower that a name of timm and tensors under our names describe; None for the name of another tower.

    Without tensors it is the published one.
    """
    if name not in PUBLISHED:
        return None
    return from_shapes(image_size, shapes) if shapes else replace(PUBLISHED[name], image_size=image_size)


def from_shapes(image_size: int, shapes: Shapes) -> FastViT:
    """The tower that tensors under our names belong to. Raises `ConfigError` that names the tensor that is missing."""
    width = _rows("visual.stem.0.conv_kxk.0.conv.weight", shapes)
    hidden = _rows("visual.stages.0.blocks.0.mlp.fc1.weight", shapes)
    stages = _count(r"visual\.stages\.(\d+)\.", shapes)
    attention_stages = _count(r"visual\.stages\.(\d+)\.blocks\.0\.token_mixer\.qkv\.", shapes)
    batch_norms = _count(r"visual\.stages\.(\d+)\.blocks\.0\.norm\.running_mean", shapes)
    return FastViT(
        image_size,
        tuple(_count(rf"visual\.stages\.{stage}\.blocks\.(\d+)\.", shapes) for stage in range(stages)),
        width,
        hidden // width,
        attention_stages=attention_stages,
        attention_norm="layer" if attention_stages and not batch_norms else "batch",
        squeezed_stages=_count(r"visual\.stages\.(\d+)\.downsample\.proj\.0\.se\.", shapes),
        stem_scale="visual.stem.0.conv_scale.conv.weight" in shapes,
    )


def name_of(vision: FastViT) -> str | None:
    """timm's name for a tower; None where it has none."""
    return next(
        (name for name, made in PUBLISHED.items() if replace(made, image_size=vision.image_size) == vision), None
    )


def settings(vision: FastViT) -> dict[str, object]:
    """What open_clip's configuration says beside the name."""
    return {"timm_pool": "avg", "timm_proj": None}


def _count(pattern: str, shapes: Shapes) -> int:
    return len({found[1] for name in shapes if (found := re.match(pattern, name))})


def _rows(name: str, shapes: Shapes) -> int:
    shape = shapes.get(name, ())
    if len(shape) != 4 or shape[0] < 1:
        raise ConfigError(f"tensor {name}: expected 4 dimensions, got {list(shape) or 'none'}")
    return shape[0]
