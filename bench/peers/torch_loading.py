"""Files to batches of pixels by a torch `DataLoader`, whose worker processes decode and resize while others compute."""

from collections.abc import Callable, Iterator
from typing import Any

from PIL import Image
from torch.utils.data import DataLoader, Dataset


class Photos(Dataset[Any]):
    def __init__(self, paths: list[str], transform: Callable[[Image.Image], Any]) -> None:
        self._paths, self._transform = paths, transform

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> Any:
        with Image.open(self._paths[index]) as image:
            return self._transform(image.convert("RGB"))


class Processed:
    """An image processor of transformers as a function of one image."""

    def __init__(self, processor: Any) -> None:
        self._processor = processor

    def __call__(self, image: Image.Image) -> Any:
        return self._processor(images=image, return_tensors="pt")["pixel_values"][0]


def batches(paths: list[str], processor: Any, batch: int, workers: int) -> Iterator[Any]:
    """float32 [n 3 h w], in order, as an image processor of transformers makes them."""
    return transformed_batches(paths, Processed(processor), batch, workers)


def transformed_batches(
    paths: list[str], transform: Callable[[Image.Image], Any], batch: int, workers: int
) -> Iterator[Any]:
    return iter(DataLoader(Photos(paths, transform), batch_size=batch, num_workers=workers))
