"""Text conditioning: what image generators take from CLIP's text towers, by the name of who takes it.

`Conditioner("sdxl", "path/of/a/pipeline").encode("a red fox")` gives states and pooled vectors;
`conditioning.diffusers` has modules that take the place of a pipeline's text encoders. Names are resolved on first use.
"""

from typing import TYPE_CHECKING

from tandem.lazy_names import lazy

if TYPE_CHECKING:
    from tandem.conditioning.conditioner import Conditioner
    from tandem.conditioning.consumers import CONSUMERS, Consumer, TowerUse
    from tandem.conditioning.inversions import TextualInversion, read_inversion
    from tandem.conditioning.prompt_syntax import Segment, parse_prompt
    from tandem.conditioning.result import Conditioning, TowerStates

__all__ = [
    "CONSUMERS",
    "Conditioner",
    "Conditioning",
    "Consumer",
    "Segment",
    "TextualInversion",
    "TowerStates",
    "TowerUse",
    "parse_prompt",
    "read_inversion",
]

_HOMES = {
    "CONSUMERS": "tandem.conditioning.consumers",
    "Conditioner": "tandem.conditioning.conditioner",
    "Conditioning": "tandem.conditioning.result",
    "Consumer": "tandem.conditioning.consumers",
    "Segment": "tandem.conditioning.prompt_syntax",
    "TextualInversion": "tandem.conditioning.inversions",
    "TowerStates": "tandem.conditioning.result",
    "TowerUse": "tandem.conditioning.consumers",
    "parse_prompt": "tandem.conditioning.prompt_syntax",
    "read_inversion": "tandem.conditioning.inversions",
}

__getattr__ = lazy(globals(), _HOMES)
