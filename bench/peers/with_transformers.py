"""transformers: `CLIPModel` and `CLIPProcessor`, as its documentation of CLIP shows them."""

from typing import Any

PACKAGES = ("transformers", "torch")
BATCH = 32
CHUNK = 64  # texts at once: a batch is padded to its longest


def prepare(model: str, scratch: str, precision: str, photos: list[str], texts: list[str]) -> None:
    """Reads the folder as it is."""


def classify(model: str, scratch: str, precision: str, threads: int, photo: str, labels: list[str]) -> dict[str, float]:
    import torch
    from PIL import Image
    from transformers import CLIPModel, CLIPProcessor

    network = CLIPModel.from_pretrained(model, dtype=getattr(torch, precision))
    processor = CLIPProcessor.from_pretrained(model)
    texts = [f"a photo of a {label}." for label in labels]
    inputs = processor(text=texts, images=Image.open(photo), return_tensors="pt", padding=True)
    inputs["pixel_values"] = inputs["pixel_values"].to(network.dtype)
    with torch.inference_mode():
        probabilities = network(**inputs).logits_per_image.float().softmax(dim=1)[0]
    return dict(zip(labels, probabilities.tolist(), strict=True))


class Peer:
    def __init__(self, model: str, scratch: str, precision: str, threads: int) -> None:
        import torch
        from transformers import CLIPModel, CLIPProcessor

        torch.set_num_threads(threads)
        self._torch, self._threads = torch, threads
        self._model = CLIPModel.from_pretrained(model, dtype=getattr(torch, precision)).eval()
        self._processor = CLIPProcessor.from_pretrained(model)
        self.padding: dict[str, Any] = {"padding": True}  # to the longest of a batch

    def image_input(self, pixels: Any) -> Any:
        from normalising import normalised

        return self._torch.from_numpy(normalised(pixels, self._processor.image_processor)).to(self._model.dtype)

    def encode_images(self, ready: Any) -> Any:
        with self._torch.inference_mode():
            return _vectors(self._model.get_image_features(pixel_values=ready))

    def encode_texts(self, texts: list[str]) -> Any:
        chunks = [texts[i : i + CHUNK] for i in range(0, len(texts), CHUNK)]
        vectors = []
        with self._torch.inference_mode():
            for chunk in chunks:
                inputs = self._processor(text=chunk, return_tensors="pt", **self.padding)
                vectors.append(self._torch.from_numpy(_vectors(self._model.get_text_features(**inputs))))
        return self._torch.cat(vectors).numpy()

    def embed_files(self, paths: list[str]) -> Any:
        import numpy as np
        from torch_loading import batches

        loaded = batches(paths, self._processor.image_processor, BATCH, self._threads)
        return np.concatenate([self.encode_images(pixels.to(self._model.dtype)) for pixels in loaded])


def _vectors(output: Any) -> Any:
    """Of its answer, which is an object with `pooler_output` since version 5: float32 [n d]."""
    return getattr(output, "pooler_output", output).float().numpy()
