"""Processors as transformers has them: texts to `input_ids`, images to `pixel_values`, with its very numbers.

Images are resized by Pillow, as transformers does without torchvision; with it, its values differ by a level of a
pixel here and there. Knows tokenizers and pixels; no engine.

Shapes: n images or texts, t tokens, s pixels a side.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tandem.compat import arrays, loading, tensors
from tandem.compat.loading import Source
from tandem.compat.refusals import check_options, refuse, refuse_method
from tandem.errors import TextError
from tandem.image import load_image
from tandem.pixels import as_rgb, preprocess
from tandem.weights import Checkpoint


class BatchFeature(dict[str, Any]):
    """Inputs of a model by name, also as attributes: `**inputs`, `inputs.pixel_values`, `inputs.to("cuda")`."""

    def __getattr__(self, name: str) -> Any:
        if name in self:
            return self[name]
        raise AttributeError(f"no {name!r} among {', '.join(self)}")

    @property
    def data(self) -> dict[str, Any]:
        return self

    def to(self, *args: Any, **kwargs: Any) -> "BatchFeature":
        """On another device, or numbers with a fraction in another type. Changes and returns the batch."""
        typed = [arg for arg in args if not isinstance(arg, str | int) and "." in str(arg)] or kwargs.get("dtype")
        for name, value in self.items():
            if not hasattr(value, "to") or (typed and "float" not in str(value.dtype)):
                continue
            self[name] = value.to(*args, **kwargs)
        return self


BatchEncoding = BatchFeature


class _FromPretrained:
    """`from_pretrained` of what is made from a checkpoint."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Source = None, **options: Any) -> Any:
        """Of a folder, a name on the hub or a published model; None for the model that ships."""
        call = f"{cls.__name__}.from_pretrained"
        return cls(loading.checkpoint(loading.named(pretrained_model_name_or_path, options, call)))

    def __getattr__(self, name: str) -> Any:
        refuse_method(self, name, _INSTEAD)


class CLIPTokenizer(_FromPretrained):
    """Texts to token ids. Called with texts it gives `input_ids` and `attention_mask` [n t]."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        self._tokenizer = checkpoint.tokenizer.as_read_from_json()
        self._text = checkpoint.config.text
        # SigLIP attends to its padding: its tokenizers give no mask
        self.model_input_names = ["input_ids"] if self._text.fixed_length else ["input_ids", "attention_mask"]

    @property
    def model_max_length(self) -> int:
        return self._text.context_length

    @property
    def vocab_size(self) -> int:
        return self._tokenizer.vocabulary_size

    @property
    def bos_token_id(self) -> int | None:
        return self._tokenizer.start_id

    @property
    def eos_token_id(self) -> int | None:
        return self._tokenizer.end_id

    @property
    def pad_token_id(self) -> int:
        return self._tokenizer.pad_id

    def __call__(
        self,
        text: str | Sequence[str] | None = None,
        *,
        padding: bool | str = False,
        truncation: bool | str | None = None,
        max_length: int | None = None,
        return_tensors: str | None = None,
        return_attention_mask: bool | None = None,
        **options: Any,
    ) -> BatchFeature:
        """`input_ids` and `attention_mask`, lists or, by `return_tensors`, tensors ("pt") or arrays ("np") [n t].

        padding: to the longest text (True), or to `max_length`, by default the model's. Raises `TextError` for a text
        of more tokens than the model reads, without `truncation`.
        """
        check_options(type(self).__name__, options, _TEXT_HARMLESS, _TEXT_INSTEAD)
        _check_kind(return_tensors)
        ids = self._ids(text, truncation, max_length)
        if padding not in (True, False, "longest", "max_length", "do_not_pad"):
            refuse(f"padding={padding!r}", 'expected True, False, "longest", "max_length" or "do_not_pad"')
        to = max(map(len, ids), default=0) if padding in (True, "longest") else 0
        to = (max_length or self.model_max_length) if padding == "max_length" else to
        mask = [[1] * len(row) + [0] * (to - len(row)) for row in ids]
        ids = [row + [self.pad_token_id] * (to - len(row)) for row in ids]
        batch: dict[str, Any] = {"input_ids": ids, "attention_mask": mask}
        wanted = "attention_mask" in self.model_input_names if return_attention_mask is None else return_attention_mask
        if not wanted:
            del batch["attention_mask"]
        if isinstance(text, str) and return_tensors is None:
            return BatchFeature({name: rows[0] for name, rows in batch.items()})
        if return_tensors is not None and len(set(map(len, ids))) > 1:
            raise TextError("texts of different lengths make no tensor: padding=True pads them to the longest")
        return BatchFeature(
            {name: _returned(np.array(rows, np.int64), return_tensors) if return_tensors else rows
             for name, rows in batch.items()}
        )  # fmt: skip

    def _ids(self, text: Any, truncation: bool | str | None, max_length: int | None) -> list[list[int]]:
        texts = [text] if isinstance(text, str) else list(text or ())
        if not texts:
            raise TextError("expected a text or several, got none")
        if truncation not in (None, True, False, "longest_first", "do_not_truncate"):
            refuse(f"truncation={truncation!r}", "expected True or False")
        cuts = truncation in (True, "longest_first")
        limit = min(max_length, self.model_max_length) if cuts and max_length else self.model_max_length
        room = self._tokenizer.room(limit)
        start, end = self.bos_token_id, self.eos_token_id
        found = []
        for row, each in zip(self._tokenizer.encode(texts), texts, strict=True):
            if len(row) > room and not cuts:
                raise TextError(
                    f"the text {each[:40]!r} has {len(row) + self._tokenizer.format.added} tokens; the model reads "
                    f"{limit}: shorten it, or cut it with truncation=True"
                )
            first, last = ([] if token is None else [token] for token in (start, end))
            found.append([*first, *row[:room], *last])
        return found


class CLIPImageProcessor(_FromPretrained):
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
        _check_kind(return_tensors)
        pixels = [self._values(image) for image in _several(images)]
        if not pixels:
            refuse("no images", "expected an image or several")
        if return_tensors is None:
            return BatchFeature(pixel_values=pixels)
        return BatchFeature(pixel_values=_returned(np.stack(pixels), return_tensors))

    preprocess = __call__

    def _values(self, image: Any) -> NDArray[np.float32]:
        preprocessing = self._checkpoint.config.preprocessing
        return loading.normalised(preprocess(_rgb(image), preprocessing, floor_crop=True), self._checkpoint)


class CLIPProcessor(_FromPretrained):
    """Texts and images to inputs of a model: `processor(text=..., images=..., return_tensors="pt", padding=True)`."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        self.tokenizer = CLIPTokenizer(checkpoint)
        self.image_processor = CLIPImageProcessor(checkpoint)

    def __call__(
        self, *inputs: Any, text: Any = None, images: Any = None, return_tensors: str | None = None, **options: Any
    ) -> BatchFeature:
        """`input_ids` and `attention_mask` of texts, `pixel_values` of images; the options are the tokenizer's.

        By position either may come first: transformers 5 has images there, 4 had texts.
        """
        for each in inputs:
            if _are_texts(each):
                text = each
            else:
                images = each
        if text is None and images is None:
            refuse("a processor without text= and images=", "give one of them, or both")
        found = BatchFeature()
        if text is not None:
            found |= self.tokenizer(text, return_tensors=return_tensors, **options)
            options = {}
        if images is not None:
            found |= self.image_processor(images, return_tensors=return_tensors, **options)
        return found


class AutoProcessor(CLIPProcessor):
    """The processor of any model."""


class SiglipProcessor(CLIPProcessor):
    """The processor of SigLIP. Its texts are padded to the model's length: `padding="max_length"`."""


CLIPTokenizerFast = AutoTokenizer = SiglipTokenizer = CLIPTokenizer
CLIPImageProcessorFast = AutoImageProcessor = SiglipImageProcessor = CLIPImageProcessor


def _check_kind(return_tensors: str | None) -> None:
    if return_tensors not in ("pt", "np", None):
        refuse(f"return_tensors={return_tensors!r}", 'expected "pt", "np" or None')


def _returned(array: NDArray[Any], return_tensors: str) -> Any:
    return array if return_tensors == "np" else arrays.tensor(array)


def _are_texts(value: Any) -> bool:
    """Whether they are texts rather than images, which strings name, too."""
    first = next(iter(value), None) if isinstance(value, list | tuple) else value
    return isinstance(first, str) and not _names_image(first)


def _names_image(text: str) -> bool:
    return text.startswith(("http://", "https://")) or os.path.isfile(text)


def _several(images: Any) -> Iterable[Any]:
    single = isinstance(images, Image.Image | str | os.PathLike) or getattr(images, "ndim", 4) < 4
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


_TEXT_HARMLESS = {
    "add_special_tokens": True,
    "return_token_type_ids": False,
    "padding_side": "right",
    "is_split_into_words": False,
    "verbose": ...,
    "do_convert_rgb": ...,
}
_TEXT_INSTEAD = {
    "text_pair": "a text at a time",
    "text_target": "a text at a time",
    "stride": "model.embed_texts(..., long='split') of tandem.load reads long texts in parts",
    "return_overflowing_tokens": "model.embed_texts(..., long='split') of tandem.load reads long texts in parts",
    "return_offsets_mapping": "tandem.Tokenizer gives ids alone",
}
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
_INSTEAD = {
    "save_pretrained": "`tandem convert MODEL FOLDER --to transformers` writes a folder",
    "push_to_hub": "`tandem convert` writes the folder; huggingface-cli uploads it",
    "decode": "tandem.Tokenizer.token_of gives the token of an id",
    "batch_decode": "tandem.Tokenizer.token_of gives the token of an id",
    "apply_chat_template": "texts of CLIP are captions",
}
