"""Who takes states from text towers, and what each of them takes: a table of descriptions.

Facts only, as the published pipelines have them. Who encodes reads the table, and knows no consumer by name.
"""

from dataclasses import dataclass
from typing import Literal

Pooled = Literal["projected", "unprojected", "none"]


@dataclass(frozen=True)
class TowerUse:
    """What a consumer takes from one text tower. Sizes of 0 are any."""

    name: str
    subfolder: str  # in a diffusers repository
    width: int
    layers: int  # of a deeper tower the last blocks are left out
    skip: int = 0  # states are read so many blocks before the end
    norm: bool = True  # the final norm follows the states
    pooled: Pooled = "none"
    pad_id: int | None = None  # None: the end token
    in_states: bool = True  # else the pooled vector alone is taken


@dataclass(frozen=True)
class Consumer:
    """What an image generator takes."""

    name: str
    title: str
    towers: tuple[TowerUse, ...]
    zeros_without_negative: bool = False  # no negative prompt is zeros; else it is the empty prompt, encoded
    context_length: int = 77  # 0: any
    t5_tokens: int = 0  # T5 states follow those of the text towers; 0: none do
    t5_width: int = 4096
    zeros_without_t5: bool = False  # T5 may be left out; else its states must come from the caller


_CLIP_L = TowerUse("clip_l", "text_encoder", 768, 12)  # OpenAI's ViT-L/14
CONSUMERS: dict[str, Consumer] = {
    each.name: each
    for each in (
        Consumer("sd1", "Stable Diffusion 1.x", (_CLIP_L,)),
        # open_clip's ViT-H/14 has 24 blocks, and the last one is not used; pipelines keep 23 of them
        Consumer("sd2", "Stable Diffusion 2.x", (TowerUse("clip_h", "text_encoder", 1024, 23, pad_id=0),)),
        Consumer(
            "sdxl",
            "Stable Diffusion XL",
            (
                TowerUse("clip_l", "text_encoder", 768, 12, skip=1, norm=False),
                TowerUse("clip_g", "text_encoder_2", 1280, 32, 1, norm=False, pooled="projected", pad_id=0),
            ),
            zeros_without_negative=True,
        ),
        Consumer(
            "sd3",
            "Stable Diffusion 3.x",
            (
                TowerUse("clip_l", "text_encoder", 768, 12, skip=1, norm=False, pooled="projected"),
                TowerUse("clip_g", "text_encoder_2", 1280, 32, 1, norm=False, pooled="projected", pad_id=0),
            ),
            t5_tokens=256,
            zeros_without_t5=True,
        ),
        Consumer(
            "flux",
            "Flux.1",
            (TowerUse("clip_l", "text_encoder", 768, 12, pooled="unprojected", in_states=False),),
            t5_tokens=512,
        ),
        Consumer(
            "states",
            "any CLIP's own text tower",
            (TowerUse("clip", "text_encoder", 0, 0, pooled="unprojected"),),
            context_length=0,
        ),
    )
}


def tower_names(subfolder: str | None = None) -> tuple[str, ...]:
    """The towers of published image generators: those that lie in a folder of a pipeline, or all."""
    uses = [use for consumer in CONSUMERS.values() for use in consumer.towers if use.width]
    return tuple(dict.fromkeys(use.name for use in uses if subfolder in (None, use.subfolder)))
