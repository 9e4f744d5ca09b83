"""What processors of transformers share: batches of inputs, `from_pretrained`, `return_tensors`.

Knows checkpoints and tensors; no texts and no images.
"""

from typing import Any

from numpy.typing import NDArray

from tandem.compat import arrays, loading
from tandem.compat.loading import Source
from tandem.compat.refusals import refuse, refuse_method
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


class FromPretrained:
    """`from_pretrained` of what is made from a checkpoint."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Source = None, **options: Any) -> Any:
        """Of a folder, a name on the hub or a published model; None for the model that ships."""
        call = f"{cls.__name__}.from_pretrained"
        return cls(loading.checkpoint(loading.named(pretrained_model_name_or_path, options, call)))

    def __repr__(self) -> str:
        return f"<tandem.compat {type(self).__name__} of {self._checkpoint.source}>"

    def __getattr__(self, name: str) -> Any:
        refuse_method(self, name, _INSTEAD)


def check_kind(return_tensors: str | None) -> None:
    """Raise `NotCoveredError` for tensors of other frameworks."""
    if return_tensors not in ("pt", "np", None):
        refuse(f"return_tensors={return_tensors!r}", 'expected "pt", "np" or None')


def returned(array: NDArray[Any], return_tensors: str) -> Any:
    """An array as `return_tensors` asks for it."""
    return array if return_tensors == "np" else arrays.tensor(array)


_INSTEAD = {
    "save_pretrained": "`tandem convert MODEL FOLDER --to transformers` writes a folder",
    "push_to_hub": "`tandem convert` writes the folder; huggingface-cli uploads it",
    "decode": "tandem.Tokenizer.token_of gives the token of an id",
    "batch_decode": "tandem.Tokenizer.token_of gives the token of an id",
    "encode": "tokenizer(text).input_ids",
    "encode_plus": "call the tokenizer itself",
    "batch_encode_plus": "call the tokenizer itself",
    "tokenize": "tandem.Tokenizer.token_of gives the token of an id",
    "convert_ids_to_tokens": "tandem.Tokenizer.token_of gives the token of an id",
    "apply_chat_template": "texts of CLIP are captions",
}
