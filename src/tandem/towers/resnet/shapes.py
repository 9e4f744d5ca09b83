"""The tensors of CLIP's ResNet, under OpenAI's names."""

from tandem.towers.parts.shapes import Shapes, batch_norm
from tandem.towers.resnet.description import ResNet

# The tensors of every kind of projection into the shared space, which a run with another space learns anew
PROJECTION = ("visual.attnpool.c_proj.weight", "visual.attnpool.c_proj.bias")


def shapes(vision: ResNet, embed_dim: int) -> Shapes:
    """Every tensor of the tower, with its shape."""
    half = vision.width // 2
    found: Shapes = {
        "visual.conv1.weight": (half, 3, 3, 3),
        "visual.conv2.weight": (half, half, 3, 3),
        "visual.conv3.weight": (vision.width, half, 3, 3),
        **batch_norm("visual.bn1", half),
        **batch_norm("visual.bn2", half),
        **batch_norm("visual.bn3", vision.width),
    }
    entering = vision.width
    for stage, blocks in enumerate(vision.layers, start=1):
        inner = vision.width * 2 ** (stage - 1)
        for i in range(blocks):
            strided = stage > 1 and i == 0
            found |= _block(vision, f"visual.layer{stage}.{i}", entering, inner, strided=strided)
            entering = inner * vision.expansion
    pool = "visual.attnpool"
    found[f"{pool}.positional_embedding"] = (vision.grid**2 + 1, vision.pool_width)
    for part in ("q_proj", "k_proj", "v_proj"):
        found |= {f"{pool}.{part}.weight": (vision.pool_width,) * 2, f"{pool}.{part}.bias": (vision.pool_width,)}
    return found | {f"{pool}.c_proj.weight": (embed_dim, vision.pool_width), f"{pool}.c_proj.bias": (embed_dim,)}


def _block(vision: ResNet, name: str, entering: int, inner: int, *, strided: bool) -> Shapes:
    leaving = inner * vision.expansion
    if vision.block == "bottleneck":
        convolutions = [(inner, entering, 1, 1), (inner, inner, 3, 3), (leaving, inner, 1, 1)]
    else:
        convolutions = [(inner, entering, 3, 3), (leaving, inner, 3, 3)]
    found: Shapes = {}
    for i, shape in enumerate(convolutions, start=1):
        found[f"{name}.conv{i}.weight"] = shape
        found |= batch_norm(f"{name}.bn{i}", shape[0])
    if strided or entering != leaving:
        found[f"{name}.downsample.0.weight"] = (leaving, entering, 1, 1)
        found |= batch_norm(f"{name}.downsample.1", leaving)
    return found
