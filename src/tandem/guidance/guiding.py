"""`guide`: texts and pictures to a new picture, by the gradient of a model's image tower.

Joins the parts of this room. torch is imported when a run begins.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from tandem.errors import MissingExtraError, TandemError
from tandem.files import atomic_write, user_path, write_text
from tandem.guidance.goals import Pictures, Texts, embed_goals, pictures_of, texts_of
from tandem.guidance.history import Judged
from tandem.guidance.judging import Judge
from tandem.guidance.sentences import COMPARISON, NEGATIVES
from tandem.guidance.settings import CROPS, SIZE, STEPS, STRENGTH, WRITABLE, Settings, fitted_size
from tandem.guidance.state_file import State, read_state, write_state
from tandem.image import ImageSource, load_image
from tandem.model import Model
from tandem.pixels import as_rgb

if TYPE_CHECKING:
    from tandem.guidance.encoder import Encoder

JUDGEMENTS = 20  # of a run, beside those of its beginning and its end
TIMED_STEPS = 3  # by which the steps that fit into a time are counted
SAFE_SHARE = 0.85  # of a time that is planned with


@dataclass(frozen=True)
class GuidanceStep:
    """Where a run is after a step. `image` draws the picture as it is; `state` is what `write_state` keeps."""

    step: int
    steps: int
    judged: Judged
    just_judged: bool
    seconds_left: float
    image: Callable[[], Image.Image]
    state: Callable[[], State]


Callback = Callable[[GuidanceStep], bool | None]  # a true answer stops the run


@dataclass(frozen=True, eq=False)
class Guided:
    """A guided picture: `image` RGB, its `svg` where it is of shapes, and what it was judged to be.

    `history` begins with the judgement before the first step and ends with that of `image`. `state` resumes a run that
    was stopped; it is None for one that is complete.
    """

    image: Image.Image
    svg: str | None
    history: tuple[Judged, ...]
    settings: Settings
    seconds: float
    state: State | None

    @property
    def before(self) -> Judged:
        """The judgement of the beginning: noise, the photo, or random shapes."""
        return self.history[0]

    @property
    def after(self) -> Judged:
        """The judgement of `image`."""
        return self.history[-1]

    @property
    def similarity(self) -> float:
        """The cosine of `image` with the prompt, by views that guidance never took."""
        return self.after.similarity

    @property
    def is_complete(self) -> bool:
        return self.state is None

    def save(self, path: str | Path) -> Path:
        """Write PNG, JPEG, WebP, or SVG for shapes; whole or not at all. Raises `TandemError`, `OSError`."""
        target = check_target(path, shapes=self.svg is not None)
        if target.suffix.lower() == ".svg":
            assert self.svg is not None  # checked
            write_text(target, self.svg)
        else:
            write_image(self.image, target)
        return target

    def save_state(self, path: str | Path) -> Path:
        """Write the state that `resume` takes. Raises `TandemError` for a complete run."""
        if self.state is None:
            raise TandemError("the run is complete: there is nothing to resume")
        return write_state(self.state, path)


def guide(
    model: Model,
    toward: Texts = (),
    away: Texts = (),
    *,
    like: Pictures = (),
    start: ImageSource | None = None,
    size: int | tuple[int, int] = SIZE,
    steps: int = STEPS,
    seed: int = 0,
    shapes: int | None = None,
    crops: int = CROPS,
    strength: float = STRENGTH,
    seconds: float | None = None,
    among: Sequence[str] | None = None,
    callback: Callback | None = None,
) -> Guided:
    """Change a picture until the model finds in it what is asked for; the same seed gives the same picture.

    The gradient is that of random views, so `model` needs a torch definition of its image tower, which every family
    has, and torch (the extra `guide`). Computes in float32 on the CPU, or on the device of a torch engine.

    Args:
        toward: a text, several, pairs of text and weight, or a mapping of texts to weights. The first is the prompt.
        away: what the picture should not show, written likewise.
        like: pictures to go toward, or pairs of picture and weight.
        start: a photo to change; by default a grey picture with a little noise, drawn from `seed`.
        size: of the picture in pixels: of the longer side of `start`, else of a square; or (width, height).
        steps: of the optimiser, each with one gradient through all views.
        shapes: a picture of so many vector shapes, which `save` writes as SVG too; by default Fourier coefficients.
        crops: views of each step.
        strength: how far a photo may change: above 0, at most 1, which forgets it.
        seconds: the time it may take. Fewer steps than `steps` are planned where those do not fit.
        among: texts that the prompt is ranked among; by default 49 sentences, which guidance never sees.
        callback: called after every step; a true answer stops the run.

    Raises: `MissingExtraError`, `ImageError`, `TextError`, `TandemError` for arguments that cannot be.
    """
    began = time.perf_counter()
    check_installed()
    wanted, pictures, unwanted = texts_of(toward), pictures_of(like), texts_of(away)
    photo = None if start is None else as_rgb(load_image(start, limits=model.limits, orient=model.orient))
    width, height = _sides(size, photo)
    settings = Settings(height, width, steps, seed, shapes, crops, strength)
    goals = embed_goals(model, wanted, pictures, unwanted, NEGATIVES)
    pixels = None if photo is None else np.asarray(photo.resize((width, height), Image.Resampling.LANCZOS))
    prompt = wanted[0].name if wanted else None
    judge = Judge(model, prompt, goals.toward_vectors[0], COMPARISON if among is None else among)
    state = State(settings, goals, judge.texts[1:], model.fingerprint, model.name, 0, (), pixels, {})
    return _continue(model, state, judge, began, seconds, callback)


def resume(
    model: Model, state: State | str | Path, *, seconds: float | None = None, callback: Callback | None = None
) -> Guided:
    """Continue a run that was stopped, to the picture that it would have given without the stop.

    That holds for the same model, version of torch and number of threads. Raises `TandemError` for another model.
    """
    began = time.perf_counter()
    check_installed()
    state = state if isinstance(state, State) else read_state(state)
    if state.fingerprint != model.fingerprint:
        raise TandemError(
            f"the run belongs to another model: {state.model} ({state.fingerprint[:12]}), not {model.name} "
            f"({model.fingerprint[:12]})"
        )
    if (found := state.goals.toward_vectors.shape[1]) != model.config.embed_dim:
        raise TandemError(f"a damaged state: expected vectors of {model.config.embed_dim} values, got {found}")
    first = state.goals.toward[0]
    judge = Judge(model, first.name if first.is_text else None, state.goals.toward_vectors[0], state.among)
    return _continue(model, state, judge, began, seconds, callback)


def check_installed() -> None:
    """`MissingExtraError` without torch; torch itself is not imported."""
    if find_spec("torch") is None:
        raise MissingExtraError("torch", "guide", "guidance")


def check_target(path: str | Path, *, shapes: bool) -> Path:
    """The path of a picture to write. Raises `TandemError` for a folder, and a suffix that it cannot have."""
    target = user_path(path)
    if target.is_dir():
        raise TandemError(f"{target}: expected a file to write, it is a folder; say {target / 'picture.png'}")
    if not target.parent.is_dir():
        raise TandemError(f"{target}: there is no folder {target.parent}")
    suffix = target.suffix.lower()
    if suffix == ".svg" and not shapes:
        raise TandemError(f"{target}: an SVG is of vector shapes: add shapes (--shapes 32), or write a PNG")
    if suffix != ".svg" and suffix not in WRITABLE:
        known = ", ".join((*WRITABLE, ".svg"))
        raise TandemError(f"{target}: expected a name that ends in {known}, got {suffix or 'no suffix'!r}")
    return target


def write_image(image: Image.Image, target: Path) -> None:
    """Write a picture in the format of its name, whole or not at all."""
    kinds = {".png": "PNG", ".webp": "WEBP"}
    with atomic_write(target) as temporary:
        image.save(temporary, kinds.get(target.suffix.lower(), "JPEG"), quality=95)


def _sides(size: int | tuple[int, int], photo: Image.Image | None) -> tuple[int, int]:
    if isinstance(size, tuple):
        return size
    return (size, size) if photo is None else fitted_size(*photo.size, size)


def _continue(
    model: Model, state: State, judge: Judge, began: float, seconds: float | None, callback: Callback | None
) -> Guided:
    from tandem.guidance.encoder import Encoder
    from tandem.guidance.run import Run

    if seconds is not None and not seconds > 0:
        raise TandemError(f"seconds: expected a number above 0, got {seconds:g}")
    encoder, scale = Encoder(model), float(np.exp(model.tensors["logit_scale"]))
    deadline = None if seconds is None else began + seconds
    if deadline is not None and state.step == 0:
        state = replace(state, settings=_fitting(state, encoder, scale, deadline))
    run = Run(encoder, state.goals, scale, state.settings, state.start)
    if state.arrays:
        run.restore(state.arrays, state.step)
    history = list(state.history) or [judge(run.image())]

    def kept() -> State:
        return replace(state, step=run.step, history=tuple(history), arrays=run.state())

    steps, first, first_at = state.settings.steps, run.step, time.perf_counter()
    stopped = False
    while run.step < steps and not stopped:
        run.advance()
        now = time.perf_counter()
        judged_now = _is_judged(run.step, steps)
        if judged_now:
            history.append(judge(run.image(), run.step))
        if callback is not None:
            left = (now - first_at) / (run.step - first) * (steps - run.step)
            taken = GuidanceStep(run.step, steps, history[-1], judged_now, left, run.image, kept)
            stopped = bool(callback(taken))
        stopped = stopped or (deadline is not None and time.perf_counter() >= deadline)
    at_end = kept()
    image = run.image()
    if history[-1].step != run.step:  # not of the state: a run that goes on judges at its own steps alone
        history.append(judge(image, run.step))
    unfinished = at_end if run.step < steps else None
    return Guided(image, run.svg(), tuple(history), state.settings, time.perf_counter() - began, unfinished)


def _is_judged(step: int, steps: int) -> bool:
    """Whether a step is one of the `JUDGEMENTS` evenly placed ones; the last always is."""
    return step * JUDGEMENTS // steps > (step - 1) * JUDGEMENTS // steps


def _fitting(state: State, encoder: "Encoder", scale: float, deadline: float) -> Settings:
    """The settings with the steps that fit until the deadline, counted on a picture that is thrown away."""
    from tandem.guidance.run import Run

    trial: Run = Run(
        encoder, state.goals, scale, replace(state.settings, steps=max(state.settings.steps, 10)), state.start
    )
    trial.advance()  # the first one allocates
    began = time.perf_counter()
    for _ in range(TIMED_STEPS):
        trial.advance()
    now = time.perf_counter()
    fit = int((deadline - now) * SAFE_SHARE / ((now - began) / TIMED_STEPS))
    return replace(state.settings, steps=max(1, min(state.settings.steps, fit)))
