"""timm's names in open_clip's configurations: an image tower described by its name alone.

The name gives what tensors do not show; sizes are read from the tensors. Which names there are is written in the rooms
of the towers. Pure, on plain values.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, get_args

from tandem.config import Activation, ImageTower, ModelConfig, VisionTransformer
from tandem.errors import ConfigError
from tandem.towers import IMAGE_TOWERS, has_part, tower_part
from tandem.towers.parts.shapes import Shapes
from tandem.weights.checkpoint import CANNOT_BUILD

BY_NAME_ONLY = (
    "open_clip knows such an image tower by timm's name only, and timm has none of these sizes: write it as 'tandem'"
)


def tower_of(name: str, image_size: int, shapes: Shapes, source: str) -> ImageTower:
    """The tower that a name and tensors under our names describe. Raises `ConfigError` for a name of no room."""
    for kind in IMAGE_TOWERS.values():
        if has_part(kind, "timm") and (found := tower_part(kind, "timm").description(name, image_size, shapes)):
            return found  # type: ignore[no-any-return]
    raise ConfigError(f"{source}: vision_cfg.timm_model_name = {name!r}: {CANNOT_BUILD}")


def check_head(name: str, tower: ImageTower, values: Mapping[str, Any], source: str) -> None:
    """Refuse a pooling or a projection, in `vision_cfg`, that the tower does not have. Raises `ConfigError`."""
    for key, wanted in tower_part(tower, "timm").settings(tower).items():
        if (values.get(key, wanted) or None) != wanted:
            expected = "null" if wanted is None else repr(wanted)
            raise ConfigError(
                f"{source}: vision_cfg.{key} = {values[key]!r}: {CANNOT_BUILD} (expected {expected} for {name})"
            )


def restated(tower: ImageTower, plain: Mapping[str, Any], source: str) -> ImageTower:
    """The tower with the activation that Tandem wrote beside timm's name, where the name means another one."""
    ours = plain.get("tandem")
    stated = ours.get("image_activation") if isinstance(ours, dict) else None
    if stated is None or not isinstance(tower, VisionTransformer):
        return tower
    if stated not in get_args(Activation):
        raise ConfigError(
            f"{source}: tandem.image_activation: expected one of {', '.join(get_args(Activation))}, got {stated!r}"
        )
    return dataclasses.replace(tower, activation=stated)


def timm_model_of(config: ModelConfig) -> str | None:
    """timm's name of the image tower; None for the towers that are open_clip's own."""
    vision = config.vision
    if not has_part(vision, "timm"):
        return config.timm_model or None
    for name in (config.timm_model, tower_part(vision, "timm").name_of(vision)):
        if name and _apart_from_activation(_described_by(name, config)) == _apart_from_activation(vision):
            return str(name)
    return None


def image_activation_beside(config: ModelConfig) -> Activation | None:
    """The activation of an image tower whose name in timm means another one: open_clip has no field for it."""
    name, mine = timm_model_of(config), getattr(config.vision, "activation", None)
    return mine if name and mine != getattr(_described_by(name, config), "activation", None) else None


def _described_by(timm_model: str, config: ModelConfig) -> object:
    """The tower that a name of timm describes, given the sizes of this one."""
    vision = config.vision
    shapes = tower_part(vision, "shapes").shapes(vision, config.embed_dim)
    return tower_part(vision, "timm").description(timm_model, vision.image_size, shapes)


def _apart_from_activation(tower: object) -> object:
    return dataclasses.replace(tower, activation="gelu") if isinstance(tower, VisionTransformer) else tower
