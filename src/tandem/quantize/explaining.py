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
    """The choice for a model that was loaded in float32; it is not kept. Raises `TandemError`.

    Precisions are compared with float32 on sample pictures. What a quantised model agrees on is what its card says,
    measured on better pictures; here is only seen that this machine computes what its maker's did.
    """
    samples = gather(model, purpose="tandem models --explain")
    part = Part(
        np.concatenate([samples.dev.pixels, samples.held_out.pixels]), samples.dev.texts + samples.held_out.texts
    )
    names = tuple(fill(label, DEFAULT_TEMPLATE)[0] for label in samples.classes)
    found = {"": answers(model, part, names)}
    models: dict[str, Model] = {"": model}  # by folder, or precision
    for precision in engines.available_precisions():
        if precision != "float32":
            say(f"comparing {precision}")
            built = engines.build(
                model.config,
                model.tensors,
                engine="openvino",
                precision=precision,  # type: ignore[arg-type]  # one that the device has
            )
            models[precision] = Model(model.checkpoint, built, orient=model.orient)
            found[precision] = answers(models[precision], part, names)
    quantised = _folders(model, say)
    for folder in quantised:
        say(f"comparing {folder}")
        try:
            made = load(folder, engine="openvino")
            found[folder] = answers(made, part, names)
            models[folder] = made
        except TandemError as error:
            say(f"left out: {error}")
    say("timing")
    rates = speeds(models, part)
    candidates = []
    for key, each in models.items():
        about, here = quantised.get(key), agreement(found[""], found[key])
        judged = here if about is None else about
        images, texts = rates[key]
        candidates.append(
            Candidate(
                precision=each.engine.precision,
                folder=None if about is None else key,
                method=None if about is None else about.method,
                fingerprint=model.fingerprint if about is None else each.fingerprint,
                images_per_second=images,
                texts_per_second=texts,
                top1=judged.top1,
                neighbours=judged.neighbours,
                keeps_promise=judged.is_good and (about is None or here.mean_cosine >= about.least_cosine),
            )
        )
    return choice_of(model, tuple(candidates))


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


def _folders(model: Model, say: Say = lambda _: None) -> dict[str, Quantization]:
    """The quantised models on this machine that were made from this one; others in their place are left out."""
    found = {}
    for folder in quantised_folders(model.fingerprint):
        try:
            about = weights.read(folder).config.quantization
        except TandemError as error:
            say(f"left out: {error}")
            continue
        if about is None or about.source_fingerprint != model.fingerprint:
            say(f"left out: {folder}: no longer made from {model.name}")
        else:
            found[folder] = about
    return found


def _times(candidate: Candidate, reference: Candidate) -> float:
    """How many times as fast: images and texts count alike."""
    images = candidate.images_per_second / reference.images_per_second
    return math.sqrt(images * candidate.texts_per_second / reference.texts_per_second)
