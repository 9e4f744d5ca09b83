"""A lone weights file of a SigLIP model: which published one it is, where names and shapes leave no doubt.

Heads, activations and padding leave no trace in tensors. Published sizes tell the heads, who wrote the file tells the
activations, and the size of the vocabulary the tokenizer. Pure: works on shapes under our names.
"""

import dataclasses
import re

from tandem.config import (
    INCEPTION_MEAN,
    INCEPTION_STD,
    Activation,
    ModelConfig,
    Preprocessing,
    VisionTransformer,
)
from tandem.errors import ConfigError
from tandem.towers import tower_part
from tandem.towers.parts.shapes import Shapes
from tandem.towers.text_transformer import siglip as siglip_text
from tandem.weights.names import Naming

_TEXT_HEADS = {(768, 12): 12, (1024, 24): 16, (1152, 27): 16}  # by width and layers
_SIGLIP_2 = 256_000
_READ = (
    "token_embedding.weight",
    "positional_embedding",
    "text_projection",
    "transformer.resblocks.0.mlp.c_fc.weight",
)
_CONFIG = {
    "original": "config.json, and name it model.safetensors",
    "transformers": "config.json, and name it model.safetensors",
    "open_clip": "open_clip_config.json, and name it open_clip_model.safetensors",
}


def is_siglip(shapes: Shapes) -> bool:
    """Whether tensors are those of a SigLIP model: attention pooling, no class token, a biased text projection."""
    has = {"visual.pool.query", "visual.conv1.weight", "visual.conv1.bias", "text_projection_bias"} <= shapes.keys()
    read = all(len(shapes.get(name, ())) == 2 for name in _READ)
    return has and read and "visual.class_embedding" not in shapes


def published_config(shapes: Shapes, naming: Naming, source: str) -> ModelConfig:
    """The configuration of a published SigLIP model.

    Raises `ConfigError` that says what cannot be seen, and which file must be put beside the weights.
    """

    def refused(what: str) -> ConfigError:
        return ConfigError(
            f"{source}: a SigLIP model, but {what} cannot be seen in its tensors: put the file beside its "
            f"{_CONFIG[naming]}"
        )

    if len(shapes["visual.conv1.weight"]) == 2:
        raise refused("how many patches its images have (NaFlex)")
    if naming == "original":
        raise refused("its activation")
    timm = tower_part(VisionTransformer, "timm")
    name = timm.siglip_name(shapes)
    if name is None:
        raise refused("which image tower it has (heads, image size)")
    size = int(name.rpartition("_")[2])
    vision: VisionTransformer = timm.description(name, size, shapes)
    vocabulary_size, width = shapes["token_embedding.weight"]
    layers = len({found[1] for key in shapes if (found := re.match(r"transformer\.resblocks\.(\d+)\.", key))})
    if (width, layers) not in _TEXT_HEADS:
        raise refused("how many heads its text tower has")
    if vocabulary_size not in siglip_text.PAD_IDS:
        raise refused(f"how a vocabulary of {vocabulary_size} entries pads its texts")
    activation: Activation = "gelu_tanh" if naming == "transformers" or vocabulary_size == _SIGLIP_2 else "gelu"
    if naming == "transformers":
        vision = dataclasses.replace(vision, activation="gelu_tanh")
    text = siglip_text.described(
        shapes["positional_embedding"][0],
        vocabulary_size,
        width,
        layers,
        _TEXT_HEADS[width, layers],
        shapes["transformer.resblocks.0.mlp.c_fc.weight"][0],
        activation,
    )
    return ModelConfig(
        shapes["text_projection"][1],
        vision,
        text,
        Preprocessing(size, INCEPTION_MEAN, INCEPTION_STD, "squash"),
        timm_model=name if naming == "open_clip" else "",
        logit_bias="logit_bias" in shapes,
    )
