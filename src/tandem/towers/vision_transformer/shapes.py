"""The tensors of a Vision Transformer. Names are OpenAI's; what CLIP has not is named in the same manner."""

from tandem.towers.parts.shapes import Shapes, attention, batch_norm, mlp, norm, transformer
from tandem.towers.vision_transformer.description import VisionTransformer

# The tensors of every kind of projection into the shared space, which a run with another space learns anew
PROJECTION = ("visual.proj", "visual.proj_bias")


def shapes(vision: VisionTransformer, embed_dim: int) -> Shapes:
    """Every tensor of the tower, with its shape."""
    width = vision.width
    found: Shapes = _stem(vision) if vision.stem else {"visual.conv1.weight": (width, 3, *(vision.patch_size,) * 2)}
    if vision.patch_bias:
        found["visual.stem.2.conv.bias" if vision.stem else "visual.conv1.bias"] = (width,)
    if vision.class_token:
        found["visual.class_embedding"] = (width,)
    found["visual.positional_embedding"] = (vision.positions, width)
    if vision.projection != "none":
        found["visual.proj"] = (width, embed_dim)
    if vision.projection == "biased":
        found["visual.proj_bias"] = (embed_dim,)
    if vision.first_norm:
        found |= norm("visual.ln_pre", width)
    found |= norm("visual.ln_post", width)
    found |= transformer("visual.transformer", vision.layers, width, vision.mlp_width)
    if vision.pooling == "attention":
        found["visual.pool.query"] = (width,)
        found |= attention("visual.pool.attn", width) | norm("visual.pool.ln", width)
        found |= mlp("visual.pool.mlp", width, vision.pool_mlp_width)
    return found


def _stem(vision: VisionTransformer) -> Shapes:
    """Three convolutions, with a batch norm after all but the last."""
    found: Shapes = {}
    for i, (entering, leaving, side) in enumerate(vision.stem):
        found[f"visual.stem.{i}.conv.weight"] = (leaving, entering, side, side)
        found |= batch_norm(f"visual.stem.{i}.bn", leaving) if i < len(vision.stem) - 1 else {}
    return found
