"""A model that says it agrees with a collection's own is believed by its vectors before it adds any."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from support import toy
from support.collection_toys import ToyEngine, toy_model

from tandem.config import Quantization
from tandem.errors import StoreError
from tandem.model import Model
from tandem.search.collection import Collection


def stand_in(*, tells_the_truth: bool) -> Model:
    """A model of other weights that says it is the toy, quantised with the best agreement."""
    checkpoint = toy.checkpoint()
    about = Quantization("int8", "toy", toy_model().fingerprint, 100, 100, 1.0, 1.0, 1.0, 1.0, 1.0)
    config = dataclasses.replace(checkpoint.config, quantization=about)
    tensors = {**checkpoint.tensors, "logit_scale": np.asarray(checkpoint.tensors["logit_scale"]) + np.float32(1)}
    engine = ToyEngine()
    if not tells_the_truth:
        engine._matrix = np.random.default_rng(9).normal(size=engine._matrix.shape).astype(np.float32)
    return Model(dataclasses.replace(checkpoint, config=config, tensors=tensors), engine)  # type: ignore[arg-type]


@pytest.fixture
def url(tmp_path: Path) -> str:
    (tmp_path / "first").mkdir()
    (tmp_path / "later").mkdir()
    for number in range(5):
        toy.random_image(number, (24, 20)).save(tmp_path / ("later" if number == 4 else "first") / f"{number}.png")
    with Collection(tmp_path / "c.tandem", toy_model()) as photos:
        photos.add([tmp_path / "first"])
    return str(tmp_path / "c.tandem")


@pytest.mark.filterwarnings("ignore:.*stands in for")
def test_other_weights_with_the_sources_fingerprint_add_nothing(url: str, tmp_path: Path) -> None:
    with Collection(url, stand_in(tells_the_truth=False)) as photos:
        with pytest.raises(StoreError, match=r"gives others for the same photos \(median cosine of 4: "):
            photos.add([tmp_path / "later"])
        with pytest.raises(StoreError, match="it is not what it says it is"):
            photos.add({"new": toy.random_image(7, (24, 20))})
        assert photos.count() == 4


@pytest.mark.filterwarnings("ignore:.*stands in for")
def test_what_gives_the_same_vectors_adds(url: str, tmp_path: Path) -> None:
    with Collection(url, stand_in(tells_the_truth=True)) as photos:
        photos.add([tmp_path / "later"])
        assert photos.count() == 5


@pytest.mark.filterwarnings("ignore:.*stands in for")
def test_without_files_there_is_nothing_to_compare(url: str, tmp_path: Path) -> None:
    for path in (tmp_path / "first").iterdir():
        path.unlink()
    with Collection(url, stand_in(tells_the_truth=False)) as photos:
        photos.add([tmp_path / "later"])
        assert photos.count() == 5
