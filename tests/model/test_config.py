"""A model's description: to plain values and back, and what no engine could build is refused by name."""

import dataclasses
import json
from typing import Any

import pytest

from tandem.config import PUBLISHED, ModelConfig, from_dict, to_dict
from tandem.errors import ConfigError


def changed(name: str, **changes: Any) -> dict[str, Any]:
    """A published model as plain values; `vision__layers=0` changes `vision.layers`, None takes it out."""
    plain: dict[str, Any] = json.loads(json.dumps(to_dict(PUBLISHED[name])))
    for path, value in changes.items():
        *parents, last = path.split("__")
        place = plain
        for parent in parents:
            place = place[parent]
        place[last] = value
        if value is None:
            del place[last]
    return plain


@pytest.mark.parametrize("config", PUBLISHED.values(), ids=lambda config: config.name)
def test_plain_values_and_back(config: ModelConfig) -> None:
    plain = json.loads(json.dumps(to_dict(config)))
    assert list(plain)[:2] == ["format", "version"]
    assert from_dict(plain) == config


@pytest.mark.parametrize(
    ("name", "changes", "says"),
    [
        ("ViT-B/32", {"vision__layers": 0}, "vision.layers: expected a whole number from 1 to 1,000, got 0"),
        ("ViT-B/32", {"text__layers": 10**6}, "text.layers: expected a whole number from 1 to 1,000, got 1000000"),
        (
            "ViT-B/32",
            {"text__mlp_width": 10**5000},
            "text.mlp_width: expected a whole number from 1 to 1,048,576, got an int too large to show",
        ),
        ("ViT-B/32", {"text__layers": -1}, "text.layers: expected a whole number from 1 to 1,000, got -1"),
        ("ViT-B/32", {"vision__heads": True}, "vision.heads: expected a whole number from 1 to 1,048,576, got True"),
        ("ViT-B/32", {"text__width": 512.0}, "text.width: expected a whole number from 1 to 1,048,576, got 512.0"),
        ("ViT-B/32", {"vision__heads": 7}, "vision.width = 768 is not divisible by heads = 7"),
        ("ViT-B/32", {"vision__patch_size": 225}, "vision.patch_size: expected 1..224, got 225"),
        ("ViT-B/32", {"vision__type": "resnet50"}, "vision.type: expected one of vision_transformer, resnet"),
        ("ViT-B/32", {"vision__type": "resnet"}, "vision.patch_size: unknown key"),
        ("ViT-B/32", {"vision__type": None}, "vision.type: missing; expected one of vision_transformer, resnet"),
        (
            "ViT-B/32",
            {"vision__activation": "relu"},
            "vision.activation: expected one of quick_gelu, gelu, gelu_tanh, got 'relu'",
        ),
        ("ViT-B/32", {"text__vocab_size": 5}, "text.vocab_size: unknown key; did you mean 'vocabulary_size'?"),
        ("ViT-B/32", {"text__start_id": 49408}, "text.start_id: expected 0..49407, got 49408"),
        ("ViT-B/32", {"text__pad_id": -1}, "text.pad_id: expected a whole number of at least 0, got -1"),
        ("ViT-B/32", {"embed_dim": None}, "embed_dim: missing; expected a whole number from 1 to 1,048,576"),
        ("ViT-B/32", {"preprocessing__std": [0.2, 0.2, 0]}, "preprocessing.std[2]: expected a number above 0, got 0"),
        ("ViT-B/32", {"preprocessing__fill": 256}, "preprocessing.fill: expected a whole number from 0 to 255"),
        ("ViT-B/32", {"preprocessing__image_size": 336}, "preprocessing.image_size is 336, but the image encoder"),
        ("RN50", {"vision__layers": [3, 4, 6]}, "vision.layers: expected a list of 4, got 3"),
        ("RN50", {"vision__layers": [3, 0, 6, 3]}, "vision.layers[1]: expected a whole number from 1 to 1,000, got 0"),
        ("RN50", {"vision__stem_stride": 3}, "vision.stem_stride: expected one of 2, 4, got 3"),
        ("RN50", {"vision__width": 65}, "vision"),
        (
            "RN50",
            {"vision__image_size": 31, "preprocessing__image_size": 31},
            "vision.image_size: expected at least 32",
        ),
        ("RN50", {"notes": {"a": 1}}, "notes.a: expected text, got 1"),
    ],
)
def test_what_cannot_be_built_is_refused_by_name(name: str, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_dict(changed(name, **changes), "here/config.json")
    assert str(caught.value).startswith(f"here/config.json: {says}")


def test_a_description_made_by_hand_is_checked_as_well() -> None:
    config = PUBLISHED["ViT-B/32"]
    with pytest.raises(ConfigError, match=r"^text\.layers: expected a whole number from 1 to 1,000, got 0$"):
        dataclasses.replace(config, text=dataclasses.replace(config.text, layers=0))
