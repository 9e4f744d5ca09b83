"""A loaded model: images and texts in, vectors and answers out.

Joins what must match (weights, tokenizer, preprocessing, engine) and streams images through it. It knows no file
format (that is `weights`), no decoding (`image`) and no arithmetic of the towers (`engine`).

Shapes: n images or texts, m others, d the shared dimension, c labels, k templates, t tokens, w text width.
"""

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from tandem import engine as engines
from tandem import precisions, prompts, version, weights
from tandem.answer import Failure
from tandem.arrays import Vectors
from tandem.class_vectors import ClassVectors
from tandem.classifying import Classifier, warn_of
from tandem.config import Activation, ModelConfig
from tandem.defaults import BATCH_SIZE, LongTexts
from tandem.encoding import Encoder
from tandem.errors import ImageError, TandemError, WeightsError
from tandem.image import SIZE_MARGIN, ImageSource, Limits, decode_stream, many
from tandem.image_states import ImageBackbone
from tandem.localization.localizer import Localizer
from tandem.long_texts import check_long, embed_split
from tandem.prefetch import batched
from tandem.progress import Progress, count_of
from tandem.tokenizer import Tokenizer
from tandem.weights.published import reads_english_only

SHIPPED = Path(__file__).parent / "assets" / "tandem-mini"
PROMPTS_ON_DISK, MANY_PROMPTS = 64, 1024  # whose class vectors are kept: by a model whose fingerprint is known, or not
BATCH_TEXTS = 8192  # passed to the engine at once, which sorts them by length; bounds memory for long streams


def load(
    source: str | Path | None = None,
    *,
    engine: engines.EngineName = "auto",
    device: str | None = None,
    precision: engines.Precision = "auto",
    activation: Activation | None = None,
    orient: bool = True,
    limits: Limits | None = None,
    allow_quantized: bool = False,
) -> "Model":
    """Load a model with its tokenizer, preprocessing and engine.

    Args:
        source: a folder, a file, a hub name ("openai/clip-vit-base-patch32"), a published name ("ViT-B/32"); None
            for the model that ships with Tandem.
        engine: "auto" takes torch for CUDA and MPS devices, else OpenVINO.
        device: "cpu", "gpu" (Intel's, OpenVINO), "cuda", "cuda:1", "mps" (torch).
        precision: "float32" gives the reference's numbers; "bfloat16" is about twice as fast where the device
            computes it natively. "auto" is float32, int8 for a quantised model, or what `tandem models --explain` has
            measured to be the fastest on this machine for the same weights.
        activation: for weights that do not state which one they were trained with.
        orient: turn photos upright, as their EXIF data says. The original CLIP does not.
        limits: how large and how slow an image may be.
        allow_quantized: let "auto" load a quantised model of this one where that was measured to be faster. Its
            fingerprint is another: not for vectors that are kept or compared with others, nor for heads.

    Raises: `HubError`, `WeightsError`, `ConfigError`, `EngineError`.
    """
    source = SHIPPED if source is None else source
    if precision == "auto" and engine != "torch" and device in (None, "cpu"):
        checkpoint, chosen = precisions.resolve(source, activation=activation, allow_quantized=allow_quantized)
        precision = cast(engines.Precision, chosen)
    else:
        checkpoint = weights.read(source, activation=activation)
    if precision == "int8":
        precisions.name_quantised(checkpoint)
    for note in checkpoint.config.notes.values():
        warnings.warn(note, stacklevel=2)
    built = engines.build(checkpoint.config, checkpoint.tensors, engine=engine, device=device, precision=precision)
    return Model(checkpoint, built, orient=orient, limits=limits or Limits())


class Model(Encoder, Classifier, ImageBackbone, Localizer):
    """Two encoders into one space. Vectors are float32, of unit length.

    `engine` is public, for callers with their own pixels or token ids; it was built from `config`, `tensors` and
    `tokenizer`.
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
        self._class_vectors = ClassVectors()

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
        """SHA-256 over weights, configuration, preprocessing and tokenizer. Vectors compare only where it is equal."""
        return weights.fingerprint(self.checkpoint)

    def __copy__(self) -> "Model":
        """A new object that shares the weights and the engine."""
        new = object.__new__(type(self))
        new.__dict__.update(self.__dict__)
        new.__dict__.pop("_locator", None)  # it asks the model that it was made for
        return new

    def __deepcopy__(self, memo: dict[int, Any]) -> "Model":
        return self.__copy__()  # weights are never written to

    def __reduce__(self) -> tuple[Callable[..., "Model"], tuple[Any, ...]]:
        """Pickle the source instead of the weights; unpickling loads it again and compares the fingerprint."""
        if self.engine.name not in ("openvino", "torch"):
            raise TandemError(f"{self.name}: a model with a custom engine ({self.engine.name}) cannot be pickled")
        source: str | None = self.checkpoint.source
        if source is not None and os.path.exists(source):
            source = None if os.path.samefile(source, SHIPPED) else os.path.abspath(source)
        options = {
            "engine": self.engine.name,
            "device": self.engine.device.lower(),
            "precision": self.engine.precision,
            "activation": self.config.activation,
            "orient": self.orient,
            "limits": self.limits,
        }
        return _load_again, (source, self.fingerprint, options)

    def __repr__(self) -> str:
        kind, size = type(self.config.vision).__name__, self.config.vision.image_size
        return f"<tandem.Model {self.name}: {kind} at {size} pixels, {self.config.embed_dim} dimensions>"

    # --- images ------------------------------------------------------------------------------------------------

    def iter_embed_images(
        self, sources: ImageSource | Iterable[ImageSource], *, batch_size: int = BATCH_SIZE, fast_decode: bool = False
    ) -> Iterator[tuple[int, Vectors | ImageError]]:
        """Yield, for each image in order, its index and its vector [d], or the `ImageError` of an unreadable one.

        Streams: images are decoded in threads ahead of the encoder, and none is kept. Memory does not grow with
        their number. `fast_decode`: see `embed_images`.
        """
        for batch in self._encoded_batches(many(sources), batch_size, fast_decode=fast_decode):
            yield from batch

    def _encoded_batches(
        self,
        sources: Iterable[ImageSource],
        batch_size: int,
        encode: Callable[[Any], Vectors] | None = None,
        *,
        fast_decode: bool = False,
    ) -> Iterator[list[tuple[int, Vectors | ImageError]]]:
        if batch_size < 1:
            raise TandemError(f"batch_size: expected at least 1, got {batch_size}")
        preprocessing = self.config.preprocessing
        stream = decode_stream(
            sources,
            preprocessing,
            limits=self.limits,
            orient=self.orient,
            ahead=2 * batch_size,
            at_least=SIZE_MARGIN * preprocessing.image_size if fast_decode else None,
        )

        def begun() -> Iterator[Callable[[], list[tuple[int, Vectors | ImageError]]]]:
            for batch in batched(stream, batch_size):
                pixels = [item for _, item in batch if not isinstance(item, ImageError)]
                finish = begin(np.stack(pixels)) if pixels else self._no_vectors
                # Errors are copied without their traceback, which would keep the bytes of the file alive.
                images = [(index, item.renewed() if isinstance(item, ImageError) else None) for index, item in batch]
                yield partial(_with_vectors, images, finish)

        def begin(pixels: NDArray[np.uint8] | Vectors) -> Callable[[], Vectors]:
            return self.begin_pixels(pixels) if encode is None else partial(encode, pixels)

        yield from self.finished(begun())

    def embed_images(
        self,
        sources: ImageSource | Iterable[ImageSource],
        *,
        batch_size: int = BATCH_SIZE,
        on_error: Literal["raise", "nan"] = "raise",
        progress: bool | None = None,
        fast_decode: bool = False,
    ) -> Vectors:
        """Embed images: float32 [n d] of unit length, one row per image, in order; one image gives [1 d].

        Takes paths, http(s) URLs, bytes, file objects, PIL images, arrays [h w 3], or any iterable of these.
        `on_error="raise"` raises the `ImageError` of the first image that cannot be read. `"nan"` warns instead and
        fills its row with NaN, so that rows still match their sources. `iter_embed_images` yields errors instead.
        `progress` shows a bar; None shows one for many images in a terminal or a notebook. `fast_decode` lets JPEGs of
        more than twice the model's size shrink while they are decoded: several times faster, slightly other vectors.
        """
        if on_error not in ("raise", "nan"):
            raise TandemError(f'on_error: expected "raise" or "nan", got {on_error!r}')
        rows: list[Vectors] = []
        failures: list[Failure] = []
        sources = many(sources)
        with Progress(count_of(sources), show=progress, label="embedding", unit="image") as bar:
            for batch in self._encoded_batches(sources, batch_size, fast_decode=fast_decode):
                for index, item in batch:
                    if not isinstance(item, ImageError):
                        rows.append(item)
                        continue
                    if on_error == "raise":
                        raise item
                    failures.append(Failure(index, item))
                    rows.append(np.full(self.config.embed_dim, np.nan, dtype=np.float32))
                bar.advance(len(batch))
        warn_of(failures)
        return np.stack(rows) if rows else self._no_vectors()

    # --- texts ---------------------------------------------------------------------------------------------------

    def embed_texts(self, texts: str | Iterable[str], *, truncate: bool = False, long: LongTexts = "error") -> Vectors:
        """Embed texts: float32 [n d] of unit length, in order; one text gives [1 d].

        `long` is for texts of more tokens than the model takes: "error" raises `TextError`, "truncate" (or
        `truncate=True`) cuts them, "split" averages the vectors of their parts, cut between sentences or words and
        weighted by their lengths. Texts that fit have the same vectors in any case.
        """
        long = check_long(long, truncate)
        context = self.config.text.context_length
        rows = [self._no_vectors()]
        for chunk in batched(prompts.several(texts), BATCH_TEXTS):
            if long == "split":
                rows.append(embed_split(chunk, self.tokenizer, context, self.encode_token_ids))
            else:
                rows.append(self.encode_token_ids(self.tokenizer(chunk, context, long == "truncate")))
        return np.concatenate(rows)

    def text_states(
        self, texts: str | Iterable[str], *, layer: int = -1, norm: bool | None = None, truncate: bool = False
    ) -> Vectors:
        """The hidden state of every token, float32 [n t w], padded to the context length, as diffusion models use them.

        `layer=-1`: after the last block and the final layer norm; `layer=-2`: after the last block but one, without
        the norm (as `hidden_states[-2]` of transformers); `layer=k`: after k blocks. `norm` overrules whether the final
        norm follows. `tandem.conditioning` gives what an image generator takes, by its name.
        """
        context, width = self.config.text.context_length, self.config.text.width
        rows = [np.empty((0, context, width), dtype=np.float32)]
        for chunk in batched(prompts.several(texts), BATCH_TEXTS):
            rows.append(
                self.engine.text_states(self.tokenizer(chunk, context, truncate, pad_to=context), layer, norm=norm)
            )
        return np.concatenate(rows)

    def class_vectors(
        self,
        labels: prompts.Labels,
        templates: str | Sequence[str] | None = None,
        *,
        language: str | None = None,
        long: LongTexts = "error",
    ) -> Vectors:
        """One vector for each label, float32 [c d]: those of its prompts averaged; recent label sets are cached.

        `language` is that of the labels, as for `classify`; `long` as for `embed_texts`.
        """
        texts = prompts.labels_in(labels, language)[1]
        if self.is_english_only:
            self._class_vectors.warn_of_language(language, texts, self.name)
        chosen = prompts.default_templates(language) if templates is None else templates
        return self._class_vectors.get(texts, chosen, long, self.embed_texts, self._class_vectors_depend_on)

    def _class_vectors_depend_on(self, count: int) -> dict[str, object] | None:
        """What the vectors of so many prompts depend on beside them; None where looking them up is not worth it."""
        known = "fingerprint" in self.__dict__  # else all weights are read for it, which takes about a second
        if self.engine.name not in ("openvino", "torch") or count < (PROMPTS_ON_DISK if known else MANY_PROMPTS):
            return None
        how = {name: getattr(self.engine, name) for name in ("name", "device", "precision")}
        versions = {"tandem": version.__version__, self.engine.name: engines.version_of(self.engine.name)}
        return {"fingerprint": self.fingerprint, **how, **versions, "dimensions": self.config.embed_dim}

    @property
    def is_english_only(self) -> bool:
        """Whether it is known to read English only: by the table of published models, else by their vocabulary."""
        known = reads_english_only(self.config.name)
        return self.tokenizer.is_clip if known is None else known

    def _no_vectors(self) -> Vectors:
        return np.empty((0, self.config.embed_dim), dtype=np.float32)


def _with_vectors(
    images: list[tuple[int, ImageError | None]], finish: Callable[[], Vectors]
) -> list[tuple[int, Vectors | ImageError]]:
    each = iter(finish())  # [d], or [p w] of states
    return [(index, next(each) if error is None else error) for index, error in images]


def _load_again(source: str | None, fingerprint: str, options: dict[str, Any]) -> Model:
    """Load a pickled model. Raises `WeightsError` if its source is gone or has changed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its notes were shown at the first loading
        try:
            model = load(source, **options)
        except TandemError as error:
            raise WeightsError(f"cannot reload the pickled model: {error}") from None
    if model.fingerprint != fingerprint:
        raise WeightsError(
            f"cannot reload the pickled model: {source or 'tandem-mini'} has changed: expected the "
            f"fingerprint {fingerprint[:12]}, got {model.fingerprint[:12]}"
        )
    return model
