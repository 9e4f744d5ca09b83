"""The exported graphs of every kind of tower, in another runtime, give the engine's vectors for any batch and length.

An export takes a second for each block: towers of one are enough, and only the tower that is asked about is exported.
"""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import skip_without
from support.engine_toys import PADDED_TEXT, TEXT, TOYS, random_ids, random_pixels, random_tensors

from tandem import engine
from tandem.config import Bert, ModelConfig, TextTower
from tandem.nn import from_arrays

pytestmark = pytest.mark.slow

skip_without("onnxruntime", "onnxscript")


def with_one_block(which: str) -> ModelConfig:
    toy = TOYS[which]
    layers = toy.vision.layers
    one: Any = 1 if isinstance(layers, int) else (1,) * len(layers)  # a stage's
    return dataclasses.replace(toy, vision=dataclasses.replace(toy.vision, layers=one))


@pytest.mark.parametrize("which", ["vit", "pe-core", "clipa", "siglip", "naflex", "resnet-bottleneck", "fastvit"])
def test_an_image_graph_gives_the_engines_vectors(which: str, tmp_path: Path) -> None:
    import onnxruntime

    from tandem.engine.onnx import save_image_graph

    config = with_one_block(which)
    tensors, pixels = random_tensors(config), random_pixels(config)
    save_image_graph(config, from_arrays(config, tensors), tmp_path / "image.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "image.onnx", providers=["CPUExecutionProvider"])
    expected = engine.build(config, tensors).encode_images(pixels)
    for n in (len(pixels), 1):
        (vectors,) = session.run(None, {"pixels": pixels[:n]})
        np.testing.assert_allclose(vectors, expected[:n], atol=1e-5)


TEXTS: dict[str, TextTower] = {
    "clip": dataclasses.replace(TEXT, layers=1),
    "metaclip2": dataclasses.replace(TEXT, layers=1, pad_id=1, start_id=0, end_id=2),
    "siglip": dataclasses.replace(PADDED_TEXT, layers=1),
    "bert": Bert(24, 100, 32, 1, 2, 48, positions=34, start_id=98, end_id=99, pad_id=7),
}


@pytest.mark.parametrize("which", TEXTS)
def test_a_text_graph_gives_the_engines_vectors(which: str, tmp_path: Path) -> None:
    import onnxruntime

    from tandem.engine.onnx import save_text_graph

    config = dataclasses.replace(TOYS["vit" if which != "siglip" else "siglip"], text=TEXTS[which])
    tensors = random_tensors(config)
    fixed = config.text.fixed_length
    ids = random_ids(config, (9, 3, config.text.context_length, 7) if fixed else (9, 3, 12, 7))
    save_text_graph(config, from_arrays(config, tensors), tmp_path / "text.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "text.onnx", providers=["CPUExecutionProvider"])
    assert isinstance(session.get_inputs()[0].shape[1], int) == fixed  # there, padding is part of the text
    expected = engine.build(config, tensors).encode_texts(ids)
    for rows in (slice(None), slice(1, 2)):  # any batch, any length
        own = ids[rows] if fixed or rows == slice(None) else ids[rows, :5]
        (vectors,) = session.run(None, {"token_ids": own.astype(np.int64)})
        np.testing.assert_allclose(vectors, expected[rows], atol=1e-5)


def test_both_graphs_are_written_into_a_folder_that_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tandem.engine import onnx

    written: list[Path] = []
    for name in ("save_image_graph", "save_text_graph"):
        monkeypatch.setattr(onnx, name, lambda config, model, path: written.append(path))
    onnx.save_onnx(TOYS["vit"], random_tensors(TOYS["vit"]), tmp_path / "new" / "graphs")
    assert written == [tmp_path / "new/graphs/image.onnx", tmp_path / "new/graphs/text.onnx"]
    assert written[0].parent.is_dir()
