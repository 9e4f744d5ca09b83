"""The exported graphs, in another runtime, give the engine's vectors for any batch and length."""

from pathlib import Path

import numpy as np
import pytest
from support import skip_without, toy

from tandem import engine

pytestmark = pytest.mark.slow

skip_without("onnxruntime", "onnxscript")


@pytest.mark.parametrize("vision", ["vit", "resnet"])
def test_exported_graphs_give_the_same_vectors(vision: str, tmp_path: Path) -> None:
    import onnxruntime

    from tandem.engine.onnx import save_onnx

    checkpoint = toy.checkpoint(vision)
    save_onnx(checkpoint.config, checkpoint.tensors, tmp_path)
    built = engine.build(checkpoint.config, checkpoint.tensors)

    image_session = onnxruntime.InferenceSession(str(tmp_path / "image.onnx"))
    pixels = np.random.default_rng(0).integers(0, 256, (5, toy.SIZE, toy.SIZE, 3), dtype=np.uint8)
    for batch in (pixels, pixels[:1]):
        (vectors,) = image_session.run(None, {"pixels": batch})
        np.testing.assert_allclose(vectors, built.encode_images(batch), atol=1e-5)

    text_session = onnxruntime.InferenceSession(str(tmp_path / "text.onnx"))
    for texts in (["a cat", "a dog and a cat", "x"], ["do"]):
        ids = checkpoint.tokenizer(texts, toy.CONTEXT)
        (vectors,) = text_session.run(None, {"token_ids": ids.astype(np.int64)})
        np.testing.assert_allclose(vectors, built.encode_texts(ids), atol=1e-5)
