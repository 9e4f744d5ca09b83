"""What a FastViT's tensors are called by timm (and open_clip with timm): as here, below the image tower's trunk."""

from collections.abc import Iterator

from tandem.towers.parts.names import BATCH_NORM, Rule, same


def _rules() -> Iterator[Rule]:
    branches = ("conv_kxk.{}", "conv_scale")
    convolutions = [
        *(f"stem.{{}}.{branch}" for branch in branches),
        *(f"stages.{{}}.downsample.proj.{{}}.{branch}" for branch in ("large_conv", "small_conv", "conv_kxk.{}")),
        *(f"stages.{{}}.blocks.{{}}.token_mixer.mixer.{branch}" for branch in branches),
        "stages.{}.blocks.{}.mlp.conv",
        *(f"final_conv.{branch}" for branch in branches),
    ]
    norms = [
        *(f"{convolution}.bn" for convolution in convolutions),
        "stem.{}.identity",
        "stages.{}.downsample.proj.{}.identity",
        "stages.{}.blocks.{}.token_mixer.mixer.identity",
        "stages.{}.blocks.{}.token_mixer.norm.identity",
        "stages.{}.blocks.{}.norm",
    ]
    layers = [
        *(f"stages.{{}}.downsample.proj.{{}}.se.{layer}" for layer in ("fc1", "fc2")),
        "stages.{}.pos_emb.pos_enc",
        "stages.{}.blocks.{}.token_mixer.proj",
        *(f"stages.{{}}.blocks.{{}}.mlp.{layer}" for layer in ("fc1", "fc2")),
        *(f"final_conv.se.{layer}" for layer in ("fc1", "fc2")),
        "head.fc",
    ]
    scales = ["token_mixer.layer_scale", "layer_scale", "layer_scale_1", "layer_scale_2"]
    for name in convolutions:
        yield from same(f"visual.{name}.conv", f"visual.trunk.{name}.conv", "weight")
    for name in norms:
        yield from same(f"visual.{name}", f"visual.trunk.{name}", *BATCH_NORM)
    for name in layers:
        yield from same(f"visual.{name}", f"visual.trunk.{name}")
    for name in scales:
        yield from same(
            f"visual.stages.{{}}.blocks.{{}}.{name}", f"visual.trunk.stages.{{}}.blocks.{{}}.{name}", "gamma"
        )
    qkv = "stages.{}.blocks.{}.token_mixer.qkv"
    yield from same(f"visual.{qkv}", f"visual.trunk.{qkv}", "weight")


# transformers has no such tower
RULES: dict[str, tuple[Rule, ...]] = {"open_clip": tuple(_rules()), "transformers": ()}
