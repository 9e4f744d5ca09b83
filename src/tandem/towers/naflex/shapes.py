"""The tensors of a NaFlex Vision Transformer: those of SigLIP's, but for the patches, which a linear layer embeds."""

from tandem.towers.naflex.description import NaFlex
from tandem.towers.parts.shapes import Shapes, attention, linear, mlp, norm, transformer

PROJECTION: tuple[str, ...] = ()  # its vectors are of the width of the tower


def shapes(vision: NaFlex, embed_dim: int) -> Shapes:
    """Every tensor of the tower, with its shape."""
    width = vision.width
    return {
        **linear("visual.conv1", width, 3 * vision.patch_size**2),
        "visual.positional_embedding": (vision.grid**2, width),
        **norm("visual.ln_post", width),
        **transformer("visual.transformer", vision.layers, width, vision.mlp_width),
        "visual.pool.query": (width,),
        **attention("visual.pool.attn", width),
        **norm("visual.pool.ln", width),
        **mlp("visual.pool.mlp", width, vision.pool_mlp_width),
    }
