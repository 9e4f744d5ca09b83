"""open_clip: `create_model_and_transforms` from a folder in its own format, texts padded to 77 tokens as it does.

It imports torchvision, which must be built for the torch that is installed. The one of PyPI is built for CUDA and does
not import beside a torch without it; where no other is installed, open_clip is not compared.
"""

from typing import Any

PACKAGES = ("open_clip_torch", "torchvision", "torch")
BATCH = 32
CHUNK = 64


def prepare(model: str, scratch: str, precision: str, photos: list[str], texts: list[str]) -> None:
    """Nothing but to fail at once where it cannot run. The folder that it is given afterwards is in its own format."""
    import open_clip  # noqa: F401


def _open(model: str, precision: str) -> tuple[Any, Any, Any]:
    import open_clip
    import torch

    name = f"local-dir:{model}"
    network, _, transform = open_clip.create_model_and_transforms(name)
    return network.eval().to(getattr(torch, precision)), transform, open_clip.get_tokenizer(name)


def classify(model: str, scratch: str, precision: str, threads: int, photo: str, labels: list[str]) -> dict[str, float]:
    import torch
    from PIL import Image

    network, transform, tokenizer = _open(model, precision)
    image = transform(Image.open(photo)).unsqueeze(0).to(getattr(torch, precision))
    with torch.inference_mode():
        image_vector = network.encode_image(image, normalize=True)
        texts = network.encode_text(tokenizer([f"a photo of a {label}." for label in labels]), normalize=True)
        probabilities = (network.logit_scale.exp() * image_vector @ texts.T).float().softmax(dim=-1)[0]
    return dict(zip(labels, probabilities.tolist(), strict=True))


class Peer:
    def __init__(self, model: str, scratch: str, precision: str, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        self._torch, self._threads = torch, threads
        self._model, self._transform, self._tokenizer = _open(model, precision)
        self._type = getattr(torch, precision)

    def image_input(self, pixels: Any) -> Any:
        mean, std = (self._torch.tensor(each) for each in (self._model.visual.image_mean, self._model.visual.image_std))
        ready = (self._torch.from_numpy(pixels).float() / 255 - mean) / std
        return ready.permute(0, 3, 1, 2).contiguous().to(self._type)

    def encode_images(self, ready: Any) -> Any:
        with self._torch.inference_mode():
            return self._model.encode_image(ready).float().numpy()

    def encode_texts(self, texts: list[str]) -> Any:
        chunks = [texts[i : i + CHUNK] for i in range(0, len(texts), CHUNK)]
        with self._torch.inference_mode():
            vectors = [self._model.encode_text(self._tokenizer(chunk)).float() for chunk in chunks]
        return self._torch.cat(vectors).numpy()

    def embed_files(self, paths: list[str]) -> Any:
        import numpy as np
        from torch_loading import transformed_batches

        loaded = transformed_batches(paths, self._transform, BATCH, self._threads)
        return np.concatenate([self.encode_images(pixels.to(self._type)) for pixels in loaded])
