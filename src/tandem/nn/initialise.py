"""First weights, as the original draws them (Radford et al. 2021, and the published code's scales)."""

from typing import cast

import torch
from torch import Tensor, nn

from tandem.nn.clip import CLIP
from tandem.nn.resnet import AttentionPool, BasicBlock, Bottleneck, ResNetTower
from tandem.nn.transformer import Block, Transformer, VisionTower


@torch.no_grad()
def initialise(model: CLIP, seed: int = 0) -> CLIP:
    """Draw every weight of `model` in place, reproducibly from `seed`, and return it."""
    draw = torch.Generator().manual_seed(seed)

    def normal(parameter: Tensor, std: float) -> None:
        parameter.normal_(0.0, std, generator=draw)

    normal(model.token_embedding.weight, 0.02)
    normal(model.positional_embedding, 0.01)
    normal(model.text_projection, model.text_projection.shape[0] ** -0.5)
    for module in model.modules():
        if isinstance(module, Transformer):
            _transformer(module, draw)
        elif isinstance(module, VisionTower):
            width = module.proj.shape[0]
            normal(module.class_embedding, width**-0.5)
            normal(module.positional_embedding, width**-0.5)
            normal(module.proj, width**-0.5)
            nn.init.trunc_normal_(module.conv1.weight, std=module.conv1.weight[0].numel() ** -0.5, generator=draw)
        elif isinstance(module, ResNetTower):
            _resnet(module, draw)
    return model


def _transformer(transformer: Transformer, draw: torch.Generator) -> None:
    """Attention width^-0.5, what is added back smaller by (2 layers)^-0.5, MLP in (2 width)^-0.5; biases 0."""
    depth = len(transformer.resblocks)
    for block in cast(list[Block], transformer.resblocks):
        width = block.attn.out_proj.weight.shape[0]
        added = width**-0.5 * (2 * depth) ** -0.5
        block.attn.in_proj_weight.normal_(0.0, width**-0.5, generator=draw)
        block.attn.out_proj.weight.normal_(0.0, added, generator=draw)
        block.mlp.c_fc.weight.normal_(0.0, (2 * width) ** -0.5, generator=draw)
        block.mlp.c_proj.weight.normal_(0.0, added, generator=draw)
        for bias in (block.attn.in_proj_bias, block.attn.out_proj.bias, block.mlp.c_fc.bias, block.mlp.c_proj.bias):
            bias.zero_()


def _resnet(tower: ResNetTower, draw: torch.Generator) -> None:
    """Convolutions by He's rule over their outputs; the last norm of each block 0, so that blocks start as identity."""
    for module in tower.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu", generator=draw)
        elif isinstance(module, AttentionPool):
            std = module.c_proj.in_features**-0.5
            for linear in (module.q_proj, module.k_proj, module.v_proj, module.c_proj):
                linear.weight.normal_(0.0, std, generator=draw)
                linear.bias.zero_()
            module.positional_embedding.normal_(0.0, std, generator=draw)
    for module in tower.modules():
        if isinstance(module, Bottleneck | BasicBlock):
            module.last_norm.weight.zero_()
