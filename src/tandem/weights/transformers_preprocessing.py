"""transformers' preprocessor_config.json, to and from `Preprocessing`: pure, on plain values."""

import math
from collections.abc import Mapping
from typing import Any

from tandem.config import Interpolation, Preprocessing, ResizeMode
from tandem.errors import ConfigError, WeightsError
from tandem.fields import shown
from tandem.weights.config_values import channels
from tandem.weights.transformers_types import MODEL_TYPES, ModelType

_INTERPOLATIONS: dict[int, Interpolation] = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}  # Pillow's codes


def preprocessing_from(
    plain: Mapping[str, Any],
    image_size: int,
    source: str,
    kind: ModelType = MODEL_TYPES["clip"],
    patch_size: int = 0,
) -> Preprocessing:
    """`preprocessor_config.json` as `Preprocessing`; keys left out mean the defaults of the model type's processor.

    patch_size: of the tower, for model types whose images are patches. Raises `ConfigError` for steps that no CLIP has.
    """
    nested = plain.get("image_processor")
    plain = nested if isinstance(nested, dict) else plain
    for key in ("do_resize", "do_rescale"):
        if not plain.get(key, True):
            raise ConfigError(f"{source}: {key}: expected true, got false; Tandem always resizes and rescales")
    factor = plain.get("rescale_factor") or 1 / 255
    if not isinstance(factor, int | float) or not 0.9999 <= factor * 255 <= 1.0001:  # NaN is refused, too
        raise ConfigError(f"{source}: rescale_factor: expected 1/255, got {shown(factor)}")
    resample = plain.get("resample", 2 if kind.naflex else 3)
    if type(resample) is not int or resample not in _INTERPOLATIONS:
        raise ConfigError(f"{source}: resample: expected one of {list(_INTERPOLATIONS)}, got {shown(resample)}")
    normalises = bool(plain.get("do_normalize", True))
    mean = channels(plain.get("image_mean", kind.mean), f"{source}: image_mean") if normalises else (0.0, 0.0, 0.0)
    std = channels(plain.get("image_std", kind.std), f"{source}: image_std") if normalises else (1.0, 1.0, 1.0)
    interpolation = _INTERPOLATIONS[resample]
    if kind.naflex:
        most = _max_patches(plain, patch_size, source)
        size = math.isqrt(most) * patch_size
        return Preprocessing(size, mean, std, "naflex", interpolation, patch_size=patch_size, max_patches=most)
    return Preprocessing(image_size, mean, std, _resize_mode(plain, image_size, source, kind), interpolation)


def _max_patches(plain: Mapping[str, Any], patch_size: int, source: str) -> int:
    if plain.get("patch_size", patch_size) != patch_size:
        raise ConfigError(f"{source}: patch_size: expected {patch_size}, the model's, got {shown(plain['patch_size'])}")
    most = plain.get("max_num_patches", 256)
    if type(most) is not int or most < 1:
        raise ConfigError(f"{source}: max_num_patches: expected a whole number of at least 1, got {shown(most)}")
    return most


def _resize_mode(plain: Mapping[str, Any], image_size: int, source: str, kind: ModelType) -> ResizeMode:
    size = plain.get("size", {"height": image_size, "width": image_size} if kind.squashed else image_size)
    size = {"shortest_edge": size} if isinstance(size, int) else size
    crops = bool(plain.get("do_center_crop", not kind.squashed))
    crop = plain.get("crop_size", image_size)
    crop = {"height": crop, "width": crop} if isinstance(crop, int) else crop
    if size == {"shortest_edge": image_size} and crops and crop == {"height": image_size, "width": image_size}:
        return "shortest"
    if size == {"height": image_size, "width": image_size} and (not crops or crop == size):
        return "squash"
    raise ConfigError(
        f"{source}: size, crop_size: expected the shorter side, or both sides, resized to the model's "
        f"{image_size} pixels; got size {shown(size)}, crop_size {shown(crop if crops else None)}"
    )


def preprocessing_to(preprocessing: Preprocessing, kind: ModelType = MODEL_TYPES["clip"]) -> dict[str, Any]:
    """`preprocessor_config.json`. Raises `WeightsError` for a resize mode that transformers' CLIP does not have."""
    square = {"height": preprocessing.image_size, "width": preprocessing.image_size}
    if preprocessing.resize_mode == "longest":
        raise WeightsError("transformers' CLIP cannot pad to the longer side: write it as 'tandem' or 'open_clip'")
    squash = preprocessing.resize_mode == "squash"
    sizes: dict[str, Any] = {
        "size": square if squash else {"shortest_edge": preprocessing.image_size},
        "do_center_crop": not squash,
        "crop_size": square,
    }
    if kind.naflex:
        sizes = {"patch_size": preprocessing.patch_size, "max_num_patches": preprocessing.max_patches}
    return {
        "image_processor_type": kind.image_processor,
        "feature_extractor_type": kind.image_processor.replace("ImageProcessor", "FeatureExtractor"),
        "do_convert_rgb": True,
        "do_resize": True,
        **sizes,
        "resample": next(code for code, name in _INTERPOLATIONS.items() if name == preprocessing.interpolation),
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(preprocessing.mean),
        "image_std": list(preprocessing.std),
    }
