"""`transformers.image_utils`: `load_image`, `load_images`. Knows sources of images; no models."""

from typing import Any

from PIL import Image

from tandem.compat.refusals import module_names, refuse
from tandem.image import load_image as _load

__all__ = ["load_image", "load_images"]


def load_image(image: Any, timeout: float | None = None) -> Image.Image:
    """The RGB image of a URL, a path or a PIL image, upright. Raises `ImageError` for one that cannot be read.

    timeout: taken, and left to the limits of `tandem.image`, which bound every download.
    """
    if not isinstance(image, str | Image.Image):
        refuse(f"load_image({type(image).__name__})", "expected a URL, a path or a PIL image")
    if isinstance(image, str) and image.startswith("data:"):
        refuse("load_image of a data: URL", "give tandem.image.load_image the decoded bytes")
    return _load(image).convert("RGB")


def load_images(images: Any, timeout: float | None = None) -> Any:
    """The images of a list, also of lists in it; one alone as it is."""
    if isinstance(images, list | tuple):
        return [load_images(each, timeout) for each in images]
    return load_image(images, timeout)


_find = module_names(__name__, {}, {"": "load_image and load_images are"})


def __getattr__(name: str) -> Any:
    return _find(name)
