"""The `SentenceTransformer` of CLIP: images and texts to vectors.

Images and texts are prepared as transformers does, and vectors are not of unit length unless that is asked for, as
there. Knows names, batches and cosines; the towers are those of `tandem.compat.transformers`.

Shapes: n inputs, d shared dimension.
"""

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tandem.arrays import Vectors
from tandem.compat import arrays, loading
from tandem.compat.loading import Source
from tandem.compat.refusals import TRAIN, check_options, refuse, refuse_method
from tandem.compat.sentence_transformers.util import cos_sim, pairwise_cos_sim, unit
from tandem.compat.transformers.modelling import CLIPModel
from tandem.compat.transformers.processing import CLIPProcessor
from tandem.errors import WeightsError
from tandem.prefetch import batched
from tandem.progress import Progress

# Its repositories hold OpenAI's weights, in a folder of their own
_NAMES = {
    "clip-ViT-B-32": "openai/clip-vit-base-patch32",
    "clip-ViT-B-16": "openai/clip-vit-base-patch16",
    "clip-ViT-L-14": "openai/clip-vit-large-patch14",
}
_EXPECTED = "expected texts, PIL images, or paths or URLs of images"
_SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".tiff", ".webp")
_HARMLESS = {
    **loading.HARMLESS,
    "similarity_fn_name": ("cosine", "cos_sim"),
    "prompts": {},
    "backend": "torch",
    "output_value": "sentence_embedding",
    "precision": "float32",
    "task": ...,
}
_INSTEAD = {
    **loading.INSTEAD,
    "cache_folder": loading.INSTEAD["cache_dir"],
    "modules": "a folder, a name on the hub or a published model is loaded",
    "backend": "the engine is OpenVINO; leave it out",
    "precision": "tandem collections keep vectors in int8 or float16 by themselves; float32 comes from encode",
    "output_value": "tandem.load(...).text_states gives the states of tokens",
    "pool": "the engine uses every core: one process is enough",
    "prompt": "put it into the texts",
    "prompt_name": "put the prompt into the texts",
    "prompts": "put them into the texts",
    "similarity_fn_name": "cosines are what these models are trained for",
    "model_kwargs": "leave it out",
}
_METHODS = {
    **dict.fromkeys(("fit", "train", "parameters", "old_fit"), TRAIN),
    "start_multi_process_pool": "the engine uses every core: one process is enough",
    "encode_multi_process": "encode uses every core",
    "save": "`tandem convert MODEL FOLDER --to tandem` writes a folder",
    "save_pretrained": "`tandem convert MODEL FOLDER --to transformers` writes a folder",
    "push_to_hub": "`tandem convert` writes the folder; huggingface-cli uploads it",
    "evaluate": "`tandem evaluate` measures retrieval and zero-shot accuracy",
}


class SentenceTransformer:
    """Images and texts to vectors of one space."""

    def __init__(
        self,
        model_name_or_path: Source = None,
        *,
        device: object = None,
        truncate_dim: int | None = None,
        **options: Any,
    ) -> None:
        """Of "clip-ViT-B-32" and its kin, or whatever `tandem.load` takes; None for the model that ships."""
        source = loading.named(_located(model_name_or_path), _without_defaults(options), "SentenceTransformer")
        self._clip = CLIPModel(loading.model(source, device=device))
        self._processor = CLIPProcessor(self._clip._model.checkpoint)
        self.truncate_dim = truncate_dim

    @property
    def tokenizer(self) -> Any:
        return self._processor.tokenizer

    @property
    def device(self) -> Any:
        return self._clip.device

    @property
    def max_seq_length(self) -> int:
        return self._processor.tokenizer.model_max_length

    def get_sentence_embedding_dimension(self) -> int:
        """d"""
        return self.truncate_dim or self._clip._model.config.embed_dim

    get_embedding_dimension = get_sentence_embedding_dimension

    def to(self, device: object) -> "SentenceTransformer":
        self._clip.to(device)
        return self

    def eval(self) -> "SentenceTransformer":
        return self

    def encode(
        self,
        inputs: Any = None,
        *,
        sentences: Any = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        device: object = None,
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
        **options: Any,
    ) -> Any:
        """Vectors float32 [n d] of images and texts, in order; [d] of a single one.

        Images are PIL images, and paths or URLs that end as images do; other strings are texts, cut to what the model
        reads. An array, unless `convert_to_tensor`, or a list of tensors without `convert_to_numpy`.
        """
        inputs = sentences if inputs is None else inputs
        if isinstance(batch_size, bool) or not isinstance(batch_size, int | np.integer) or batch_size < 1:
            refuse(f"encode(batch_size={batch_size!r:.60})", "expected a whole number of at least 1")
        check_options("encode", options, _HARMLESS, _INSTEAD)
        if device is not None:
            self.to(device)
        single = isinstance(inputs, str | os.PathLike | Image.Image)
        if not single and (isinstance(inputs, bytes) or not isinstance(inputs, Iterable)):
            refuse(f"encode({type(inputs).__name__})", _EXPECTED)
        several: list[Any] = [inputs] if single else list(inputs)
        rows: list[Vectors] = []
        with Progress(len(several), show=bool(show_progress_bar), label="encoding", unit="input") as bar:
            for batch in batched(several, batch_size):
                rows.append(self._vectors(batch))
                bar.advance(len(batch))
        vectors = np.concatenate(rows) if rows else np.empty((0, self._clip._model.config.embed_dim), np.float32)
        vectors = vectors[:, : truncate_dim or self.truncate_dim]
        if normalize_embeddings:
            vectors = unit(vectors)
        found = vectors[0] if single else vectors
        if convert_to_tensor:
            return arrays.tensor(found)
        if not convert_to_numpy:
            return arrays.tensor(found) if single else [arrays.tensor(row) for row in found]
        return np.ascontiguousarray(found)

    encode_query = encode_document = encode

    def _vectors(self, batch: Sequence[Any]) -> Vectors:
        """[n d], images and texts each as one batch."""
        images = [number for number, each in enumerate(batch) if _is_image(each)]
        texts = [number for number, each in enumerate(batch) if not _is_image(each)]
        vectors = np.empty((len(batch), self._clip._model.config.embed_dim), np.float32)
        if images:
            pixels = self._processor.image_processor([batch[number] for number in images], return_tensors="np")
            vectors[images] = self._clip.get_image_features(**pixels).numpy()
        if texts:
            padding = "max_length" if self._clip._model.config.text.fixed_length else True
            words = self._processor.tokenizer(
                [batch[number] for number in texts], padding=padding, truncation=True, return_tensors="np"
            )
            vectors[texts] = self._clip.get_text_features(**words).numpy()
        return vectors

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Any:
        """The cosine of every pair of vectors [n m]."""
        return cos_sim(embeddings1, embeddings2)

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Any:
        """The cosine of each vector with that beside it [n]."""
        return pairwise_cos_sim(embeddings1, embeddings2)

    def __getattr__(self, name: str) -> Any:
        refuse_method(self, name, _METHODS)


def _located(source: Source) -> Source:
    """The folder or name of the CLIP in one of sentence-transformers."""
    if source is None:
        return None
    name = os.fspath(source)
    short = name.removeprefix("sentence-transformers/")
    if short in _NAMES and not os.path.exists(name):
        found: Source = _NAMES[short]
        return found
    if "multilingual" in short and short.startswith("clip-ViT"):
        refuse(repr(name), "xlm-roberta-base-ViT-B-32 and SigLIP 2 read many languages (docs/choose-a-model.md)")
    listed = Path(name) / "modules.json"
    if not listed.is_file():
        return source
    try:
        modules = json.loads(listed.read_text(encoding="utf-8"))
        first = str(modules[0]["path"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise WeightsError(f"{listed}: expected a list of modules with paths: {error}") from None
    if len(modules) != 1:
        refuse(f"{name} with modules after the first", "its one module must be a CLIP")
    return Path(name) / first


def _without_defaults(options: dict[str, Any]) -> dict[str, Any]:
    check_options("SentenceTransformer", options, {**_HARMLESS, "revision": ...}, _INSTEAD)
    return {name: value for name, value in options.items() if name == "revision"}


def _is_image(value: Any) -> bool:
    if not isinstance(value, str):
        if not isinstance(value, os.PathLike | Image.Image) and not hasattr(value, "ndim"):
            refuse(f"encode({type(value).__name__})", _EXPECTED)
        return True
    if value.startswith(("http://", "https://")) and " " not in value:
        return value.partition("?")[0].lower().endswith(_SUFFIXES)
    return value.lower().endswith(_SUFFIXES) and os.path.isfile(value)
