"""A loaded model: pictures and sentences in, vectors and answers out.

Joins what must match (weights, tokenizer, preprocessing, engine) and streams pictures through it. It knows no file
format (that is `weights`), no decoding (`image`) and no arithmetic of the towers (`engine`).

Shapes: n pictures or sentences, m others, d the shared dimension, c labels, k templates, t tokens, w text width.
"""

import itertools
import os
import threading
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tandem import engine as engines
from tandem import prompts, weights
from tandem.answer import Answer, Failure, softmax
from tandem.arrays import Vectors
from tandem.config import Activation, ModelConfig
from tandem.errors import EngineError, ImageError, TandemError, TextError
from tandem.image import ImageSource, Limits, decode_stream, source_name
from tandem.tokenizer import Tokenizer

SHIPPED = Path(__file__).parent / "assets" / "tandem-mini"
CACHED_LABEL_SETS = 16
SENTENCES_AT_ONCE = 8192  # given to the engine together, which sorts them by length; bounds memory for long streams

_Item = TypeVar("_Item")


def load(
    source: str | Path | None = None,
    *,
    engine: engines.EngineName = "auto",
    device: str | None = None,
    precision: engines.Precision = "auto",
    activation: Activation | None = None,
    orient: bool = True,
    limits: Limits | None = None,
) -> "Model":
    """A model with all that belongs to it.

    Args:
        source: a folder, a file, a hub name ("openai/clip-vit-base-patch32"), a published name ("ViT-B/32"); None
            for the model that ships inside.
        engine: what computes. "auto" takes torch when a CUDA or MPS device is asked for, else OpenVINO.
        device: "cpu", "gpu" (Intel's, OpenVINO), "cuda", "cuda:1", "mps" (torch).
        precision: "auto" is float32, the reference's numbers; "bfloat16" is about twice as fast where the device
            computes it natively.
        activation: for weights that do not say which they were trained with.
        orient: turn photos upright, as their EXIF data says. The original CLIP does not.
        limits: how large and how slow a picture may be.

    Raises: `HubError`, `WeightsError`, `ConfigError`, `EngineError`.
    """
    checkpoint = weights.read(SHIPPED if source is None else source, activation=activation)
    for note in checkpoint.config.notes.values():
        warnings.warn(note, stacklevel=2)
    built = engines.build(checkpoint.config, checkpoint.tensors, engine=engine, device=device, precision=precision)
    return Model(checkpoint, built, orient=orient, limits=limits or Limits())


class Model:
    """Two encoders into one space. Vectors are float32, of unit length.

    `engine` is public, for those who bring their own pixels or token ids; `config`, `tensors` and `tokenizer` are
    what it was built from.
    """

    def __init__(
        self,
        checkpoint: weights.Checkpoint,
        engine: engines.Engine,
        *,
        orient: bool = True,
        limits: Limits | None = None,
    ) -> None:
        self.checkpoint = checkpoint
        self.engine = engine
        self.orient = orient
        self.limits = limits or Limits()
        self._class_vectors: dict[tuple[tuple[str, ...], tuple[str, ...]], Vectors] = {}  # the oldest first
        self._lock = threading.Lock()

    @property
    def config(self) -> ModelConfig:
        return self.checkpoint.config

    @property
    def tensors(self) -> Mapping[str, NDArray[Any]]:
        return self.checkpoint.tensors

    @property
    def tokenizer(self) -> Tokenizer:
        return self.checkpoint.tokenizer

    @property
    def name(self) -> str:
        return self.config.name or self.checkpoint.source

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over weights, configuration, preprocessing and tokenizer: vectors compare only where it is equal."""
        return weights.fingerprint(self.checkpoint)

    @cached_property
    def logit_scale(self) -> float:
        """What a cosine is multiplied by before softmax: exp of the learned scale (about 100 in published models)."""
        return float(np.exp(np.float32(self.tensors["logit_scale"])))

    def __repr__(self) -> str:
        kind, size = type(self.config.vision).__name__, self.config.vision.image_size
        return f"<tandem.Model {self.name}: {kind} at {size} pixels, {self.config.embed_dim} dimensions>"

    # --- pictures ------------------------------------------------------------------------------------------------

    def iter_embed_images(
        self, sources: ImageSource | Iterable[ImageSource], *, batch_size: int = 32
    ) -> Iterator[tuple[int, Vectors | ImageError]]:
        """For each picture, in order: its place, and its vector [d] or the reason why it has none.

        Streams: pictures are decoded in threads ahead of the encoder, and none is kept. Memory does not grow with
        their number.
        """
        for batch in self._encoded_batches(_many(sources), batch_size):
            yield from batch

    def _encoded_batches(
        self, sources: Iterable[ImageSource], batch_size: int
    ) -> Iterator[list[tuple[int, Vectors | ImageError]]]:
        if batch_size < 1:
            raise TandemError(f"batch_size: expected at least 1, got {batch_size}")
        stream = decode_stream(
            sources, self.config.preprocessing, limits=self.limits, orient=self.orient, ahead=2 * batch_size
        )
        for batch in _batched(stream, batch_size):
            pixels = [item for _, item in batch if not isinstance(item, ImageError)]
            encoded = self.engine.encode_images(np.stack(pixels)) if pixels else self._no_vectors()  # -> [n d]
            vectors = iter(self._finite(encoded))
            # Errors are made afresh: the trace of the old one would keep the bytes of its file alive.
            yield [(index, item.renewed() if isinstance(item, ImageError) else next(vectors)) for index, item in batch]

    def embed_images(
        self,
        sources: ImageSource | Iterable[ImageSource],
        *,
        batch_size: int = 32,
        on_error: Literal["raise", "nan"] = "raise",
    ) -> Vectors:
        """Pictures -> float32 [n d] of unit length, one row each, in order; one picture gives [1 d].

        Takes paths, http(s) URLs, bytes, file objects, PIL images, arrays [h w 3], or any iterable of these.
        `on_error="raise"` stops at the first picture that cannot be read (`ImageError`). `"nan"` goes on: its row is
        NaN, so that rows stay beside their sources, and a warning names it. See `iter_embed_images` for both.
        """
        if on_error not in ("raise", "nan"):
            raise TandemError(f'on_error: expected "raise" or "nan", got {on_error!r}')
        rows: list[Vectors] = []
        failures: list[Failure] = []
        for index, item in self.iter_embed_images(sources, batch_size=batch_size):
            if not isinstance(item, ImageError):
                rows.append(item)
                continue
            if on_error == "raise":
                raise item
            failures.append(Failure(index, item))
            rows.append(np.full(self.config.embed_dim, np.nan, dtype=np.float32))
        _warn_of(failures)
        return np.stack(rows) if rows else self._no_vectors()

    # --- sentences -----------------------------------------------------------------------------------------------

    def embed_texts(self, texts: str | Iterable[str], *, truncate: bool = False) -> Vectors:
        """Sentences -> float32 [n d] of unit length, in order; one sentence gives [1 d].

        A sentence of more tokens than the model takes is a `TextError`; `truncate=True` cuts it instead.
        """
        rows = [self._no_vectors()]
        for chunk in _batched(_sentences(texts), SENTENCES_AT_ONCE):
            token_ids = self.tokenizer(chunk, self.config.text.context_length, truncate)
            rows.append(self._finite(self.engine.encode_texts(token_ids)))
        return np.concatenate(rows)

    def text_states(self, texts: str | Iterable[str], *, layer: int = -1, truncate: bool = False) -> Vectors:
        """States of every token, float32 [n t w], padded to the context length: what diffusion models are fed.

        `layer=-1`: after the last block and the final layer norm; `layer=-2`: after the last block but one, without
        the norm (as `hidden_states[-2]` of transformers); `layer=k`: after k blocks.
        """
        context, width = self.config.text.context_length, self.config.text.width
        rows = [np.empty((0, context, width), dtype=np.float32)]
        for chunk in _batched(_sentences(texts), SENTENCES_AT_ONCE):
            rows.append(self.engine.text_states(self.tokenizer(chunk, context, truncate, pad_to=context), layer))
        return np.concatenate(rows)

    def class_vectors(self, labels: Sequence[str], templates: str | Sequence[str] | None = None) -> Vectors:
        """One vector for each label, float32 [c d]: its sentences' vectors averaged (Radford et al. 2021, 3.1.4).

        The last label sets are kept, so that asking again costs nothing.
        """
        chosen = prompts.check_templates(prompts.DEFAULT_TEMPLATE if templates is None else templates)
        key = (tuple(prompts.check_labels(labels)), chosen)
        with self._lock:
            vectors = self._class_vectors.pop(key, None)
        if vectors is None:
            sentences = [sentence for label in key[0] for sentence in prompts.fill(label, chosen)]
            each = self.embed_texts(sentences).reshape(len(key[0]), len(chosen), -1)  # [c*k d] -> [c k d]
            vectors = averaged(each)
            vectors.flags.writeable = False  # it is shared with whoever asks next
        with self._lock:
            self._class_vectors[key] = vectors
            if len(self._class_vectors) > CACHED_LABEL_SETS:
                del self._class_vectors[next(iter(self._class_vectors))]
        return vectors

    # --- answers -------------------------------------------------------------------------------------------------

    def similarity(self, pictures: Vectors, sentences: Vectors) -> Vectors:
        """Cosine of every pair of two sets of vectors, [n d] and [m d] -> float32 [n m]."""
        a, b = np.atleast_2d(pictures), np.atleast_2d(sentences)
        for vectors in (a, b):
            if vectors.ndim != 2 or vectors.shape[1] != self.config.embed_dim:
                raise TandemError(
                    f"expected vectors [n {self.config.embed_dim}] of {self.name}, got an array of {vectors.shape}"
                )
        return np.asarray(a.astype(np.float32) @ b.astype(np.float32).T)

    def logits(self, pictures: Vectors, sentences: Vectors) -> Vectors:
        """Cosine times the learned scale, float32 [n m]: `logits_per_image` of other implementations."""
        return self.similarity(pictures, sentences) * np.float32(self.logit_scale)

    def probabilities(self, pictures: Vectors, sentences: Vectors) -> Vectors:
        """Softmax of the logits over the sentences, float32 [n m]."""
        return softmax(self.logits(pictures, sentences))

    def classify(
        self,
        images: ImageSource | Iterable[ImageSource],
        labels: Sequence[str],
        *,
        templates: str | Sequence[str] | None = None,
        batch_size: int = 32,
    ) -> Answer:
        """How well each label fits each picture, as probabilities over the labels.

        `templates` are sentences with `{}` for the label (default "a photo of a {}."); several are averaged
        (`tandem.prompts.ENSEMBLE` is a set of ours). Pictures that cannot be read are set aside in
        `Answer.failures`, with a warning; the others are answered.
        """
        parts = list(self.iter_classify(images, labels, templates=templates, batch_size=batch_size))
        answer = Answer.join(parts) if parts else self._answer(prompts.check_labels(labels), [], {})
        _warn_of(answer.failures)
        return answer

    def iter_classify(
        self,
        images: ImageSource | Iterable[ImageSource],
        labels: Sequence[str],
        *,
        templates: str | Sequence[str] | None = None,
        batch_size: int = 32,
    ) -> Iterator[Answer]:
        """`classify` for as many pictures as there are: an answer for each batch, as soon as it is there."""
        labels = prompts.check_labels(labels)
        classes = self.class_vectors(labels, templates)
        held = not _iterates(images) or isinstance(images, list | tuple | np.ndarray)  # by the caller, anyway
        seen: dict[int, tuple[str, ImageSource | None]] = {}

        def noted() -> Iterator[ImageSource]:
            for index, image in enumerate(_many(images)):
                keep = isinstance(image, str | os.PathLike) or (held and not hasattr(image, "read"))
                seen[index] = (source_name(image), image if keep else None)
                yield image

        for batch in self._encoded_batches(noted(), batch_size):
            yield self._answer(labels, batch, {index: seen.pop(index) for index, _ in batch}, classes)

    def _answer(
        self,
        labels: Sequence[str],
        batch: Sequence[tuple[int, Vectors | ImageError]],
        seen: Mapping[int, tuple[str, ImageSource | None]],
        classes: Vectors | None = None,
    ) -> Answer:
        good = [(index, item) for index, item in batch if not isinstance(item, ImageError)]
        logits = np.empty((0, len(labels)), dtype=np.float32)
        if good and classes is not None:
            logits = self.logits(np.stack([vector for _, vector in good]), classes)
        return Answer(
            self,
            tuple(labels),
            tuple(seen[index][0] for index, _ in good),
            logits,
            tuple(Failure(index, item) for index, item in batch if isinstance(item, ImageError)),
            tuple(seen[index][1] for index, _ in good),
        )

    def _finite(self, vectors: Vectors) -> Vectors:
        if not np.isfinite(vectors).all():
            raise EngineError(
                f"{self.name}: its vectors are not finite; the weights are damaged, or overflow in "
                f"{self.engine.precision}: try precision float32"
            )
        return vectors

    def _no_vectors(self) -> Vectors:
        return np.empty((0, self.config.embed_dim), dtype=np.float32)


def averaged(each: Vectors) -> Vectors:
    """Vectors of several sentences for each label [c k d] -> one of unit length [c d]."""
    mean = each.mean(axis=1)
    return np.asarray(mean / np.linalg.norm(mean, axis=-1, keepdims=True))


def _iterates(sources: object) -> bool:
    single = isinstance(sources, str | bytes | bytearray | memoryview | os.PathLike | Image.Image) or hasattr(
        sources, "read"
    )
    return not (single or (isinstance(sources, np.ndarray) and sources.ndim <= 3))


def _sentences(texts: str | Iterable[str]) -> Iterable[str]:
    if not isinstance(texts, Iterable):
        raise TextError(f"texts: expected a sentence or several, got {type(texts).__name__}")
    return [texts] if isinstance(texts, str) else texts


def _many(sources: ImageSource | Iterable[ImageSource]) -> Iterable[ImageSource]:
    if _iterates(sources) and not isinstance(sources, Iterable):
        raise TandemError(f"images: expected a picture or several, got {type(sources).__name__}")
    return sources if _iterates(sources) else [sources]  # type: ignore[return-value, list-item]


def _batched(items: Iterable[_Item], size: int) -> Iterator[list[_Item]]:
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, size)):
        yield batch


def _warn_of(failures: Sequence[Failure]) -> None:
    if failures:
        others = f", and {len(failures) - 1} more" if len(failures) > 1 else ""
        warnings.warn(f"set aside: {failures[0].error}{others}", stacklevel=3)
