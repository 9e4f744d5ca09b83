"""The table of rooms: every description says what the outside asks for, and every room has the parts it must have."""

import inspect
from pathlib import Path

import pytest

from tandem.config import Bert, FastViT, NaFlex, ResNet, TextTransformer, VisionTransformer
from tandem.towers import IMAGE_TOWERS, TEXT_TOWERS, has_part, tower_part, tower_type
from tandem.towers.parts.description import BlockSizes, ImageDescription, TextDescription

TEXTS = {
    "text_transformer": TextTransformer(8, 20, 16, 1, 2, 16, "gelu", 18, 19),
    "bert": Bert(8, 20, 16, 1, 2, 16, positions=10),
}
IMAGES = {
    "vision_transformer": VisionTransformer(32, 8, 16, 1, 2, 32, "gelu"),
    "resnet": ResNet(64, (1, 1, 1, 1), 8, 2),
    "naflex": NaFlex(8, 4, 16, 16, 1, 2, 32, "gelu"),
    "fastvit": FastViT(64, (1, 1, 1, 1), 32),
}


def test_every_kind_of_tower_is_tried_here() -> None:
    assert {name: type(text) for name, text in TEXTS.items()} == TEXT_TOWERS
    assert {name: type(vision) for name, vision in IMAGES.items()} == IMAGE_TOWERS


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_tower_says_what_is_asked_of_it(name: str) -> None:
    vision = IMAGES[name]
    asked = [field for field in vars(ImageDescription) if not field.startswith("_")]
    assert len(asked) > 10
    assert not [field for field in asked if not hasattr(vision, field)]
    vision.check(16)
    assert tower_type(vision) == name


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_tower_says_what_is_asked_of_it(name: str) -> None:
    text = TEXTS[name]
    asked = [
        field
        for protocol in (BlockSizes, TextDescription)
        for field, value in vars(protocol).items()
        if isinstance(value, property)
    ]
    assert len(asked) > 15
    assert not [field for field in asked if not hasattr(text, field)]
    assert tower_type(text) == name


@pytest.mark.parametrize("name", [*IMAGE_TOWERS, *TEXT_TOWERS])
def test_a_room_has_its_parts(name: str) -> None:
    kind = {**IMAGE_TOWERS, **TEXT_TOWERS}[name]
    for part in ("shapes", "module", "graph", "names"):
        assert has_part(kind, part), part  # type: ignore[arg-type]
    assert set(tower_part(kind, "names").RULES) >= {"open_clip", "transformers"}
    tower, shapes = {**IMAGES, **TEXTS}[name], tower_part(kind, "shapes")
    projection = set(shapes.PROJECTION) & set(shapes.shapes(tower, 16))  # those of this kind of projection
    assert bool(projection) == (name != "naflex")
    if name in TEXT_TOWERS:
        assert tower_part(kind, "shapes").EMBEDDING in tower_part(kind, "shapes").shapes(TEXTS[name], 4)
        assert callable(tower_part(kind, "module").fit_context)


def test_only_rooms_know_which_tower_they_hold() -> None:
    """Engines, training and the readers of models ask a description; formats alone may ask for its class."""
    source = Path(inspect.getfile(tower_type)).parents[1]
    asking = {
        str(file.relative_to(source))
        for file in source.rglob("*.py")
        if "towers" not in file.parts
        for kind in (*IMAGE_TOWERS.values(), *TEXT_TOWERS.values())
        if any("isinstance" in line and kind.__name__ in line for line in file.read_text().splitlines())
    }
    # `config` fits the preprocessing to the tower, and each format says what it has no words for
    assert not [file for file in asking if file != "config.py" and not file.startswith("weights/")]
