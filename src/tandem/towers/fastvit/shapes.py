"""The tensors of a FastViT, under timm's names for its parts."""

from tandem.towers.fastvit.description import FastViT
from tandem.towers.parts.shapes import Shapes, batch_norm, linear, norm

# The tensors of every kind of projection into the shared space, which a run with another space learns anew
PROJECTION = ("visual.head.fc.weight", "visual.head.fc.bias")


def shapes(vision: FastViT, embed_dim: int) -> Shapes:
    """Every tensor of the tower, with its shape."""
    width, scale = vision.width, vision.stem_scale
    found = _branches("visual.stem.0", 3, width, 3, scale=scale)
    found |= _branches("visual.stem.1", width, width, 3, depthwise=True, scale=scale)
    found |= _branches("visual.stem.2", width, width, 1, skip=True)
    for stage, (blocks, width) in enumerate(zip(vision.layers, vision.widths, strict=True)):
        name = f"visual.stages.{stage}"
        if stage:
            found |= _downsampling(f"{name}.downsample", width, vision.squeeze_width(stage))
        if vision.mixes_by_attention(stage):
            found |= {f"{name}.pos_emb.pos_enc.weight": (width, 1, 7, 7), f"{name}.pos_emb.pos_enc.bias": (width,)}
        for i in range(blocks):
            block = f"{name}.blocks.{i}"
            if vision.mixes_by_attention(stage):
                found |= _attention_mixer(block, width, vision.attention_norm)
            else:
                found |= _convolution_mixer(block, width)
            found |= _mlp(block, width, width * vision.mlp_ratio)
    found |= _branches("visual.final_conv", width, vision.pool_width, 3, depthwise=True)
    found |= _squeeze("visual.final_conv.se", vision.pool_width, vision.last_squeeze_width)
    return found | linear("visual.head.fc", embed_dim, vision.pool_width)


def _convolution(name: str, leaving: int, entering: int, kernel: int) -> Shapes:
    return {f"{name}.conv.weight": (leaving, entering, kernel, kernel), **batch_norm(f"{name}.bn", leaving)}


def _branches(
    name: str,
    entering: int,
    leaving: int,
    kernel: int,
    *,
    depthwise: bool = False,
    scale: bool = True,
    skip: bool = False,
) -> Shapes:
    """A sum of a convolution, one of 1 x 1 and a batch norm alone, where there are such."""
    share = 1 if depthwise else entering
    found = _convolution(f"{name}.conv_kxk.0", leaving, share, kernel)
    if kernel > 1 and scale:
        found |= _convolution(f"{name}.conv_scale", leaving, share, 1)
    return found | (batch_norm(f"{name}.identity", entering) if skip else {})


def _downsampling(name: str, width: int, squeeze: int) -> Shapes:
    found = _convolution(f"{name}.proj.0.large_conv", width, 1, 7)
    found |= _convolution(f"{name}.proj.0.small_conv", width, 1, 3)
    if squeeze:
        found |= _squeeze(f"{name}.proj.0.se", width, squeeze)
    return found | _branches(f"{name}.proj.1", width, width, 1, skip=True)


def _squeeze(name: str, width: int, inner: int) -> Shapes:
    return _pointwise(f"{name}.fc1", inner, width) | _pointwise(f"{name}.fc2", width, inner)


def _pointwise(name: str, leaving: int, entering: int) -> Shapes:
    return {f"{name}.weight": (leaving, entering, 1, 1), f"{name}.bias": (leaving,)}


def _convolution_mixer(block: str, width: int) -> Shapes:
    mixer = f"{block}.token_mixer"
    found = _branches(f"{mixer}.mixer", width, width, 3, depthwise=True, skip=True)
    found |= batch_norm(f"{mixer}.norm.identity", width)
    return found | {f"{mixer}.layer_scale.gamma": (width, 1, 1), f"{block}.layer_scale.gamma": (width, 1, 1)}


def _attention_mixer(block: str, width: int, kind: str) -> Shapes:
    found = batch_norm(f"{block}.norm", width) if kind == "batch" else norm(f"{block}.norm", width)
    found |= {
        f"{block}.token_mixer.qkv.weight": (3 * width, width),
        **linear(f"{block}.token_mixer.proj", width, width),
    }
    return found | {f"{block}.layer_scale_{i}.gamma": (width, 1, 1) for i in (1, 2)}


def _mlp(block: str, width: int, hidden: int) -> Shapes:
    found = _convolution(f"{block}.mlp.conv", width, 1, 7)
    return found | _pointwise(f"{block}.mlp.fc1", hidden, width) | _pointwise(f"{block}.mlp.fc2", width, hidden)
