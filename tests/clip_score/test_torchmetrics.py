"""CLIPScore beside torchmetrics', on the same weights: a small random model that transformers saved."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support import toy

import tandem
from tandem.clip_score import clip_score, image_similarity

pytestmark = pytest.mark.slow  # transformers and torchmetrics take seconds to import


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of transformers' with the published vocabulary and a context of 16 tokens."""
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    target = tmp_path_factory.mktemp("theirs")
    torch.manual_seed(0)
    small = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.CLIPConfig(
        text_config={**small, "max_position_embeddings": 16, "bos_token_id": 49406, "eos_token_id": 49407},
        vision_config={**small, "image_size": 32, "patch_size": 8},
        projection_dim=24,
    )
    transformers.CLIPModel(config).save_pretrained(target)
    tandem.load().tokenizer.clip().save(target)
    size = {"shortest_edge": 32}
    transformers.CLIPImageProcessor(size=size, crop_size={"height": 32, "width": 32}).save_pretrained(target)
    return target


@pytest.fixture(scope="module")
def theirs(folder: Path) -> Any:
    """What torchmetrics takes: a model and a processor, called as it calls them."""
    import torch
    import transformers

    model = transformers.CLIPModel.from_pretrained(folder).eval()
    tokenizer = transformers.CLIPTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"),
        bos_token="<|startoftext|>", eos_token="<|endoftext|>", pad_token="<|endoftext|>",
    )  # fmt: skip
    pixels = transformers.CLIPImageProcessor.from_pretrained(folder)

    class Model(torch.nn.Module):
        config = model.config

        def get_image_features(self, values: Any) -> Any:
            found = model.get_image_features(values)
            return getattr(found, "pooler_output", found)  # version 5 of transformers

        def get_text_features(self, ids: Any, mask: Any) -> Any:
            found = model.get_text_features(ids, mask)
            return getattr(found, "pooler_output", found)

    def processor(text: Any = None, images: Any = None, **options: Any) -> Any:
        if images is not None:
            return pixels(images=images, return_tensors="pt")
        return tokenizer(text, **options)

    return lambda: (Model(), processor)


def scores_of(theirs: Any, images: list[Image.Image], texts: list[str]) -> np.ndarray:
    """torchmetrics' score of each pair, by itself: it gives the mean of those it gets."""
    import torch
    from torchmetrics.functional.multimodal import clip_score as score

    tensors = [torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1) for image in images]
    with torch.no_grad():
        pairs = zip(tensors, texts, strict=True)
        return np.array([float(score(image, text, model_name_or_path=theirs)) for image, text in pairs])


def test_the_same_scores_as_torchmetrics(folder: Path, theirs: Any) -> None:
    model = tandem.load(folder)
    images = [toy.random_image(seed, (48, 40)) for seed in range(6)]
    texts = ["a cat", "a dog in the snow", "two birds", "red", "a photo of rain", "it is a man in a hat"]
    expected = scores_of(theirs, images, texts)
    found = clip_score(model, images, texts)
    assert 40 * found.scores == pytest.approx(expected, abs=1e-2)  # of 0..100
    assert found.scores == pytest.approx(expected / 40, abs=1e-4)
    assert found.figures["clip_score_100"].value == pytest.approx(expected.mean(), abs=1e-2)
    assert expected.max() > 0


def test_images_with_images_as_torchmetrics(folder: Path, theirs: Any) -> None:
    import torch
    from torchmetrics.functional.multimodal import clip_score as score

    images = [toy.random_image(seed, (48, 40)) for seed in range(4)]
    tensors = [torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1) for image in images]
    with torch.no_grad():
        expected = float(score(tensors[:2], tensors[2:], model_name_or_path=theirs))
    found = image_similarity(tandem.load(folder), images[:2], images[2:])
    assert 100 * found.scores.mean() == pytest.approx(expected, abs=1e-2)


def test_torchmetrics_loses_the_end_token_of_a_long_caption(folder: Path, theirs: Any) -> None:
    """Issues 2883, 2906 and 2935 of torchmetrics: the cut takes the token away that the vector is read from."""
    model = tandem.load(folder)
    images = [toy.random_image(seed, (48, 40)) for seed in range(6)]
    long = "a man and a woman walk two dogs along the beach while the sun sets behind the old pier"
    ids = model.tokenizer([long], 16, truncate=True)
    assert ids[0, -1] == 49407
    assert 49407 not in model.tokenizer([long], 77)[0, :16]  # what torchmetrics keeps of it
    found = clip_score(model, images, long)
    assert len(found.cut) == 6
    right = model.embed_images(images) @ model.encode_token_ids(ids)[0]
    assert found.values["cosine"] == pytest.approx(right, abs=1e-5)
    with pytest.warns(UserWarning, match="longer than"):
        defect = scores_of(theirs, images, [long] * 6)
    assert np.abs(40 * found.scores - defect).max() > 0.5
