"""Which tensors a configuration needs, whether a checkpoint has them, and the configuration that shapes imply.

Works on original names. It does not know where tensors come from: `source` appears in messages only.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from tandem.config import Activation, ModelConfig, Preprocessing, ResNet, TextTransformer, VisionTransformer
from tandem.errors import ConfigError, WeightsError
from tandem.weights.arrays import BFLOAT16
from tandem.weights.names import shape_and_dtype

Shapes = dict[str, tuple[int, ...]]

_FLOATS = (np.dtype("f2"), np.dtype("f4"), np.dtype("f8"), BFLOAT16)
_SHOWN = 5  # tensors that an error spells out of each kind


# --- configuration -> shapes ---------------------------------------------------------------------------------------


def expected_shapes(config: ModelConfig) -> Shapes:
    """Every tensor of the model under its original name, with its shape."""
    text, vision = config.text, config.vision
    shapes: Shapes = {
        "logit_scale": (),
        "token_embedding.weight": (text.vocabulary_size, text.width),
        "positional_embedding": (text.context_length, text.width),
        "text_projection": (text.width, config.embed_dim),
        **_norm("ln_final", text.width),
        **_transformer("transformer", text.layers, text.width, text.mlp_width),
    }
    if isinstance(vision, VisionTransformer):
        shapes |= {
            "visual.conv1.weight": (vision.width, 3, vision.patch_size, vision.patch_size),
            "visual.class_embedding": (vision.width,),
            "visual.positional_embedding": (vision.grid**2 + 1, vision.width),
            "visual.proj": (vision.width, config.embed_dim),
            **_norm("visual.ln_pre", vision.width),
            **_norm("visual.ln_post", vision.width),
            **_transformer("visual.transformer", vision.layers, vision.width, vision.mlp_width),
        }
    else:
        shapes |= _resnet(vision, config.embed_dim)
    return shapes


def parameter_count(config: ModelConfig) -> int:
    """Trained numbers of the whole model: everything but the running statistics of its batch norms."""
    return sum(math.prod(shape) for name, shape in expected_shapes(config).items() if ".running_" not in name)


def _norm(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _batch_norm(name: str, width: int) -> Shapes:
    return {**_norm(name, width), f"{name}.running_mean": (width,), f"{name}.running_var": (width,)}


def _transformer(name: str, layers: int, width: int, mlp_width: int) -> Shapes:
    shapes: Shapes = {}
    for block in (f"{name}.resblocks.{i}" for i in range(layers)):
        shapes |= {
            f"{block}.attn.in_proj_weight": (3 * width, width),
            f"{block}.attn.in_proj_bias": (3 * width,),
            f"{block}.attn.out_proj.weight": (width, width),
            f"{block}.attn.out_proj.bias": (width,),
            f"{block}.mlp.c_fc.weight": (mlp_width, width),
            f"{block}.mlp.c_fc.bias": (mlp_width,),
            f"{block}.mlp.c_proj.weight": (width, mlp_width),
            f"{block}.mlp.c_proj.bias": (width,),
            **_norm(f"{block}.ln_1", width),
            **_norm(f"{block}.ln_2", width),
        }
    return shapes


def _resnet(vision: ResNet, embed_dim: int) -> Shapes:
    half = vision.width // 2
    shapes: Shapes = {
        "visual.conv1.weight": (half, 3, 3, 3),
        "visual.conv2.weight": (half, half, 3, 3),
        "visual.conv3.weight": (vision.width, half, 3, 3),
        **_batch_norm("visual.bn1", half),
        **_batch_norm("visual.bn2", half),
        **_batch_norm("visual.bn3", vision.width),
    }
    entering = vision.width
    for stage, blocks in enumerate(vision.layers, start=1):
        inner = vision.width * 2 ** (stage - 1)
        for i in range(blocks):
            strided = stage > 1 and i == 0
            shapes |= _block(vision, f"visual.layer{stage}.{i}", entering, inner, strided=strided)
            entering = inner * vision.expansion
    pool = "visual.attnpool"
    shapes[f"{pool}.positional_embedding"] = (vision.grid**2 + 1, vision.pool_width)
    for part in ("q_proj", "k_proj", "v_proj"):
        shapes |= {f"{pool}.{part}.weight": (vision.pool_width,) * 2, f"{pool}.{part}.bias": (vision.pool_width,)}
    return shapes | {f"{pool}.c_proj.weight": (embed_dim, vision.pool_width), f"{pool}.c_proj.bias": (embed_dim,)}


def _block(vision: ResNet, name: str, entering: int, inner: int, *, strided: bool) -> Shapes:
    leaving = inner * vision.expansion
    if vision.block == "bottleneck":
        convolutions = [(inner, entering, 1, 1), (inner, inner, 3, 3), (leaving, inner, 1, 1)]
    else:
        convolutions = [(inner, entering, 3, 3), (leaving, inner, 3, 3)]
    shapes: Shapes = {}
    for i, shape in enumerate(convolutions, start=1):
        shapes[f"{name}.conv{i}.weight"] = shape
        shapes |= _batch_norm(f"{name}.bn{i}", shape[0])
    if strided or entering != leaving:
        shapes[f"{name}.downsample.0.weight"] = (leaving, entering, 1, 1)
        shapes |= _batch_norm(f"{name}.downsample.1", leaving)
    return shapes


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
    expected = expected_shapes(config)
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
    vocabulary_size, width = reader.of("token_embedding.weight", 2)
    context_length, _ = reader.of("positional_embedding", 2)
    _, embed_dim = reader.of("text_projection", 2)
    mlp_width, _ = reader.of("transformer.resblocks.0.mlp.c_fc.weight", 2)
    vision: VisionTransformer | ResNet
    if "visual.layer1.0.conv1.weight" in shapes:
        vision = _resnet_from(reader)
    else:
        vision = _vit_from(reader, activation)
    return ModelConfig(
        embed_dim,
        vision,
        TextTransformer(
            context_length,
            vocabulary_size,
            width,
            reader.count(r"transformer\.resblocks\.(\d+)\."),
            default_heads(width),
            mlp_width,
            activation,
            start_id=vocabulary_size - 2,
            end_id=vocabulary_size - 1,
        ),
        Preprocessing(vision.image_size),
        notes=notes or {},
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
    "visual.trunk.": "its image tower is a timm model (visual.trunk), which Tandem cannot build",
    "text.transformer.encoder": "its text tower is a Hugging Face language model, which Tandem cannot build",
    "text.encoder": "its text tower is a Hugging Face language model, which Tandem cannot build",
}


# The image towers of open_clip's H, g, G and e models have 16 heads of 80, 88, 104 and 112.
_SIXTEEN_HEADS = (1280, 1408, 1664, 1792)


def default_heads(width: int) -> int:
    """Heads of 64, as in every published model."""
    return max(1, width // 64)


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
