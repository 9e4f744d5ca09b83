"""The towers that models are made of: one room each, with everything that depends on its architecture.

A room has the same modules as every other: `description` (a frozen dataclass of sizes and variations), `shapes` (its
tensors), `module` (torch), `graph` (OpenVINO), `names` (what its tensors are called in other formats), and where there
is such a thing `arrays` (numpy, to answer without being compiled), `trie_graph` (OpenVINO, for texts that begin
alike), `timm` and `hugging_face` (what those call its variations). `IMAGE_TOWERS` and `TEXT_TOWERS` are the one table
of rooms. Everything outside reaches a room through the description it holds: `tower_part(description, "graph")`.

What descriptions say to the outside is `ImageDescription` and `TextDescription` in `parts/description.py`.

An image tower gives its states too, as the backbone of other models. Its graph and its module have
`states(..., blocks, final_norm, projection)` -> [b p w]: the states after so many layers, 0 being the embedding or the
stem, with the class token first where there is one and the patches or positions row by row. A norm or projection that
the description denies is never asked for.

Where its description has a `dense_method`, they have `dense(...)` -> [b p d] too: a vector for each patch or position
at the end of the tower, in the space of the texts' vectors.
"""

import importlib
import importlib.util
from types import ModuleType
from typing import Any, Literal

from tandem.towers.bert.description import Bert
from tandem.towers.fastvit.description import FastViT
from tandem.towers.naflex.description import NaFlex
from tandem.towers.resnet.description import ResNet
from tandem.towers.text_transformer.description import TextTransformer
from tandem.towers.vision_transformer.description import VisionTransformer

# Under the names that configurations and recipes give as `type`
IMAGE_TOWERS: dict[str, type] = {
    "vision_transformer": VisionTransformer,
    "resnet": ResNet,
    "naflex": NaFlex,
    "fastvit": FastViT,
}
TEXT_TOWERS: dict[str, type] = {"text_transformer": TextTransformer, "bert": Bert}

ImageTower = VisionTransformer | ResNet | NaFlex | FastViT
TextTower = TextTransformer | Bert

Part = Literal["shapes", "module", "graph", "trie_graph", "names", "arrays", "timm", "hugging_face"]


def tower_part(tower: object, part: Part) -> ModuleType | Any:
    """The module of this name in the room of a description or of its class, imported when it is first asked for."""
    room = (tower if isinstance(tower, type) else type(tower)).__module__.rpartition(".")[0]
    return importlib.import_module(f"{room}.{part}")


def has_part(tower: object, part: Part) -> bool:
    """Whether the room of a description, or of its class, has this module."""
    room = (tower if isinstance(tower, type) else type(tower)).__module__.rpartition(".")[0]
    return importlib.util.find_spec(f"{room}.{part}") is not None


def tower_type(description: object) -> str:
    """What configurations call this kind of tower."""
    return next(name for name, kind in {**IMAGE_TOWERS, **TEXT_TOWERS}.items() if type(description) is kind)
