"""Arguments of the wrong kind, and numbers that are none: refused in words that name them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import toy

from tandem.compat import NotCoveredError, clip, open_clip, sentence_transformers, transformers
from tandem.errors import TextError
from tandem.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy.folder(tmp_path_factory.mktemp("toy") / "model")


@pytest.mark.parametrize("tokenize", [clip.tokenize, open_clip.get_tokenizer(), open_clip.tokenize])
def test_what_is_no_text_and_no_length_is_named(tokenize: Callable[..., Any]) -> None:
    for wrong, kind in ((5, "int"), (None, "NoneType"), (b"a", "bytes")):
        with pytest.raises(TextError, match=f"expected a text or several, got {kind}"):
            tokenize(wrong)
    with pytest.raises(TextError, match="text 1: expected str, got int"):
        tokenize(["a", 5])
    for length in (10**12, -1, "b", 1.5):
        with pytest.raises(TextError, match=r"context_length: expected 1 to 65,536 tokens, got"):
            tokenize("a", length)
    assert tokenize("a", 100).shape == (1, 100)


def test_a_processor_names_what_is_no_text_and_no_image(folder: Path) -> None:
    processor = transformers.CLIPProcessor.from_pretrained(folder)
    for wrong, kind in ((5, "int"), (b"a", "bytes")):
        with pytest.raises(TextError, match=f"expected a text or several, got {kind}"):
            processor(text=wrong)
    with pytest.raises(NotCoveredError, match=r"images=5: .*expected PIL images"):
        processor(images=5)
    for length in (10**12, -1, "3"):
        with pytest.raises(TextError, match="max_length: expected 1 to 65,536 tokens"):
            processor(text="a", padding="max_length", max_length=length)


def test_half_a_surrogate_pair_is_named_where_the_tokenizer_takes_none() -> None:
    with pytest.raises(TextError, match="text 1: half of a surrogate pair"):
        Tokenizer.clip().as_read_from_json().encode(["a", "\ud800"])


def test_sentence_transformers_names_batches_and_inputs_that_are_none(folder: Path) -> None:
    encoder = sentence_transformers.SentenceTransformer(str(folder))
    for size in (0, -3, True, "2"):
        with pytest.raises(NotCoveredError, match=r"batch_size=.*at least 1"):
            encoder.encode(["a"], batch_size=size)
    for wrong, kind in ((5, "int"), (None, "NoneType"), (b"a", "bytes"), ([{}], "dict"), (["a", 5], "int")):
        with pytest.raises(NotCoveredError, match=rf"encode\({kind}\): .*expected texts, PIL images"):
            encoder.encode(wrong)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf, 3e38])
def test_pixels_that_are_no_numbers_have_no_vectors(folder: Path, wrong: float) -> None:
    pixels = np.full((1, 3, 32, 32), wrong, np.float32)
    model = transformers.CLIPModel.from_pretrained(folder)
    ours = open_clip.create_model(str(folder))
    for encode in (lambda: model.get_image_features(pixel_values=pixels), lambda: ours.encode_image(pixels)):
        with pytest.raises(NotCoveredError, match="pixels that are NaN or infinite"):
            encode()


@pytest.mark.parametrize(
    ("ids", "says"), [("abc", "whole numbers"), ([[1.5, 2]], "of float64"), ([[1], [1, 2]], "different lengths")]
)
def test_ids_that_are_none_are_named(folder: Path, ids: Any, says: str) -> None:
    model = transformers.CLIPModel.from_pretrained(folder)
    with pytest.raises(NotCoveredError, match=f"input_ids.*{says}"):
        model.get_text_features(input_ids=ids)


def test_weights_beside_a_name_that_has_its_own_are_not_dropped_silently(folder: Path) -> None:
    for name in ("tandem-mini", str(folder), f"local-dir:{folder}", "hf-hub:org/name"):
        with pytest.raises(NotCoveredError, match=r"pretrained='/nope.pt' of .* weights of its own: leave it out"):
            open_clip.create_model_and_transforms(name, pretrained="/nope.pt")
    for name, pretrained in ((5, None), ("ViT-B-32", 5)):
        with pytest.raises(NotCoveredError, match=r"a model named 5: .*expected strings"):
            open_clip.create_model(name, pretrained=pretrained)  # type: ignore[arg-type]
