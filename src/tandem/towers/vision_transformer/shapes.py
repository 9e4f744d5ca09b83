"""The tensors of a Vision Transformer. Names are OpenAI's; what CLIP has not is named in the same manner."""

from tandem.towers.parts.shapes import Shapes, attention, mlp, norm, transformer
from tandem.towers.vision_transformer.description import VisionTransformer


def shapes(vision: VisionTransformer, embed_dim: int) -> Shapes:
    """Every tensor of the tower, with its shape."""
    width = vision.width
    found: Shapes = {"visual.conv1.weight": (width, 3, vision.patch_size, vision.patch_size)}
    if vision.patch_bias:
        found["visual.conv1.bias"] = (width,)
    if vision.class_token:
        found["visual.class_embedding"] = (width,)
    found["visual.positional_embedding"] = (vision.tokens, width)
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
