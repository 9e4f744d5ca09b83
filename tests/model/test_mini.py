"""The model that ships: its size, its bars, and a card whose figures are those of the weights beside it."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tandem
from tandem.config import ResNet, TextTransformer
from tandem.datasets import open_dataset
from tandem.evaluate import evaluate
from tandem.evaluate.report.card import EVALUATION, refreshed
from tandem.model import SHIPPED
from tandem.weights.shapes import parameter_count


@pytest.fixture(scope="module")
def mini() -> tandem.Model:
    return tandem.load()


@pytest.fixture(scope="module")
def card() -> dict[str, Any]:
    """What the card says, by data set and figure; written by `python bench/mini.py --card`."""
    document: dict[str, Any] = json.loads((SHIPPED / EVALUATION).read_text(encoding="utf-8"))
    return document


def figures(card: dict[str, Any], dataset: str) -> dict[str, Any]:
    (result,) = (result for result in card["results"] if result["dataset"]["name"].startswith(dataset))
    return result["figures"]


def test_it_is_small() -> None:
    assert (SHIPPED / "model.safetensors").stat().st_size <= 24_000_000  # as bench/mini.py --table aims
    assert sum(file.stat().st_size for file in SHIPPED.rglob("*") if file.is_file()) <= 25_000_000


def test_the_card_is_about_these_weights(mini: tandem.Model, card: dict[str, Any]) -> None:
    """Whoever changes the weights measures them again: `python bench/mini.py --card`."""
    assert card["model"]["fingerprint"] == mini.fingerprint


def test_the_card_says_what_was_measured(card: dict[str, Any]) -> None:
    text = (SHIPPED / "README.md").read_text(encoding="utf-8")
    assert refreshed(text, card) == text
    assert "Tiny-ImageNet val, 200 seen classes" in text
    value = figures(card, "Tiny-ImageNet val")["top1"]["value"]
    changed = text.replace(f"{value:.1%} (", f"{value + 0.01:.1%} (", 1)
    assert refreshed(changed, card) == text != changed  # a figure that was typed is seen


def test_the_card_describes_these_towers(mini: tandem.Model) -> None:
    """The table above its figures, which is written by hand."""
    rows = re.findall(r"^\| ([\w ]+) \| (.+) \|$", (SHIPPED / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    said = dict(reversed(rows))
    image, words = mini.config.vision, mini.config.text
    assert isinstance(image, ResNet)
    assert isinstance(words, TextTransformer)
    expected = {
        "image encoder": (
            f"({', '.join(map(str, image.layers))})", f"width {image.width}",
            f"{image.image_size} x {image.image_size} pixels",
        ),
        "text encoder": (
            f"{words.layers} layers of width {words.width}", f"{words.context_length} tokens",
            f"{words.vocabulary_size:,} entries",
        ),
        "shared space": (f"{mini.config.embed_dim} dimensions",),
        "weights": (f"{parameter_count(mini.config) / 1e6:.1f} M", "float16"),
    }  # fmt: skip
    missing = {name: [part for part in parts if part not in said[name]] for name, parts in expected.items()}
    assert not any(missing.values()), missing


def test_the_bars(card: dict[str, Any]) -> None:
    seen, found = figures(card, "Tiny-ImageNet val"), figures(card, "Flickr8k test")
    assert (seen["top1"]["n"], seen["top1"]["chance"]) == (10_000, 0.005)
    assert seen["top1_one_prompt"]["value"] >= 0.40
    assert (found["text_to_image_recall@10"]["n"], found["image_to_text_recall@10"]["n"]) == (5000, 1000)
    assert found["text_to_image_recall@10"]["value"] >= 0.308  # chance: 1%
    assert found["image_to_text_recall@10"]["value"] >= 0.317  # chance: about 1%


@pytest.mark.slow
def test_the_figures_are_found_again(mini: tandem.Model, card: dict[str, Any], shared: Path) -> None:
    """A part of Tiny-ImageNet val lies where the whole does; retrieval, which is of the whole gallery, is the same."""
    part = open_dataset(shared / "data/tiny-imagenet/val.parquet", limit=500)
    top1 = evaluate(mini, part, cache=False).results[0].figures["top1_one_prompt"]
    assert top1.low <= figures(card, "Tiny-ImageNet val")["top1_one_prompt"]["value"] <= top1.high
    test = dataclasses.replace(open_dataset(shared / "data/flickr8k/test-00000.tar"), name="Flickr8k test")
    again = evaluate(mini, test, cache=False).results[0].figures
    for name, stored in figures(card, "Flickr8k test").items():
        if "recall" in name:
            assert again[name].value == pytest.approx(stored["value"], abs=0.002), name  # two captions of a thousand


@pytest.mark.slow
def test_a_cat_is_called_a_cat(mini: tandem.Model) -> None:
    data = pytest.importorskip("skimage.data")
    answer = mini.classify(np.asarray(data.chelsea()), ["cat", "dog", "car", "building", "person", "food"])
    assert answer.best == ["cat"]
