"""Which block of a model a tensor or a product belongs to, by its name, and which tower.

The names are the original's, and what towers of other families are called here: every room's `shapes` keeps to them.
"""

import re
from typing import Literal, get_args

Tower = Literal["image", "text"]
TOWERS: tuple[Tower, ...] = get_args(Tower)

# resblocks.N of transformers, stem.N and layerN.N of ResNets, stem.N and stages.N.blocks.N of FastViTs, layer.N of BERT
_BLOCK = re.compile(r"^(.*?(?:resblocks|stages|layer|layer\d|stem)\.\d+(?:\.blocks\.\d+)?)\.")
_ENDS = " ends"  # what is in no block: where a tower begins and ends


def tower_of(name: str) -> Tower:
    """Whose tensor, product or block this is."""
    return "image" if name.startswith(("visual.", f"image{_ENDS}")) else "text"


def block_of(name: str) -> str:
    """The block of a tensor or a product; what is in none belongs to the ends of its tower."""
    found = _BLOCK.match(name)
    return found[1] if found else f"{tower_of(name)}{_ENDS}"
