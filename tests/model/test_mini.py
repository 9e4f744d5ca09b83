"""The model that ships: its size, and its bars, measured from the shipped file through the public interface."""

from pathlib import Path

import numpy as np
import pytest

import tandem
from tandem.evaluate.tasks import retrieval, zero_shot
from tandem.model import SHIPPED
from tandem.samples import read_samples

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def mini() -> tandem.Model:
    return tandem.load()


def test_it_is_small() -> None:
    assert sum(file.stat().st_size for file in SHIPPED.rglob("*") if file.is_file()) <= 12_000_000


def test_seen_classes_of_tiny_imagenet(mini: tandem.Model, shared: Path) -> None:
    samples = read_samples(shared / "data/tiny-imagenet/val.parquet", "names")
    names = sorted({sample.texts[0] for sample in samples})
    labels = [names.index(sample.texts[0]) for sample in samples]
    first = [name.split(",")[0] for name in names]
    result = zero_shot(mini, (sample.image for sample in samples), labels, first)
    assert result.images == 10_000
    assert result.chance == 0.005
    assert result.top1 >= 0.40


def test_retrieval_on_flickr8k_test(mini: tandem.Model, shared: Path) -> None:
    samples = read_samples(shared / "data/flickr8k/test-00000.tar", "captions")
    result = retrieval(mini, (sample.image for sample in samples), [sample.texts for sample in samples])
    assert (result.images, result.texts) == (1000, 5000)
    assert result.text_to_image[10] >= 0.308  # chance: 1%
    assert result.image_to_text[10] >= 0.317  # chance: about 1%


def test_a_cat_is_called_a_cat(mini: tandem.Model) -> None:
    data = pytest.importorskip("skimage.data")
    answer = mini.classify(np.asarray(data.chelsea()), ["cat", "dog", "car", "building", "person", "food"])
    assert answer.best == ["cat"]
