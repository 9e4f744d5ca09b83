"""Which precision is the fastest here that keeps the promise: measured on sample pictures, and explained."""

import math

import numpy as np

from tandem import engine as engines
from tandem import weights
from tandem.config import Quantization
from tandem.errors import TandemError
from tandem.model import Model, load
from tandem.precisions import Candidate, Choice, fingerprint_of_folder, quantised_folders
from tandem.prompts import DEFAULT_TEMPLATE, fill
from tandem.quantize.agreement import agreement
from tandem.quantize.samples import Part, gather
from tandem.quantize.searching import Say, answers
from tandem.quantize.speeds import speeds

_WORTH = 1.1  # times as fast as float32: less is not worth other numbers


def outdated(choice: Choice, model: Model) -> str | None:
    """Why a choice has to be measured again, in words; None where its candidates are those of today."""
    measured = {each.folder: each.fingerprint for each in choice.candidates if each.folder is not None}
    today = {folder: fingerprint_of_folder(folder) for folder in _folders(model)}
    for folder, fingerprint in measured.items():
        if folder not in today:
            return f"{folder} is gone"
        if today[folder] != fingerprint:
            return f"{folder} was written anew"
    if fresh := [folder for folder in today if folder not in measured]:
        return f"{fresh[0]} is new"
    precisions = {each.precision for each in choice.candidates if each.folder is None}
    return None if precisions == set(engines.available_precisions()) else "the precisions of the device are others"


def measure(model: Model, say: Say = lambda _: None) -> Choice:
    """The choice for a model that was loaded in float32; it is not kept. Raises `TandemError`."""
    samples = gather(model, purpose="tandem models --explain")
    part = Part(
        np.concatenate([samples.dev.pixels, samples.held_out.pixels]), samples.dev.texts + samples.held_out.texts
    )
    names = tuple(fill(label, DEFAULT_TEMPLATE)[0] for label in samples.classes)
    models: dict[str | tuple[str, Quantization], Model] = {"float32": model}
    for precision in engines.available_precisions():
        if precision != "float32":
            built = engines.build(
                model.config,
                model.tensors,
                engine="openvino",
                precision=precision,  # type: ignore[arg-type]  # one that the device has
            )
            models[precision] = Model(model.checkpoint, built, orient=model.orient)
    for folder, about in _folders(model).items():
        models[folder, about] = load(folder, engine="openvino")
    reference = answers(model, part, names)
    found = {}
    for key, each in models.items():
        say(f"comparing {key if isinstance(key, str) else key[0]}")
        found[key] = agreement(reference, answers(each, part, names))
    say("timing")
    rates = speeds(models, part)
    measured = []
    for key, each in models.items():
        place = None if isinstance(key, str) else key[0]
        images, texts = rates[key]
        measured.append(
            Candidate(
                precision=each.engine.precision,
                folder=place,
                method=None if isinstance(key, str) else key[1].method,
                fingerprint=each.fingerprint if place else model.fingerprint,
                images_per_second=images,
                texts_per_second=texts,
                top1=found[key].top1,
                neighbours=found[key].neighbours,
                keeps_promise=found[key].is_good,
            )
        )
    return choice_of(model, tuple(measured))


def choice_of(model: Model, candidates: tuple[Candidate, ...]) -> Choice:
    """The choice among candidates, float32 first: of all, and of those with the model's own weights."""
    reference = candidates[0]

    def best_of(some: list[Candidate]) -> Candidate:
        best = max((each for each in some if each.keeps_promise), key=lambda each: _times(each, reference))
        return best if _times(best, reference) >= _WORTH else reference

    best = best_of(list(candidates))
    same_weights = best_of([each for each in candidates if each.folder is None])
    if best is reference:
        reason = "nothing that keeps the promise is faster than float32 by a tenth"
    else:
        reason = f"the fastest that keeps the promise, {_times(best, reference):.1f} times float32"
    return Choice(model.name, model.fingerprint, best, same_weights, reason, candidates)


def _folders(model: Model) -> dict[str, Quantization]:
    """The quantised models on this machine that were made from this one, and were found good when they were made."""
    found = {}
    for folder in quantised_folders(model.fingerprint):
        try:
            about = weights.read(folder).config.quantization
        except TandemError:
            continue  # another program's folder by now, or damaged: no candidate
        if about is not None and about.source_fingerprint == model.fingerprint and about.is_good:
            found[folder] = about
    return found


def _times(candidate: Candidate, reference: Candidate) -> float:
    """How many times as fast: images and texts count alike."""
    images = candidate.images_per_second / reference.images_per_second
    return math.sqrt(images * candidate.texts_per_second / reference.texts_per_second)
