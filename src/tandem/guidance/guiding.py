"""`guide`: texts and pictures to a new picture, by the gradient of a model's image tower.

Joins the parts of this room. torch is imported when a run begins.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

from tandem.errors import MissingExtraError, TandemError
from tandem.files import atomic_write, user_path, write_text
from tandem.guidance.goals import Pictures, Texts, embed_goals, pictures_of, texts_of
from tandem.guidance.history import Judged
from tandem.guidance.judging import Judge
from tandem.guidance.marks import SVG_MARK, exif
from tandem.guidance.pace import Pace
from tandem.guidance.sentences import COMPARISON, NEGATIVES
from tandem.guidance.settings import CROPS, SIZE, STEPS, STRENGTH, WRITABLE, Settings, fitted_size
from tandem.guidance.state_file import State, read_state, write_state
from tandem.image import ImageSource, load_image
from tandem.model import Model
from tandem.pixels import as_rgb

JUDGEMENTS = 20  # of a run, beside those of its beginning and its end


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
    was stopped, or whose time was up; it is None for one that took all its steps.
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
            write_text(target, self.svg + SVG_MARK)
        else:
            write_image(self.image, target)
        return target

    def save_state(self, path: str | Path) -> Path:
        """Write the state that `resume` takes. Raises `TandemError` for a complete run."""
        if self.state is None:
            raise TandemError("the run is complete: there is nothing to resume")
        return write_state(self.state, path)


class Interrupted(KeyboardInterrupt):
    """Ctrl-C after at least one step. `guided` is what there is, after the last whole step, with its state."""

    def __init__(self, guided: Guided) -> None:
        super().__init__()
        self.guided = guided


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
    on_start: Callable[[State], None] | None = None,
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
        seconds: the time it may take, looked at before every step. Where the steps do not fit, the schedule is that of
            the time, so that the picture comes to rest in it, and `state` goes on with the steps that are left.
        among: texts that the prompt is ranked among; by default 49 sentences, which guidance never sees.
        callback: called after every step; a true answer stops the run.
        on_start: called once, when everything that was asked for is known to be possible.

    Raises: `Interrupted` on Ctrl-C after a step, with the picture so far; `MissingExtraError`, `ImageError`,
    `TextError`, `TandemError` for arguments that cannot be.
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
    return _continue(model, state, judge, began, seconds, callback, on_start)


def resume(
    model: Model,
    state: State | str | Path,
    *,
    seconds: float | None = None,
    callback: Callback | None = None,
    on_start: Callable[[State], None] | None = None,
) -> Guided:
    """Continue a run that was stopped, to the picture that it would have given without the stop.

    That holds for the same model, version of torch and number of threads, and where no `seconds` cut the run short;
    the arguments are those of `guide`. Raises `TandemError` for another model.
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
    return _continue(model, state, judge, began, seconds, callback, on_start)


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
        image.save(temporary, kinds.get(target.suffix.lower(), "JPEG"), quality=95, exif=exif())


def _sides(size: int | tuple[int, int], photo: Image.Image | None) -> tuple[int, int]:
    if isinstance(size, tuple):
        return size
    return (size, size) if photo is None else fitted_size(*photo.size, size)


def _continue(
    model: Model,
    state: State,
    judge: Judge,
    began: float,
    seconds: float | None,
    callback: Callback | None,
    on_start: Callable[[State], None] | None,
) -> Guided:
    if seconds is not None and not seconds > 0:
        raise TandemError(f"seconds: expected a number above 0, got {seconds:g}")
    if on_start is not None:
        on_start(state)
    from tandem.guidance.encoder import Encoder
    from tandem.guidance.run import Run

    run = Run(Encoder(model), state.goals, float(np.exp(model.tensors["logit_scale"])), state.settings, state.start)
    if state.arrays:
        run.restore(state.arrays, state.step)
    history = list(state.history) or [judge(run.image())]
    steps, whole, whole_at = state.settings.steps, run.state(), run.step  # the run after its last whole step
    pace, stopped = Pace(steps, run.step, None if seconds is None else began + seconds), False

    def kept() -> State:
        return replace(state, step=run.step, history=tuple(history), arrays=run.state())

    def result() -> Guided:
        at_end, image = kept(), run.image()
        if history[-1].step != run.step:  # not of the state: a run that goes on judges at its own steps alone
            history.append(judge(image, run.step))
        unfinished = at_end if run.step < steps else None
        return Guided(image, run.svg(), tuple(history), state.settings, time.perf_counter() - began, unfinished)

    try:
        while run.step < steps and not stopped and pace.has_time(run.step):
            run.advance(done := pace.done(run.step))
            whole, whole_at = run.state(), run.step
            judged_now = _is_judged(run.step, steps) or (pace.is_timed and _is_due(done, pace.done(run.step)))
            if judged_now:
                history.append(judge(run.image(), run.step))
            if callback is not None:
                left = pace.left(run.step)
                taken = GuidanceStep(run.step, steps, history[-1], judged_now, left, run.image, kept)
                stopped = bool(callback(taken))
    except KeyboardInterrupt:
        if whole_at == 0:
            raise
        run.restore(whole, whole_at)  # the step that was interrupted may have changed half of it
        raise Interrupted(result()) from None
    return result()


def _is_judged(step: int, steps: int) -> bool:
    """Whether a step is one of the `JUDGEMENTS` evenly placed ones; the last always is."""
    return step * JUDGEMENTS // steps > (step - 1) * JUDGEMENTS // steps


def _is_due(before: float, after: float) -> bool:
    """The same of a run that goes by its time: whether one of the evenly placed shares lies within the step."""
    return int(after * JUDGEMENTS) > int(before * JUDGEMENTS)
