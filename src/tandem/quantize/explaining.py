"""Which precision is the fastest here that keeps the promise: measured on sample pictures, and explained."""

import math

import numpy as np

from tandem import engine as engines
from tandem.model import Model, load
from tandem.precisions import Choice, Way, quantised_folders
from tandem.prompts import DEFAULT_TEMPLATE, fill
from tandem.quantize.agreement import agreement
from tandem.quantize.samples import Part, gather
from tandem.quantize.searching import Say, answers
from tandem.quantize.speeds import speeds

_WORTH = 1.1  # times as fast as float32: less is not worth other numbers


def measure(model: Model, say: Say = lambda _: None) -> Choice:
    """The choice for a model that was loaded in float32; it is not kept. Raises `TandemError`."""
    samples = gather(model)
    part = Part(
        np.concatenate([samples.dev.pixels, samples.held_out.pixels]), samples.dev.texts + samples.held_out.texts
    )
    names = tuple(fill(label, DEFAULT_TEMPLATE)[0] for label in samples.classes)
    models: dict[tuple[str, str | None], Model] = {("float32", None): model}
    for precision in engines.available_precisions():
        if precision != "float32":
            built = engines.build(
                model.config,
                model.tensors,
                engine="openvino",
                precision=precision,  # type: ignore[arg-type]  # one that the device has
            )
            models[precision, None] = Model(model.checkpoint, built, orient=model.orient)
    for folder in quantised_folders(model.fingerprint):
        made = load(folder, engine="openvino")
        about = made.config.quantization
        if about is not None and about.source_fingerprint == model.fingerprint and about.is_good:
            models[made.engine.precision, folder] = made
    reference = answers(model, part, names)
    found = {}
    for key, each in models.items():
        say(f"comparing {key[0]}")
        found[key] = agreement(reference, answers(each, part, names))
    say("timing")
    rates = speeds(models, part)
    ways = tuple(Way(*key, *rates[key], found[key].top1, found[key].neighbours, found[key].is_good) for key in models)
    return _choice(model, ways, {key: each.fingerprint for key, each in models.items() if key[1]})


def _choice(model: Model, ways: tuple[Way, ...], fingerprints: dict[tuple[str, str | None], str]) -> Choice:
    reference = ways[0]
    best = max((way for way in ways if way.keeps_promise), key=lambda way: _times(way, reference))
    times = _times(best, reference)
    if best is reference or times < _WORTH:
        best, reason = reference, "nothing that keeps the promise is faster than float32 by a tenth"
    else:
        reason = f"the fastest that keeps the promise, {times:.1f} times float32"
    return Choice(
        model.name, best.precision, best.folder, fingerprints.get((best.precision, best.folder)), reason, ways
    )


def _times(way: Way, reference: Way) -> float:
    """How many times as fast: images and texts count alike."""
    images = way.images_per_second / reference.images_per_second
    return math.sqrt(images * way.texts_per_second / reference.texts_per_second)
