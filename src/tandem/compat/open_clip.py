"""open_clip over Tandem's engine: `create_model_and_transforms`, `get_tokenizer`, `encode_image(..., normalize=True)`.

Names are open_clip's: an architecture with a tag of its weights, "hf-hub:org/name", "local-dir:folder"; and whatever
`tandem.load` takes.

Shapes: n images, m texts, t tokens, s pixels a side, d shared dimension.
"""

import os
from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np

from tandem.compat import arrays, loading
from tandem.compat.encoding_model import EncodingModel, Preprocess
from tandem.compat.refusals import TRAIN, check_length, check_options, module_names, refuse, refuse_method
from tandem.config import Activation
from tandem.errors import ConfigError, did_you_mean
from tandem.tokenizer import Tokenizer
from tandem.weights.architectures import architecture
from tandem.weights.published import SHIPPED, published_models

__all__ = [
    "create_model",
    "create_model_and_transforms",
    "create_model_from_pretrained",
    "get_tokenizer",
    "list_models",
    "list_pretrained",
    "list_pretrained_tags_by_model",
    "tokenize",
    "tokenizer",
]

_PRECISIONS = {
    **dict.fromkeys(("fp32", "amp", "amp_bf16", "amp_bfloat16"), "float32"),
    **dict.fromkeys(("bf16", "pure_bf16"), "bfloat16"),
    **dict.fromkeys(("fp16", "pure_fp16"), "float16"),
}
_HARMLESS = {
    **loading.HARMLESS,
    **dict.fromkeys(("jit", "force_custom_text", "pretrained_image"), False),
    **dict.fromkeys(("pretrained_hf", "require_pretrained", "load_weights_only"), ...),
    "load_weights": True,
}
_OWN_STEPS = "the preprocessing comes with the model; make other pixels yourself and encode them"
_INSTEAD = {
    **loading.INSTEAD,
    **dict.fromkeys(
        ("image_mean", "image_std", "image_interpolation", "image_resize_mode", "force_image_size"), _OWN_STEPS
    ),
    "aug_cfg": TRAIN,
    "jit": "the engine compiles by itself: jit=False",
    "force_patch_dropout": TRAIN,
    "force_quick_gelu": "name the architecture with -quickgelu",
}


def create_model(
    model_name: str,
    pretrained: str | None = None,
    precision: str = "fp32",
    device: object = "cpu",
    output_dict: bool | None = None,
    **options: Any,
) -> "CLIP":
    """The model of an architecture and a tag ("laion2b_s34b_b79k") or file of weights, or of a prefixed name.

    Raises what `tandem.load` raises, and `NotCoveredError` for an architecture without weights.
    """
    check_options("open_clip.create_model", options, _HARMLESS, _INSTEAD)
    if precision not in _PRECISIONS:
        refuse(f"precision={precision!r}", f"expected one of {', '.join(_PRECISIONS)}")
    source, activation = _source(model_name, pretrained)
    made = CLIP(loading.model(source, device=device, dtype=_PRECISIONS[precision], activation=activation))
    made.output_dict = bool(output_dict)
    return made


def create_model_and_transforms(
    model_name: str, pretrained: str | None = None, precision: str = "fp32", device: object = "cpu", **options: Any
) -> tuple["CLIP", "TrainingTransform", Preprocess]:
    """The model, its transform for training, which only refuses, and that for inference: images to tensors [3 s s]."""
    model = create_model(model_name, pretrained, precision, device, **options)
    return model, TrainingTransform(), Preprocess(model._model.checkpoint)


def create_model_from_pretrained(
    model_name: str,
    pretrained: str | None = None,
    precision: str = "fp32",
    device: object = "cpu",
    return_transform: bool = True,
    **options: Any,
) -> Any:
    """The model and its transform for inference; the model alone without `return_transform`."""
    model = create_model(model_name, pretrained, precision, device, **options)
    return (model, Preprocess(model._model.checkpoint)) if return_transform else model


class TrainingTransform:
    """Where open_clip gives the augmentation for training."""

    def __call__(self, image: Any) -> NoReturn:
        refuse("preprocess_train", f"the third value, preprocess_val, is for inference; {TRAIN}")


class CLIP(EncodingModel):
    """A model as open_clip gives it."""

    output_dict = False

    @property
    def logit_bias(self) -> Any:
        """What is added to the scaled cosines; None for a model without."""
        if not self._model.config.logit_bias:
            return None
        return arrays.tensor(np.array(self._model.logit_bias, np.float32))

    def encode_image(self, image: Any, normalize: bool = False) -> Any:
        """Preprocessed images [n 3 s s] -> [n d]."""
        return self._images(image, normalize)

    def encode_text(self, text: Any, normalize: bool = False) -> Any:
        """Token ids of `get_tokenizer` [m t] -> [m d]."""
        return self._texts(text, normalize)

    def get_logits(self, image: Any, text: Any) -> tuple[Any, Any]:
        """The logits per image [n m] and per text [m n]."""
        logits = self._model.logits(self._image_vectors(image), self._text_vectors(text))
        return arrays.tensor(logits, like=image), arrays.tensor(np.ascontiguousarray(logits.T), like=image)

    def __call__(self, image: Any = None, text: Any = None) -> Any:
        """Vectors of unit length [n d] and [m d], and the factor of cosines; then the bias, where there is one.

        A dict of them where the model was created with `output_dict=True`.
        """
        found = {
            "image_features": None if image is None else self.encode_image(image, normalize=True),
            "text_features": None if text is None else self.encode_text(text, normalize=True),
            "logit_scale": self.logit_scale.exp(),
        }
        if self.logit_bias is not None:
            found["logit_bias"] = self.logit_bias
        return found if self.output_dict else tuple(found.values())

    forward = __call__


class _Tokenize:
    """Called with texts it gives token ids int64 [n t], cut and padded to the context length."""

    def __init__(self, tokenizer: Tokenizer, context_length: int) -> None:
        self._tokenizer = tokenizer
        self.context_length = context_length
        self.vocab_size = tokenizer.vocabulary_size

    def __call__(self, texts: str | Sequence[str], context_length: int | None = None) -> Any:
        length = context_length or self.context_length
        check_length("context_length", length)
        return arrays.tensor(self._tokenizer(texts, length, truncate=True, pad_to=length).astype(np.int64))

    def __getattr__(self, name: str) -> Any:
        refuse_method(self, name, dict.fromkeys(("encode", "decode"), "tandem.Tokenizer.encode and token_of"))


def get_tokenizer(model_name: str = "", context_length: int | None = None, **options: Any) -> _Tokenize:
    """The tokenizer of an architecture or a prefixed name.

    CLIP's own needs no files; any other comes with the weights, which are downloaded for it where they are missing.
    """
    check_options("open_clip.get_tokenizer", options, _HARMLESS, _INSTEAD)
    known = _architecture(model_name)
    if not model_name or (known is not None and _has_clips_vocabulary(known)):
        return _Tokenize(Tokenizer.clip(), context_length or (known.text.context_length if known else 77))
    read = loading.checkpoint(_source(model_name, None, needs_weights=False)[0])
    return _Tokenize(read.tokenizer, context_length or read.config.text.context_length)


def tokenize(texts: str | Sequence[str], context_length: int = 77) -> Any:
    """Token ids int64 [n t] of CLIP's vocabulary, cut and padded with 0."""
    return _Tokenize(Tokenizer.clip(), context_length)(texts)


class _TokenizerModule:
    """What scripts take from `open_clip.tokenizer`."""

    tokenize = staticmethod(tokenize)

    def __getattr__(self, name: str) -> Any:
        refuse_method(self, name, dict.fromkeys((name,), "get_tokenizer and tandem.Tokenizer are"))


tokenizer = _TokenizerModule()


def list_models() -> list[str]:
    """The architectures of published models that Tandem knows."""
    return sorted({model.architecture for model in published_models() if model.architecture})


def list_pretrained(as_str: bool = False) -> list[Any]:
    """(architecture, tag) of the published models that Tandem knows; "architecture:tag" with `as_str`."""
    names = (name for model in published_models() for name in (model.name, *model.aliases))
    pairs = dict.fromkeys(tuple(name.split("/", 1)) for name in names if _is_tagged(name))
    return [":".join(pair) if as_str else pair for pair in pairs]


def list_pretrained_tags_by_model(model: str) -> list[str]:
    """The tags of an architecture."""
    return [tag for architecture, tag in list_pretrained() if architecture == model]


def _is_tagged(name: str) -> bool:
    """Whether it is an architecture and a tag: OpenAI's "ViT-B/32" and names of the hub have a slash, too."""
    before, _, tag = name.partition("/")
    return bool(tag) and (tag == "openai" or _architecture(before) is not None)


def _source(model_name: str, pretrained: str | None, needs_weights: bool = True) -> tuple[str, Activation | None]:
    """What `tandem.load` takes for open_clip's names, and the activation that the architecture's name says."""
    if not isinstance(model_name, str | os.PathLike) or not isinstance(pretrained, str | os.PathLike | None):
        wrong = pretrained if isinstance(model_name, str | os.PathLike) else model_name
        refuse(f"a model named {wrong!r:.60}", "expected strings: an architecture and a tag or file of its weights")
    name, pretrained = str(model_name), os.fspath(pretrained) if pretrained else None
    if name.startswith(("local-dir:", "hf-hub:")) or name in SHIPPED or os.path.exists(name):
        if pretrained:
            refuse(f"pretrained={pretrained!r:.60} of {name!r:.60}", "this name has weights of its own: leave it out")
        return name.removeprefix("local-dir:"), None
    name = name.replace("/", "-")
    known = _architecture(name)
    if pretrained and os.path.exists(pretrained):
        return pretrained, known.activation if known else None
    tags = list_pretrained_tags_by_model(name)
    if not pretrained:
        if needs_weights and tags:
            refuse(f"{model_name!r} without pretrained=, random weights", f"expected one of {', '.join(tags)}; {TRAIN}")
        return (f"{name}/{tags[0]}" if tags else model_name), None
    if tags and pretrained not in tags:
        expected = f"expected one of {', '.join(tags)}, or a file{did_you_mean(pretrained, tags)}"
        refuse(f"pretrained={pretrained!r} of {model_name!r}", expected)
    return f"{name}/{pretrained}", None


def _architecture(name: str) -> Any:
    """Its configuration; None for one that is not known. Those of ResNets are known by their -quickgelu names."""
    for each in (name, f"{name}-quickgelu") if name.startswith("RN") else (name,):
        try:
            return architecture(each)
        except ConfigError:
            continue
    return None


def _has_clips_vocabulary(config: Any) -> bool:
    text = config.text
    return bool(text.vocabulary_size == Tokenizer.clip().vocabulary_size and getattr(text, "cleaning", "") == "clip")


_find = module_names(
    __name__,
    {},
    {
        "ClipLoss": TRAIN,
        "SigLipLoss": TRAIN,
        "CoCa": "tandem.load reads what docs/families.md lists",
        "SimpleTokenizer": "get_tokenizer and tandem.Tokenizer are",
        "HFTokenizer": "get_tokenizer is",
        "image_transform": "the transforms come with the model",
        "load_checkpoint": "create_model(name, pretrained=file) is",
        "build_zero_shot_classifier": "tandem.load(...).class_vectors gives the vectors of labels",
        "IMAGENET_CLASSNAMES": "`tandem evaluate` measures zero-shot accuracy",
        "OPENAI_IMAGENET_TEMPLATES": "tandem.prompts.ENSEMBLE is a set of templates",
        "get_model_config": "tandem.ModelConfig describes models",
        "trace_model": "`tandem convert --to onnx` writes graphs",
        "push_to_hf_hub": "`tandem convert` writes the folder; huggingface-cli uploads it",
    },
)


def __getattr__(name: str) -> Any:
    return _find(name)
