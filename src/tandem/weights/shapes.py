"""Which tensors a configuration needs, whether a checkpoint has them, and the configuration that shapes imply.

Works on original names. It does not know where tensors come from: `source` appears in messages only.
"""

import dataclasses
import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from tandem.config import (
    INCEPTION_MEAN,
    INCEPTION_STD,
    Activation,
    FastViT,
    ImageTower,
    ModelConfig,
    Preprocessing,
    ResNet,
    TextTower,
    TextTransformer,
    VisionTransformer,
)
from tandem.errors import ConfigError, WeightsError
from tandem.towers import TEXT_TOWERS, has_part, tower_part
from tandem.towers.parts.shapes import Shapes
from tandem.towers.vision_transformer import pe_core
from tandem.weights.arrays import BFLOAT16
from tandem.weights.names import shape_and_dtype

_FLOATS = (np.dtype("f2"), np.dtype("f4"), np.dtype("f8"), BFLOAT16)
_SHOWN = 5  # tensors that an error spells out of each kind


# --- configuration -> shapes ---------------------------------------------------------------------------------------


def expected_shapes(config: ModelConfig) -> Shapes:
    """Every tensor of the model under its original name, with its shape."""
    shapes: Shapes = {"logit_scale": (), **({"logit_bias": ()} if config.logit_bias else {})}
    for tower in (config.text, config.vision):
        shapes |= tower_part(tower, "shapes").shapes(tower, config.embed_dim)
    return shapes


def parameter_count(config: ModelConfig) -> int:
    """Trained numbers of the whole model: everything but the running statistics of its batch norms."""
    return sum(math.prod(shape) for name, shape in expected_shapes(config).items() if is_trained(name))


def is_trained(name: str) -> bool:
    """Whether a tensor is learnt: the running statistics of batch norms are not."""
    return ".running_" not in name


# --- a checkpoint against its configuration --------------------------------------------------------------------------


def check_tensors(
    tensors: Mapping[str, np.ndarray],
    config: ModelConfig,
    source: str,
    display_name: Callable[[str], str] = lambda name: name,
) -> None:
    """Raise `WeightsError` unless the tensors are exactly those of the configuration, in floating point.

    `display_name` turns an original name into the one the user finds in the file.
    """
    check_shapes(tensors, expected_shapes(config), source, display_name)


def check_shapes(
    tensors: Mapping[str, np.ndarray],
    expected: Shapes,
    source: str,
    display_name: Callable[[str], str] = lambda name: name,
) -> None:
    """`check_tensors` against shapes by name."""
    came = {name: shape_and_dtype(tensors, name) for name in tensors}
    missing = [f"{display_name(name)} (expected {list(expected[name])})" for name in expected if name not in came]
    surplus = [f"{display_name(name)} {list(shape)}" for name, (shape, _) in came.items() if name not in expected]
    wrong = [
        f"{display_name(name)}: expected {list(shape)}, came {list(came[name][0])}"
        for name, shape in expected.items()
        if name in came and came[name][0] != shape
    ]
    kinds = [
        f"{display_name(name)}: expected floating point, came {dtype}"
        for name, (_, dtype) in came.items()
        if name in expected and dtype not in _FLOATS
    ]
    found = (("missing", missing), ("surplus", surplus), ("wrong shape", wrong), ("wrong dtype", kinds))
    complaints = [f"{len(items)} {what}: {_some(items)}" for what, items in found if items]
    if complaints:
        raise WeightsError(
            f"{source}: the tensors do not fit the configuration; {'; '.join(complaints)}. "
            "The file is incomplete, or its configuration describes another model"
        )


def _some(items: list[str]) -> str:
    return ", ".join(items[:_SHOWN]) + (f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else "")


# --- shapes -> configuration ---------------------------------------------------------------------------------------


def config_from_shapes(
    shapes: Mapping[str, tuple[int, ...]],
    source: str,
    *,
    activation: Activation,
    notes: Mapping[str, str] | None = None,
) -> ModelConfig:
    """The configuration of tensors under original names: depths are counted, widths and sizes measured.

    Heads leave no trace in shapes: see `default_heads`. Raises `ConfigError` that names the source and the tensor that
    is not as in a CLIP model.
    """
    reader = _Shapes(shapes, source)
    text, embed_dim = _text_from(reader, activation)
    vision: ImageTower
    preprocessing, noted = None, dict(notes or {})
    if timm_model := next((name for tensor, name in _MOBILE.items() if tensor in shapes), ""):
        vision, preprocessing, causal = _mobile_from(timm_model, shapes, source)
        if isinstance(text, TextTransformer):
            text = dataclasses.replace(text, causal=causal)
        noted["preprocessing"] = (
            f"{source} does not name its image size and preprocessing: those of the published MobileCLIP models are "
            f"assumed ({vision.image_size} pixels, mean {preprocessing.mean}, std {preprocessing.std})"
        )
    elif shapes.keys() >= _PE_CORE:
        vision, noted = _pe_core_from(reader), {}
        preprocessing = Preprocessing(vision.image_size, INCEPTION_MEAN, INCEPTION_STD, "squash", "bilinear")
        if isinstance(text, TextTransformer):
            text = dataclasses.replace(text, activation="gelu")
    elif "visual.layer1.0.conv1.weight" in shapes:
        vision = _resnet_from(reader)
    else:
        vision = _vit_from(reader, activation)
    return ModelConfig(
        embed_dim,
        vision,
        text,
        preprocessing or Preprocessing(vision.image_size),
        notes=noted,
    )


class _Shapes:
    """Shapes by name, with errors that say which file lacks what."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], source: str) -> None:
        self.shapes, self.source = shapes, source

    def of(self, name: str, rank: int) -> tuple[int, ...]:
        shape = self.shapes.get(name)
        if shape is None:
            raise ConfigError(
                f"{self.source}: not a CLIP model that Tandem can read: it has no tensor {name!r}; {self._found()}"
            )
        if len(shape) != rank or min(shape) < 1:
            raise ConfigError(f"{self.source}: {name}: expected {rank} dimensions, got {list(shape)}")
        return shape

    def count(self, pattern: str) -> int:
        return len({match[1] for name in self.shapes if (match := re.match(pattern, name))})

    def square(self, name: str) -> int:
        positions = self.of(name, 2)[0] - 1
        side = math.isqrt(positions)
        if side < 1 or side * side != positions:
            raise ConfigError(
                f"{self.source}: {name}: expected a square of positions and one more, got {positions + 1}"
            )
        return side

    def _found(self) -> str:
        names = list(self._unknown()) or list(self.shapes)
        what = next((words for prefix, words in _OTHERS.items() if any(n.startswith(prefix) for n in names)), "")
        return what or f"it has {len(self.shapes)} tensors, such as {', '.join(names[:3]) or 'none'}"

    def _unknown(self) -> Iterator[str]:
        return (name for name in self.shapes if not name.startswith(("visual.transformer.", "transformer.", "ln_")))


_OTHERS = {
    "image_encoder.model.": "it is in the layout of MobileCLIP's original code; take the model in open_clip's layout",
    "visual.trunk.": "its image tower is one of timm's (visual.trunk), which a file alone does not describe: put its "
    "open_clip_config.json beside it",
    "transformer.encoder.": "its text tower is a language model, which a file alone does not describe: put its "
    "open_clip_config.json beside it",
    "text.encoder": "its text tower is a language model, which a file alone does not describe: put its "
    "open_clip_config.json beside it",
}


# The image towers of open_clip's H, g, G and e models have 16 heads of 80, 88, 104 and 112.
_SIXTEEN_HEADS = (1280, 1408, 1664, 1792)


def default_heads(width: int) -> int:
    """Heads of 64, as in OpenAI's models and most others."""
    return max(1, width // 64)


def _text_from(reader: _Shapes, activation: Activation) -> tuple[TextTower, int]:
    """The text tower, and the shared dimension."""
    for kind in TEXT_TOWERS.values():
        if has_part(kind, "hugging_face") and tower_part(kind, "shapes").EMBEDDING in reader.shapes:
            try:
                return tower_part(kind, "hugging_face").from_shapes(reader.shapes)  # type: ignore[no-any-return]
            except ConfigError as error:
                raise ConfigError(f"{reader.source}: {error}") from None
    vocabulary_size, width = reader.of("token_embedding.weight", 2)
    context_length, _ = reader.of("positional_embedding", 2)
    _, embed_dim = reader.of("text_projection", 2)
    mlp_width, _ = reader.of("transformer.resblocks.0.mlp.c_fc.weight", 2)
    tower = TextTransformer(
        context_length,
        vocabulary_size,
        width,
        reader.count(r"transformer\.resblocks\.(\d+)\."),
        default_heads(width),
        mlp_width,
        activation,
        start_id=vocabulary_size - 2,
        end_id=vocabulary_size - 1,
    )
    return tower, embed_dim


# MobileCLIP's image towers by a tensor that no other tower has. Which of the S sizes it is, the shapes tell.
_MOBILE = {
    "visual.stem.0.conv_kxk.0.conv.weight": "fastvit_mci0",
    "visual.stem.0.conv.weight": "vit_base_mci_224",
}


def _mobile_from(
    name: str, shapes: Mapping[str, tuple[int, ...]], source: str
) -> tuple[ImageTower, Preprocessing, bool]:
    """The image tower, its preprocessing, and whether the text tower beside it is causal, as published."""
    kind = FastViT if name.startswith("fastvit") else VisionTransformer
    size = 256  # of a FastViT; a table of positions has one row for each patch
    if kind is VisionTransformer:
        reader = _Shapes(shapes, source)
        patch_size = 4 * reader.of("visual.stem.0.conv.weight", 4)[2]
        size = patch_size * math.isqrt(reader.of("visual.positional_embedding", 2)[0])
    try:
        vision = tower_part(kind, "timm").description(name, size, shapes)
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from None
    if kind is FastViT and vision.attention_norm == "layer":  # S3 and S4
        return vision, Preprocessing(vision.image_size), False
    scaled = Preprocessing(vision.image_size, (0.0,) * 3, (1.0,) * 3, interpolation="bilinear")
    return vision, scaled, kind is VisionTransformer


# What together only PE-Core's image towers have
_PE_CORE = {"visual.pool.query", "visual.ln_pre.weight", "visual.proj"}


def _pe_core_from(reader: _Shapes) -> VisionTransformer:
    """Width and depth tell the size, and the size what tensors do not show."""
    width, _, patch_size, _ = reader.of("visual.conv1.weight", 4)
    layers = reader.count(r"visual\.transformer\.resblocks\.(\d+)\.")
    vision = pe_core.described(
        pe_core.name_by_size(width, layers),
        patch_size * math.isqrt(reader.of("visual.positional_embedding", 2)[0]),
        patch_size,
        width,
        layers,
        reader.of("visual.transformer.resblocks.0.mlp.c_fc.weight", 2)[0],
        reader.of("visual.pool.mlp.c_fc.weight", 2)[0],
    )
    if vision is None:
        raise ConfigError(
            f"{reader.source}: a PE-Core model, but how many heads {layers} layers of width {width} have cannot be "
            "seen in its tensors: put it beside its open_clip_config.json, and name it open_clip_model.safetensors"
        )
    # Meta's own files have no bias
    return vision if "visual.proj_bias" in reader.shapes else dataclasses.replace(vision, projection="linear")


def _vit_from(reader: _Shapes, activation: Activation) -> VisionTransformer:
    width, _, patch_size, _ = reader.of("visual.conv1.weight", 4)
    grid = reader.square("visual.positional_embedding")
    mlp_width, _ = reader.of("visual.transformer.resblocks.0.mlp.c_fc.weight", 2)
    return VisionTransformer(
        grid * patch_size,
        patch_size,
        width,
        reader.count(r"visual\.transformer\.resblocks\.(\d+)\."),
        16 if width in _SIXTEEN_HEADS else default_heads(width),
        mlp_width,
        activation,
    )


def _resnet_from(reader: _Shapes) -> ResNet:
    width = reader.of("visual.conv3.weight", 4)[0]
    pool_width = reader.of("visual.attnpool.positional_embedding", 2)[1]
    grid = reader.square("visual.attnpool.positional_embedding")
    if "visual.layer1.0.conv3.weight" not in reader.shapes:
        raise ConfigError(
            f"{reader.source}: the stem stride of a ResNet of basic blocks cannot be seen in its tensors; "
            "put its config.json beside it"
        )
    layers: Any = tuple(reader.count(rf"visual\.layer{stage}\.(\d+)\.") for stage in (1, 2, 3, 4))
    return ResNet(grid * 32, layers, width, default_heads(pool_width))
