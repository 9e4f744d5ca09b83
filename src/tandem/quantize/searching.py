"""Which settings, and which blocks to exclude: chosen by agreement with the source, on images and texts for choosing.

Those that the result is measured on in the end are not looked at here.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count

import numpy as np

from tandem.arrays import Vectors
from tandem.engine.openvino import OpenVinoEngine
from tandem.model import Model
from tandem.prompts import DEFAULT_TEMPLATE, fill
from tandem.quantize.agreement import Agreement, Answers, agreement
from tandem.quantize.building import Plan, blocks, build, weights
from tandem.quantize.calibration import QuantizedLayer, calibrate, smooths
from tandem.quantize.samples import Part, Samples, image_batches, text_batches
from tandem.towers.blocks import TOWERS, Tower, block_of, tower_of
from tandem.towers.parts.int8 import QuantizedTensors

ALPHAS = (None, 0.3, 0.5, 0.7)  # of SmoothQuant; None: none of it
_USUAL_ALPHA = 0.5
_COMPARED = 256  # images or texts: enough for a mean cosine
Say = Callable[[str], None]


@dataclass(frozen=True)
class Tried:
    """A setting that was tried, and how well it agreed on the images and texts for choosing."""

    what: str
    agreement: Agreement


@dataclass
class Search:
    """The search for one model's settings and blocks. `tried` is what was measured, in order."""

    model: Model
    samples: Samples
    say: Say = lambda _: None
    tried: list[Tried] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.names = weights(self.model.config, self.model.tensors)
        self.pixels = self.samples.dev.pixels
        self.class_texts = tuple(fill(label, DEFAULT_TEMPLATE)[0] for label in self.samples.classes)
        self.source = answers(self.model, self.samples.dev, self.class_texts)

    def settings(self, tower: Tower, *, all_of_them: bool) -> dict[str, tuple[float | None, bool]]:
        """What is tried for a tower, by words: SmoothQuant's strength, and whether biases are corrected."""
        if not smooths(self.model.tensors, tower):
            plain: dict[str, tuple[float | None, bool]] = {"biases corrected": (None, True)}
            return {**plain, "biases as they are": (None, False)} if all_of_them else plain
        alphas = ALPHAS if all_of_them else (_USUAL_ALPHA,)
        return {f"alpha {alpha}" if alpha is not None else "no smoothing": (alpha, False) for alpha in alphas}

    def choose(self, *, all_of_them: bool = True) -> tuple[Plan, dict[Tower, str]]:
        """The settings of each tower whose vectors are nearest to the source's, and what they are in words."""
        best: dict[Tower, dict[str, QuantizedLayer]] = {}
        words: dict[Tower, str] = {}
        number, total = 0, sum(len(self.settings(tower, all_of_them=all_of_them)) for tower in TOWERS)
        for tower in TOWERS:
            batches = (
                image_batches(self.samples.calibration)
                if tower == "image"
                else text_batches(self.model, self.samples.calibration)
            )
            least = np.inf
            for name, (alpha, correct) in self.settings(tower, all_of_them=all_of_them).items():
                number += 1
                self.say(f"calibrating, {number} of {total}: {tower} tower, {name}")
                layers = calibrate(
                    self.model.config, self.model.tensors, tower, batches, alpha=alpha, correct_bias=correct
                )
                error = self._try(f"{tower} tower, {name}", Plan({tower: layers}, self._other(tower)))
                if error < least:
                    least, best[tower], words[tower] = error, layers, name
        return Plan(best), words

    def exclude(self, plan: Plan) -> Plan:
        """The plan with as few blocks excluded as it takes to keep the promise, those first that cost most alone.

        A plan that does not keep it with every block excluded is given back with all of them.
        """
        self.say("measuring with every block quantized")
        if self._holds(plan, ()):
            return plan
        everything = self.all_blocks()
        costs: dict[str, float] = {}
        for number, block in enumerate(everything, 1):
            self.say(f"measuring what each block alone costs, {number} of {len(everything)}")
            costs[block] = self._try(f"{block} alone", plan.excluding(set(everything) - {block}))
        ranked = sorted(everything, key=lambda block: -costs[block])
        # The number excluded is doubled until the promise is kept, and then lowered by halves
        low, high = 0, 1
        trials, most = count(1), 2 * math.ceil(math.log2(len(ranked))) - 1

        def holds(excluded: int) -> bool:
            self.say(
                f"measuring with {excluded} of {len(ranked)} blocks in float32, trial {next(trials)} of at most {most}"
            )
            return self._holds(plan, ranked[:excluded])

        while high < len(ranked) and not holds(high):
            low, high = high, min(2 * high, len(ranked))
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if holds(middle) else (middle, high)
        return plan.excluding(ranked[:high])

    def all_blocks(self) -> tuple[str, ...]:
        """Those of both towers that have something to round."""
        return blocks(self.model.config, self.model.tensors)

    def _holds(self, plan: Plan, excluded: Sequence[str]) -> bool:
        found = self.measure(plan.excluding(excluded), f"{len(excluded)} in float32" if excluded else "every block")
        return found.holds_with_room(len(self.pixels))

    def measure(self, plan: Plan, what: str) -> Agreement:
        """The agreement of a plan with the source, on the images and texts for choosing."""
        tensors = build(self.model.config, self.model.tensors, plan, self.names)
        found = agreement(self.source, answers(with_tensors(self.model, tensors), self.samples.dev, self.class_texts))
        self.tried.append(Tried(what, found))
        return found

    def _try(self, what: str, plan: Plan) -> float:
        """1 - the mean cosine to the source, of the one tower in which a plan rounds blocks."""
        tensors = build(self.model.config, self.model.tensors, plan, self.names)
        engine = OpenVinoEngine(self.model.config, tensors)
        rounded = {block_of(name) for name in self.names} - plan.excluded
        if any(tower_of(block) == "image" for block in rounded):
            mine, theirs = engine.encode_images(self.pixels[:_COMPARED]), self.source.images[:_COMPARED]
        else:
            texts = self.samples.dev.texts[:_COMPARED]
            mine, theirs = encoded(self.model, engine, texts), self.source.texts[:_COMPARED]
        return 1 - float(np.einsum("nd,nd->n", mine, theirs).mean())

    def _other(self, tower: Tower) -> frozenset[str]:
        """All blocks of the other tower."""
        return frozenset(block for block in self.all_blocks() if tower_of(block) != tower)


def with_tensors(model: Model, tensors: QuantizedTensors) -> Model:
    """The model with other tensors, computed by OpenVINO."""
    import dataclasses

    checkpoint = dataclasses.replace(model.checkpoint, tensors=tensors)
    return Model(checkpoint, OpenVinoEngine(model.config, tensors), orient=model.orient, limits=model.limits)


def answers(model: Model, part: Part, class_texts: Sequence[str]) -> Answers:
    """A model's vectors of a part's images and texts, and of the classes."""
    engine = model.engine
    return Answers(
        engine.encode_images(part.pixels),
        encoded(model, engine, part.texts),
        encoded(model, engine, class_texts),
    )


def encoded(model: Model, engine: object, texts: Sequence[str]) -> Vectors:
    """The vectors of texts, cut where they are too long."""
    ids = model.tokenizer(list(texts), model.config.text.context_length, True)
    return engine.encode_texts(ids)  # type: ignore[attr-defined,no-any-return]
