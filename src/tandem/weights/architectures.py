"""The sizes of published models, under open_clip's names of architectures ("ViT-B-16-SigLIP2-256"). No files.

A checkpoint's own files say how it is read; these configurations serve what has to be known without them: parameters,
work and speed, which random weights of the same shapes show as well. Preprocessing is the family's.
"""

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from tandem.config import (
    CLIP_MEAN,
    CLIP_STD,
    INCEPTION_MEAN,
    INCEPTION_STD,
    PUBLISHED,
    Interpolation,
    ModelConfig,
    Preprocessing,
    TextTransformer,
    VisionTransformer,
)
from tandem.errors import ConfigError
from tandem.towers import ImageTower, tower_part
from tandem.towers.bert.description import Bert
from tandem.towers.fastvit import timm as fastvit
from tandem.towers.naflex.description import NaFlex
from tandem.towers.parts.description import Activation
from tandem.towers.text_transformer import siglip as siglip_text
from tandem.towers.vision_transformer import mobileclip, pe_core, siglip

_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # mean, std

# Width, layers, heads and MLP width of image towers and of text towers
_VIT: dict[str, tuple[int, int, int, int]] = {
    "S": (384, 12, 6, 1536),
    "M": (512, 12, 8, 2048),
    "B": (768, 12, 12, 3072),
    "L": (1024, 24, 16, 4096),
    "SO400M": (1152, 27, 16, 4304),
    "H": (1280, 32, 16, 5120),
    "g": (1408, 40, 16, 6144),
    "gopt": (1536, 40, 16, 6144),
    "bigG": (1664, 48, 16, 8192),
}
_CLIP_TEXT: dict[str, tuple[int, int, int, int]] = {
    "S": (384, 12, 6, 1536),
    "M": (512, 12, 8, 2048),
    "B": (512, 12, 8, 2048),
    "L": (768, 12, 12, 3072),
    "H": (1024, 24, 16, 4096),
    "g": (1024, 24, 16, 4096),
    "bigG": (1280, 32, 20, 5120),
}


# PE-Core: timm's size, width, layers and MLP width of the image tower, the shared dimension, the text tower
_PE_CORE = {
    "T": ("tiny", 192, 12, 768, 512, _CLIP_TEXT["B"]),
    "S": ("small", 384, 12, 1536, 512, _CLIP_TEXT["B"]),
    "B": ("base", 768, 12, 3072, 1024, _CLIP_TEXT["H"]),
    "L": ("large", 1024, 24, 4096, 1024, _CLIP_TEXT["H"]),
    "bigG": ("gigantic", 1536, 50, 8960, 1280, (1280, 24, 20, 5120)),
}


def architecture(name: str) -> ModelConfig:
    """The configuration of an architecture. Raises `ConfigError` for a name that is not known."""
    for pattern, build in _BUILDERS:
        if match := re.fullmatch(pattern, name):
            try:
                return build(*match.groups())
            except KeyError:
                break
    raise ConfigError(f"{name!r}: not an architecture that Tandem knows the sizes of")


def random_image_weights(config: ModelConfig) -> dict[str, np.ndarray]:
    """Tensors of the image tower, float32, drawn from a seed: small enough that nothing overflows."""
    rng = np.random.default_rng(0)
    shapes = tower_part(config.vision, "shapes").shapes(config.vision, config.embed_dim)
    tensors = {name: rng.standard_normal(shape, dtype=np.float32) * np.float32(0.02) for name, shape in shapes.items()}
    return {name: np.abs(array) + 1 if name.endswith("running_var") else array for name, array in tensors.items()}


def _original(name: str, quick: str | None) -> ModelConfig:
    if name not in PUBLISHED or not quick:
        raise KeyError(name)
    return PUBLISHED[name]


def _clip(size: str, patch: str, pixels: str | None, quick: str | None) -> ModelConfig:
    activation: Activation = "quick_gelu" if quick else "gelu"
    vision = _vision(size, int(patch), int(pixels or 224), activation)
    text = TextTransformer(77, 49408, *_CLIP_TEXT[size], activation)
    return ModelConfig(_shared(size), vision, text, Preprocessing(vision.image_size))


def _worldwide(size: str, patch: str, before: str | None, after: str | None) -> ModelConfig:
    """MetaCLIP 2: CLIP with the vocabulary of XLM-V."""
    pixels = next((int(part) for part in (before, after) if part and part.isdigit()), 224)
    activation: Activation = "quick_gelu" if "quickgelu" in (before, after) else "gelu"
    text = TextTransformer(
        77, 901629, *_CLIP_TEXT[size], activation, start_id=0, end_id=2, pad_id=1, cleaning="whitespace"
    )
    preprocessing = Preprocessing(pixels, resize_mode="squash" if pixels == 378 else "shortest")
    return ModelConfig(_shared(size), _vision(size, int(patch), pixels, activation), text, preprocessing)


def _siglip(size: str, patch: str, version: str | None, languages: str | None, pixels: str | None) -> ModelConfig:
    width, layers, heads, mlp_width = _VIT[size]
    activation = siglip.activation_in_timm({"B": "base", "gopt": "giantopt"}.get(size, ""), int(patch))
    vision = siglip.described(
        int(pixels or 224), int(patch), width, layers, heads, mlp_width, activation, pool_mlp_width=mlp_width
    )
    vocabulary_size = 256_000 if version else 250_000 if languages else 32_000
    text = _siglip_text(size, vocabulary_size, "gelu_tanh" if version else "gelu")
    preprocessing = Preprocessing(vision.image_size, INCEPTION_MEAN, INCEPTION_STD, "squash")
    return ModelConfig(width, vision, text, preprocessing, logit_bias=True)


def _naflex(size: str, patch: str) -> ModelConfig:
    """SigLIP 2 for images of any aspect ratio, of at most 256 patches."""
    side, patches = int(patch), 256
    width = _VIT[size][0]
    vision = NaFlex(side, 16, patches, *_VIT[size], "gelu_tanh")
    preprocessing = Preprocessing(
        vision.image_size, INCEPTION_MEAN, INCEPTION_STD, "naflex", "bilinear", patch_size=side, max_patches=patches
    )
    text = _siglip_text(size, 256_000, "gelu_tanh")
    return ModelConfig(width, vision, text, preprocessing, logit_bias=True)


def _siglip_text(size: str, vocabulary_size: int, activation: Activation) -> TextTransformer:
    """Text towers are as large as image towers, up to a point."""
    return siglip_text.described(64, vocabulary_size, *_VIT["SO400M" if size == "gopt" else size], activation)


def _clipa(size: str, pixels: str | None) -> ModelConfig:
    activation: Activation = "gelu" if size == "bigG" else "gelu_tanh"
    vision = _vision(
        size, 14, int(pixels or 224), activation, first_norm=False, pooling="mean", norm_after_pooling=size != "H"
    )
    text = TextTransformer(
        32,
        32000,
        *_CLIP_TEXT[size],
        activation,
        start_id=101,
        end_id=0,
        causal=False,
        pooling="last",
        cleaning="whitespace",
    )
    preprocessing = Preprocessing(vision.image_size, *_IMAGENET, "squash", "bilinear")
    return ModelConfig(_shared(size), vision, text, preprocessing)


def _mobileclip(size: str) -> ModelConfig:
    large = size in ("S3", "S4", "L-14")
    embed_dim = 768 if large else 512
    vision: ImageTower
    if size in ("B", "L-14"):
        vision = mobileclip.published(mobileclip.B if size == "B" else mobileclip.L_14)
    else:
        vision = fastvit.PUBLISHED[f"fastvit_mci{size[1]}"]
    text = TextTransformer(77, 49408, *_CLIP_TEXT["L" if large else "B"], "gelu", causal=size == "B")
    mean, std = (CLIP_MEAN, CLIP_STD) if large else ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    interpolation: Interpolation = "bicubic" if large else "bilinear"
    preprocessing = Preprocessing(vision.image_size, mean, std, interpolation=interpolation)
    return ModelConfig(embed_dim, vision, text, preprocessing)


def _pe_core(size: str, patch: str, pixels: str | None) -> ModelConfig:
    name, width, layers, mlp_width, embed_dim, text_size = _PE_CORE[size]
    side = int(pixels or 224)
    vision = pe_core.described(
        f"vit_pe_core_{name}_patch{patch}_{side}", side, int(patch), width, layers, mlp_width, width * 4
    )
    assert vision is not None
    text = TextTransformer(72 if size == "bigG" else 32, 49408, *text_size, "gelu")
    preprocessing = Preprocessing(side, INCEPTION_MEAN, INCEPTION_STD, "squash", "bilinear")
    return ModelConfig(embed_dim, vision, text, preprocessing)


def _xlm_roberta(size: str, vision: str, patch: str) -> ModelConfig:
    width, layers, heads, mlp_width = {"base": (768, 12, 12, 3072), "large": (1024, 24, 16, 4096)}[size]
    text = Bert(77, 250002, width, layers, heads, mlp_width, positions=514)
    return ModelConfig(_shared(vision), _vision(vision, int(patch), 224, "gelu"), text, Preprocessing(224))


def _vision(size: str, patch: int, pixels: int, activation: Activation, **varied: Any) -> VisionTransformer:
    return VisionTransformer(pixels, patch, *_VIT[size], activation, **varied)


def _shared(size: str) -> int:
    return {"S": 384, "M": 512, "B": 512, "L": 768, "H": 1024, "g": 1024, "bigG": 1280}[size]


_BUILDERS: tuple[tuple[str, Callable[..., ModelConfig]], ...] = (
    (r"(RN50|RN101|RN50x4|RN50x16|RN50x64)(-quickgelu)", _original),
    (r"ViT-(\w+)-(\d+)(?:-(\d+))?(-quickgelu)?", _clip),
    (r"ViT-(\w+)-(\d+)(?:-(\d+|quickgelu))?-worldwide(?:-(\d+|quickgelu))?", _worldwide),
    (r"ViT-(\w+)-(\d+)-SigLIP2-naflex", _naflex),
    (r"ViT-(\w+)-(\d+)-SigLIP(2)?(-i18n)?(?:-(\d+))?", _siglip),
    (r"MobileCLIP2?-(S\d|B|L-14)", _mobileclip),
    (r"PE-Core-(\w+)-(\d+)(?:-(\d+))?", _pe_core),
    (r"xlm-roberta-(base|large)-ViT-(\w+)-(\d+)", _xlm_roberta),
    (r"ViT-(\w+)-14-CLIPA(?:-(\d+))?", _clipa),
)
