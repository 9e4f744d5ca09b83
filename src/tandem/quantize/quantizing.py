"""`quantize`: a model in, one of eight bits out, with what was measured of it."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, get_args

from tandem.config import Quantization
from tandem.errors import TandemError
from tandem.model import Model
from tandem.processor import processor
from tandem.quantize.agreement import Agreement, accuracy, agreement
from tandem.quantize.building import Plan, blocks, build
from tandem.quantize.calibration import check_installed
from tandem.quantize.samples import Samples
from tandem.quantize.searching import Say, Search, Tried, answers, with_tensors
from tandem.quantize.speeds import speeds
from tandem.towers.parts.int8 import stored
from tandem.weights.checkpoint import Checkpoint

Method = Literal["int8", "int8-weights"]
METHODS: tuple[Method, ...] = get_args(Method)


@dataclass(frozen=True, eq=False)
class Quantized:
    """A quantised model, not written yet, and everything that was measured of it."""

    checkpoint: Checkpoint  # its `config.quantization` says how it agrees with its source
    agreement: Agreement  # on images and texts that were kept out
    samples: str  # in words
    own_images: bool  # whether they are the user's
    searched: bool  # whether settings were tried, and blocks excluded
    blocks: int  # that could be rounded
    settings: dict[str, str]  # of each tower, in words
    tried: tuple[Tried, ...]
    speeds: dict[str, tuple[float, float]]  # images/s and texts/s of the source in float32, and of this
    bytes: tuple[int, int]  # of the source's arrays, and of these
    accuracy: tuple[float, float] | None  # zero-shot, of the source and of this, where images have labels
    classes: int
    processor: str

    @property
    def quantization(self) -> Quantization:
        found = self.checkpoint.config.quantization
        assert found is not None
        return found


def quantize(
    model: Model, samples: Samples, *, method: Method = "int8", search: bool = True, say: Say = lambda _: None
) -> Quantized:
    """A model of eight bits from one in floating point, which OpenVINO has to compute in float32.

    method: "int8" multiplies eight bits with eight bits; "int8-weights" only keeps weights in eight bits.
    search: settings are tried, and blocks excluded until the promise is kept; without it every block is rounded with
    the usual settings.
    say: is told what is being done. Raises `MissingExtraError` and `TandemError`.
    """
    if method not in METHODS:
        raise TandemError(f"method: expected one of {', '.join(METHODS)}, got {method!r}")
    if model.config.quantization is not None:
        raise TandemError(
            f"{model.name} is quantised already: quantise {model.config.quantization.source}, which it was made from"
        )
    if model.engine.name != "openvino" or model.engine.precision != "float32":
        raise TandemError("quantize: load the model with engine='openvino' and precision='float32'")
    if method == "int8":
        check_installed()
    choosing = Search(model, samples, say)
    plan, settings = (choosing.choose(all_of_them=search)) if method == "int8" else (Plan(), {})
    if search:
        plan = choosing.exclude(plan)
    tensors = build(model.config, model.tensors, plan, choosing.names)
    made = with_tensors(model, tensors)
    say("measuring on what was kept out")
    source, mine = (answers(each, samples.held_out, choosing.class_texts) for each in (model, made))
    found = agreement(source, mine)
    say("timing")
    (images, texts), (my_images, my_texts) = speeds({"source": model, "made": made}, samples.held_out).values()
    labels = samples.held_out.labels
    quantization = Quantization(
        method=method,
        source=model.name,
        source_fingerprint=model.fingerprint,
        images=len(samples.held_out.pixels),
        texts=len(samples.held_out.texts),
        float32_blocks=tuple(sorted(plan.excluded)),
        **dataclasses.asdict(found),
    )
    config = dataclasses.replace(model.config, name=f"{model.name} {method}", quantization=quantization)
    return Quantized(
        checkpoint=dataclasses.replace(model.checkpoint, config=config, tensors=tensors),
        agreement=found,
        samples=samples.described,
        own_images=samples.own,
        searched=search,
        blocks=len(blocks(model.config, model.tensors)),
        settings={str(tower): words for tower, words in settings.items()},
        tried=tuple(choosing.tried),
        speeds={"images/s": (images, my_images), "texts/s": (texts, my_texts)},
        bytes=(_bytes(model.tensors), _bytes(tensors)),
        accuracy=None if labels is None else (accuracy(source, labels), accuracy(mine, labels)),
        classes=len(samples.classes),
        processor=processor(),
    )


def _bytes(tensors: Any) -> int:
    arrays = stored(tensors)
    return sum(arrays[name].nbytes for name in arrays)
