"""ONNX Runtime without torch, as it is deployed: two exported towers, `tokenizers`, Pillow, and threads that decode.

The towers are exported from transformers by `torch.onnx`. int8 is ONNX Runtime's own `quantize_dynamic`, which its
documentation recommends for transformers; convolutions stay in float32, whose integer kernel is slower than that.
"""

import json
from pathlib import Path
from typing import Any

PACKAGES = ("onnxruntime", "tokenizers", "pillow")
BATCH = 32
CHUNK = 64
END = 49407


def prepare(model: str, scratch: str, precision: str, photos: list[str], texts: list[str]) -> None:
    """image-float32.onnx and text-float32.onnx, and from these the quantised ones."""
    folder = Path(scratch)
    if not (folder / "text-float32.onnx").is_file():
        _export(model, folder)
    if precision == "int8" and not (folder / "text-int8.onnx").is_file():
        for tower in ("image", "text"):
            _quantise(folder, tower)


def _quantise(folder: Path, tower: str) -> None:
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    plain, made = folder / f"{tower}.plain.onnx", folder / f"{tower}-int8.part.onnx"
    exported = onnx.load(folder / f"{tower}-float32.onnx")
    # What torch's exporter says of shapes between operations contradicts what the quantiser infers; it is not needed.
    del exported.graph.value_info[:]
    onnx.save(exported, plain)
    quantize_dynamic(plain, made, weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul", "Gemm"])
    plain.unlink()
    made.replace(folder / f"{tower}-int8.onnx")


def _export(model: str, folder: Path) -> None:
    import torch
    from torch.export import Dim
    from transformers import CLIPModel

    class Image(torch.nn.Module):
        def forward(self, pixel_values: Any) -> Any:
            return network.get_image_features(pixel_values=pixel_values).pooler_output

    class Text(torch.nn.Module):
        def forward(self, input_ids: Any) -> Any:
            return network.get_text_features(input_ids=input_ids).pooler_output

    network = CLIPModel.from_pretrained(model).eval()
    size = network.config.vision_config.image_size
    batch, length = Dim("batch", min=1, max=4096), Dim("length", min=3, max=77)
    ids = torch.tensor([[49406, 320, 2368, END, END], [49406, 320, 1929, 2368, END]])
    towers = {
        "image": (Image, {"pixel_values": torch.zeros(2, 3, size, size)}, {"pixel_values": {0: batch}}),
        "text": (Text, {"input_ids": ids}, {"input_ids": {0: batch, 1: length}}),
    }
    for tower, (module, example, shapes) in towers.items():
        wrapped = module()
        wrapped.network = network  # the module's own, so that its weights are exported
        made = folder / f"{tower}.part.onnx"
        with torch.inference_mode():
            torch.onnx.export(
                wrapped.eval(), kwargs=example, f=made, dynamo=True, dynamic_shapes=shapes, external_data=False,
                input_names=list(example), output_names=["embeds"], verbose=False,
            )  # fmt: skip
        made.replace(folder / f"{tower}-float32.onnx")


def _session(scratch: str, tower: str, precision: str, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    path = Path(scratch) / f"{tower}-{precision}.onnx"
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _tokenizer(model: str) -> Any:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(Path(model) / "tokenizer.json"))
    tokenizer.enable_padding(pad_id=END)
    return tokenizer


class Preprocessing:
    """The folder's, in Pillow and NumPy."""

    def __init__(self, model: str) -> None:
        import numpy as np

        said = json.loads((Path(model) / "preprocessor_config.json").read_text())
        self.image_mean, self.image_std = said["image_mean"], said["image_std"]
        self.rescale_factor = said["rescale_factor"]
        self._shorter, self._crop = said["size"]["shortest_edge"], said["crop_size"]["height"]
        self._numpy = np

    def __call__(self, path: str) -> Any:
        """A file -> uint8 [h w 3]: the shorter side resized, bicubic, and the centre of that."""
        from PIL import Image

        with Image.open(path) as opened:
            image = opened.convert("RGB")
        scale = self._shorter / min(image.size)
        width, height = (max(self._shorter, int(side * scale)) for side in image.size)
        resized = image.resize((width, height), Image.Resampling.BICUBIC)
        left, top = (width - self._crop) // 2, (height - self._crop) // 2
        return self._numpy.asarray(resized.crop((left, top, left + self._crop, top + self._crop)))


def classify(model: str, scratch: str, precision: str, threads: int, photo: str, labels: list[str]) -> dict[str, float]:
    import numpy as np
    from safetensors import safe_open

    peer = Peer(model, scratch, precision, threads)
    image = peer.embed_files([photo])[0]
    words = peer.encode_texts([f"a photo of a {label}." for label in labels])
    with safe_open(str(Path(model) / "model.safetensors"), "np") as weights:
        scale = np.exp(weights.get_tensor("logit_scale"))
    logits = scale * (words / np.linalg.norm(words, axis=1, keepdims=True)) @ (image / np.linalg.norm(image))
    powers = np.exp(logits - logits.max())
    return dict(zip(labels, (powers / powers.sum()).tolist(), strict=True))


class Peer:
    def __init__(self, model: str, scratch: str, precision: str, threads: int) -> None:
        self._threads = threads
        self._preprocessing = Preprocessing(model)
        self._tokenizer = _tokenizer(model)
        self._images = _session(scratch, "image", precision, threads)
        self._texts = _session(scratch, "text", precision, threads)

    def image_input(self, pixels: Any) -> Any:
        from normalising import normalised

        return normalised(pixels, self._preprocessing)

    def encode_images(self, ready: Any) -> Any:
        return self._images.run(None, {"pixel_values": ready})[0]

    def encode_texts(self, texts: list[str]) -> Any:
        import numpy as np

        vectors = []
        for i in range(0, len(texts), CHUNK):
            ids = np.array([each.ids for each in self._tokenizer.encode_batch(texts[i : i + CHUNK])], dtype=np.int64)
            vectors.append(self._texts.run(None, {"input_ids": ids})[0])
        return np.concatenate(vectors)

    def embed_files(self, paths: list[str]) -> Any:
        """Threads decode the next batch while this one is encoded."""
        from concurrent.futures import ThreadPoolExecutor

        import numpy as np

        def read(batch: list[str]) -> list[Any]:
            return [pool.submit(self._preprocessing, path) for path in batch]

        batches = [paths[i : i + BATCH] for i in range(0, len(paths), BATCH)]
        vectors = []
        with ThreadPoolExecutor(self._threads) as pool:
            following = read(batches[0])
            for i in range(len(batches)):
                current, following = following, read(batches[i + 1]) if i + 1 < len(batches) else []
                pixels = np.stack([each.result() for each in current])
                vectors.append(self.encode_images(self.image_input(pixels)))
        return np.concatenate(vectors)
