"""sentence-transformers: one `encode` for images and texts. It pads a batch of texts to its longest."""

from typing import Any

PACKAGES = ("sentence-transformers", "transformers", "torch")
BATCH = 32
CHUNK = 64


def prepare(model: str, scratch: str, precision: str, photos: list[str], texts: list[str]) -> None:
    """Reads the folder as it is."""


def _open(model: str, precision: str) -> Any:
    import torch
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(model, device="cpu", model_kwargs={"dtype": getattr(torch, precision)})


def classify(model: str, scratch: str, precision: str, threads: int, photo: str, labels: list[str]) -> dict[str, float]:
    import torch
    from PIL import Image

    network = _open(model, precision)
    image = network.encode([Image.open(photo)], normalize_embeddings=True, convert_to_tensor=True).float()
    texts = [f"a photo of a {label}." for label in labels]
    words = network.encode(texts, normalize_embeddings=True, convert_to_tensor=True).float()
    scale = network[0].model.logit_scale.detach().exp().float()
    probabilities = torch.softmax(scale * image @ words.T, dim=1)[0]
    return dict(zip(labels, probabilities.tolist(), strict=True))


class Peer:
    def __init__(self, model: str, scratch: str, precision: str, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        self._torch = torch
        self._model = _open(model, precision)

    def image_input(self, pixels: Any) -> Any:
        from normalising import normalised

        processor = self._model[0].processor.image_processor
        ready = self._torch.from_numpy(normalised(pixels, processor)).to(self._model[0].model.dtype)
        return {"pixel_values": ready, "modality": "image"}

    def encode_images(self, ready: Any) -> Any:
        with self._torch.inference_mode():
            return self._model(dict(ready))["sentence_embedding"].float().numpy()

    def encode_texts(self, texts: list[str]) -> Any:
        return self._model.encode(texts, batch_size=CHUNK, show_progress_bar=False)

    def embed_files(self, paths: list[str]) -> Any:
        """As its documentation does: a list of opened images to `encode`, which prepares them batch by batch."""
        from PIL import Image

        return self._model.encode([Image.open(path) for path in paths], batch_size=BATCH, show_progress_bar=False)
