"""Image processors as transformers has them: images to `pixel_values`, with its very numbers.

Images are resized by Pillow, as transformers does without torchvision; with it, its values differ by a level of a
pixel here and there.

Shapes: n images, s pixels a side.
"""

import os
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tandem.compat import loading, tensors
from tandem.compat.refusals import check_options, refuse
from tandem.compat.transformers.batches import BatchFeature, FromPretrained, check_kind, returned
from tandem.image import load_image
from tandem.pixels import as_rgb, preprocess


class CLIPImageProcessor(FromPretrained):
    """Images to `pixel_values` float32 [n 3 s s]: converted to RGB on white, resized, cropped, normalised."""

    model_input_names = ("pixel_values",)

    @property
    def size(self) -> dict[str, int]:
        side = self._checkpoint.config.preprocessing.image_size
        shortest = self._checkpoint.config.preprocessing.resize_mode == "shortest"
        return {"shortest_edge": side} if shortest else {"height": side, "width": side}

    @property
    def crop_size(self) -> dict[str, int]:
        side = self._checkpoint.config.preprocessing.image_size
        return {"height": side, "width": side}

    @property
    def image_mean(self) -> list[float]:
        return list(self._checkpoint.config.preprocessing.mean)

    @property
    def image_std(self) -> list[float]:
        return list(self._checkpoint.config.preprocessing.std)

    def __call__(self, images: Any, return_tensors: str | None = None, **options: Any) -> BatchFeature:
        """Of PIL images, arrays uint8, paths or URLs, one or several.

        Raises `ImageError` for one that cannot be read.
        """
        check_options(type(self).__name__, options, _IMAGE_HARMLESS, _IMAGE_INSTEAD)
        check_kind(return_tensors)
        pixels = [self._values(image) for image in _several(images)]
        if not pixels:
            refuse("no images", "expected an image or several")
        if return_tensors is None:
            return BatchFeature(pixel_values=pixels)
        return BatchFeature(pixel_values=returned(np.stack(pixels), return_tensors))

    preprocess = __call__

    def _values(self, image: Any) -> NDArray[np.float32]:
        preprocessing = self._checkpoint.config.preprocessing
        return loading.normalised(preprocess(_rgb(image), preprocessing, floor_crop=True), self._checkpoint)


def _several(images: Any) -> Iterable[Any]:
    single = isinstance(images, Image.Image | str | os.PathLike) or getattr(images, "ndim", 4) < 4
    if not single and not isinstance(images, Iterable):
        refuse(f"images={images!r:.60}", "expected PIL images, arrays uint8, paths or URLs")
    return [images] if single else images


def _rgb(image: Any) -> Image.Image:
    """As transformers makes it: what is transparent lies on white. Files and addresses are turned upright."""
    if isinstance(image, str | os.PathLike):
        image = load_image(image)  # type: ignore[arg-type]
    elif not isinstance(image, Image.Image):
        image = _from_array(tensors.numbers(image, "images"))
    if "A" in image.getbands() or image.info.get("transparency") is not None:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return as_rgb(image)


def _from_array(array: NDArray[Any]) -> Image.Image:
    """uint8 [h w], [h w c] or [c h w] with c of 1, 3 or 4."""
    if array.dtype != np.uint8:
        refuse(f"images of {array.dtype}", "expected PIL images, or arrays uint8 in 0..255")
    if array.ndim == 3 and array.shape[-1] not in (1, 3, 4) and array.shape[0] in (1, 3, 4):
        array = np.moveaxis(array, 0, -1)
    return load_image(np.ascontiguousarray(array))


_OWN_STEPS = "the model's own preprocessing is applied; make the pixels yourself and give the model pixel_values"
_IMAGE_HARMLESS: Mapping[str, Any] = {
    "do_resize": True,
    "do_center_crop": ...,
    "do_rescale": True,
    "do_normalize": True,
    "do_convert_rgb": True,
    "device": "cpu",
    "padding": ...,
    "truncation": ...,
}
_IMAGE_INSTEAD = dict.fromkeys(
    ("size", "crop_size", "resample", "image_mean", "image_std", "do_resize", "do_rescale", "do_normalize"), _OWN_STEPS
)
