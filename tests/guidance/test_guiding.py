"""`guide` on toy models: the picture answers more to its text, the same again from a seed, and after a stop."""

import itertools
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support import toy
from support.engine_toys import TOYS, random_tensors

import tandem
from tandem import engine as engines
from tandem.engine.torch import TorchEngine
from tandem.errors import ImageError, MissingExtraError, TandemError
from tandem.guidance import GuidanceStep, Interrupted, State, guide, guiding, read_state, resume
from tandem.guidance.encoder import Encoder
from tandem.guidance.goals import Goal, Goals, read_goal
from tandem.guidance.judging import Judge, held_out_views
from tandem.guidance.objective import Objective
from tandem.guidance.run import Run
from tandem.guidance.sentences import COMPARISON, NEGATIVES
from tandem.guidance.state_file import write_state
from tandem.model import Model
from tandem.weights import Checkpoint

QUICK = {"size": 40, "crops": 4, "among": ("a cat", "dogs")}


def made(kind: str) -> Model:
    checkpoint = toy.checkpoint(kind)
    return Model(checkpoint, engines.build(checkpoint.config, checkpoint.tensors, engine="torch"))


@pytest.fixture(scope="module")
def model() -> Model:
    return made("resnet")


@pytest.mark.slow
def test_the_picture_answers_more_to_its_text() -> None:
    """The model that ships, a ResNet; the first steps lead there already."""
    guided = guide(tandem.load(), "a red circle", steps=12, size=96, crops=8, shapes=8)
    assert guided.similarity > guided.before.similarity + 0.1
    assert (guided.image.size, guided.image.mode, guided.is_complete) == ((96, 96), "RGB", True)
    assert [each.step for each in guided.history] == list(range(13))
    assert (guided.before.step, guided.after.step, guided.after.among) == (0, 12, 50)


@pytest.mark.slow
def test_a_transformer_guides_too() -> None:
    guided = guide(made("clipa"), "a red circle", steps=25, **QUICK)
    assert guided.similarity > guided.before.similarity


@pytest.mark.parametrize("shapes", [None, 6])
@pytest.mark.slow_if(6)
@pytest.mark.slow
def test_a_seed_gives_its_picture_again_and_another_one_another(model: Model, shapes: int | None) -> None:
    first, again, other = (
        np.asarray(guide(model, "x", steps=3, seed=seed, shapes=shapes, **QUICK).image) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize("shapes", [None, 6])
@pytest.mark.slow_if(6)
@pytest.mark.slow
def test_a_resumed_run_is_the_uninterrupted_one(model: Model, tmp_path: Path, shapes: int | None) -> None:
    photo = toy.random_image(3)
    asked = {"toward": ("a dog", "a cat"), "away": "text", "start": photo, "like": [toy.random_image(1)]}
    whole = guide(model, **asked, steps=7, shapes=shapes, **QUICK)
    part = guide(model, **asked, steps=7, shapes=shapes, callback=lambda taken: taken.step == 3, **QUICK)
    assert not part.is_complete
    file = part.save_state(tmp_path / "x.guidance")
    rest = resume(model, file)
    np.testing.assert_array_equal(np.asarray(rest.image), np.asarray(whole.image))
    assert rest.svg == whole.svg
    assert rest.history == whole.history
    assert rest.is_complete
    with pytest.raises(TandemError, match="complete"):
        rest.save_state(file)


def test_a_state_before_the_first_step_is_resumed_too(model: Model) -> None:
    states: list[State] = []

    def keep(taken: GuidanceStep) -> bool:
        states.append(taken.state())
        return True

    guide(model, "x", steps=1, callback=keep, **QUICK)
    first = replace(states[0], step=0, history=(), arrays={})
    assert resume(model, first).is_complete


@pytest.mark.slow
def test_a_photo_keeps_its_shape_and_as_much_as_it_is_told_to(model: Model) -> None:
    photo = toy.random_image(2, (60, 30))

    def apart(strength: float) -> float:
        image = guide(model, "x", start=photo, steps=12, strength=strength, **QUICK).image
        assert image.size == (40, 20)
        difference = np.asarray(image, dtype=float) - np.asarray(photo.resize((40, 20), Image.Resampling.LANCZOS))
        return float(np.abs(difference).mean())

    assert apart(0.05) < 0.8 * apart(1.0)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that each step moves by as many seconds as `clock[1]` says."""
    times = [0.0, 1.0]
    advance = Run.advance

    def slow(run: Run, done: float | None = None) -> float:
        times[0] += times[1]
        return advance(run, done)

    monkeypatch.setattr(Run, "advance", slow)
    monkeypatch.setattr("tandem.guidance.pace.time", SimpleNamespace(perf_counter=lambda: times[0]))
    monkeypatch.setattr(guiding, "time", SimpleNamespace(perf_counter=lambda: times[0]))
    return times


def test_time_that_is_short_gives_the_steps_that_fit_and_a_state(
    model: Model, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    shares: list[float] = []
    advance = Run.advance

    def note(run: Run, done: float | None = None) -> float:
        shares.append(-1.0 if done is None else done)
        return advance(run, done)

    monkeypatch.setattr(Run, "advance", note)

    def slower(taken: GuidanceStep) -> None:
        clock[1] = 1.0 if taken.step < 4 else 2.0  # other work begins

    guided = guide(model, "x", steps=100, seconds=10.0, callback=slower, **QUICK)
    assert (guided.after.step, guided.settings.steps, guided.is_complete) == (7, 100, False)
    assert guided.seconds == 10.0
    np.testing.assert_allclose(shares, [0, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8])  # of the time: it comes to rest
    assert guided.state is not None
    clock[1] = 0.0
    assert resume(model, replace(guided.state, settings=replace(guided.settings, steps=9))).is_complete


def test_a_step_that_takes_longer_than_all_the_time_is_the_only_one(model: Model, clock: list[float]) -> None:
    clock[1] = 47.0
    guided = guide(model, "x", steps=100, seconds=10.0, **QUICK)
    assert guided.after.step == 1
    assert not guided.is_complete


def test_time_that_is_enough_changes_nothing(model: Model) -> None:
    whole, timed = (guide(model, "x", steps=4, seconds=seconds, **QUICK) for seconds in (None, 1e6))
    np.testing.assert_array_equal(np.asarray(timed.image), np.asarray(whole.image))
    assert timed.history == whole.history
    assert timed.is_complete


@pytest.mark.parametrize("shapes", [None, 6])
def test_an_interruption_within_a_step_keeps_the_last_whole_one(
    model: Model, monkeypatch: pytest.MonkeyPatch, shapes: int | None
) -> None:
    whole = guide(model, "x", steps=4, shapes=shapes, **QUICK)
    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.Adam, "step", _interrupted_at(3))
        with pytest.raises(Interrupted) as caught:
            guide(model, "x", steps=4, shapes=shapes, **QUICK)
    state = caught.value.guided.state
    assert state is not None
    assert (state.step, caught.value.guided.after.step) == (2, 2)
    np.testing.assert_array_equal(np.asarray(resume(model, state).image), np.asarray(whole.image))

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.Adam, "step", _interrupted_at(1))
        with pytest.raises(KeyboardInterrupt) as before:
            guide(model, "x", steps=4, shapes=shapes, **QUICK)
    assert not isinstance(before.value, Interrupted)  # there is nothing to keep


def _interrupted_at(number: int) -> Any:
    """Adam's step that is interrupted when half of the parameters have changed."""
    step, count = torch.optim.Adam.step, itertools.count(1)

    def half(optimiser: torch.optim.Adam) -> None:
        step(optimiser)
        if next(count) == number:
            raise KeyboardInterrupt

    return half


def test_the_callback_sees_every_step_and_draws_the_picture(model: Model) -> None:
    seen: list[GuidanceStep] = []
    guided = guide(model, "x", steps=4, callback=seen.append, **QUICK)
    assert [taken.step for taken in seen] == [1, 2, 3, 4]
    np.testing.assert_array_equal(np.asarray(seen[-1].image()), np.asarray(guided.image))
    assert seen[-1].judged == guided.after


@pytest.mark.parametrize("kind", ["vit", "siglip", "resnet-basic", "fastvit", "naflex"])
def test_every_family_is_guided_through_what_its_engine_computes(kind: str) -> None:
    config = TOYS[kind]
    tensors = random_tensors(config)
    engine = TorchEngine(config, tensors)
    encoder = Encoder(Model(Checkpoint(config, tensors, toy.tokenizer(), "toy"), engine))
    pixels = np.random.default_rng(0).integers(0, 256, (2, encoder.size, encoder.size, 3), dtype=np.uint8)
    views = (torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255).requires_grad_()
    vectors = encoder(views)
    array = pixels
    if config.preprocessing.makes_patches:
        from tandem.pixels import preprocess

        array = np.stack([preprocess(Image.fromarray(each), config.preprocessing) for each in pixels])
    np.testing.assert_allclose(vectors.detach().numpy(), engine.encode_images(array), atol=1e-5)
    vectors.sum().backward()
    assert views.grad is not None
    assert float(views.grad.abs().min()) >= 0
    assert float(views.grad.abs().max()) > 0


# --- goals and the objective ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "text", "weight"),
    [
        ("a cat", "a cat", 1),
        ("a cat:0.5", "a cat", 0.5),
        ("at 10:30", "at 10:30", 1),
        ("a: b", "a: b", 1),
        ("sign: stop:2", "sign: stop", 2),
        (" x : .25 ", "x", 0.25),
    ],
)
def test_weights_stand_behind_texts(written: str, text: str, weight: float) -> None:
    assert read_goal(written) == Goal(text, weight)


@pytest.mark.parametrize("written", ["", "  ", "x:0", "x:-1"])
def test_goals_that_cannot_be_are_refused(written: str) -> None:
    with pytest.raises(TandemError):
        read_goal(written)


def unit(*rows: list[float]) -> np.ndarray:
    array = np.array(rows, dtype=np.float32).reshape(len(rows), 3)
    return array / np.linalg.norm(array, axis=1, keepdims=True)


def test_the_loss_prefers_what_is_asked_for_and_no_hub() -> None:
    """A view that is as near to the text, but nearer to common sentences, is worse; so is one that is unwanted."""
    text, common, unwanted = [1.0, 0, 0], [0.0, 1, 0], [0.0, 0, 1]

    def loss(view: list[float], *weights: float) -> float:
        away = tuple(Goal("a", weight) for weight in weights)
        goals = Goals((Goal("t"),), away, unit(text), unit(*[unwanted] * len(away)), unit(common))
        return float(Objective(goals, 10.0)(torch.from_numpy(unit(view))))

    assert loss([1, 0, 0]) < loss([1, -1, 0]) < loss([1, 1, 0])
    assert loss([1, 0, -1], 1.0) < loss([1, 0, 1], 1.0) < loss([1, 0, 1], 3.0)


def test_a_sentence_that_says_the_same_is_no_rival() -> None:
    goals = Goals((Goal("t"),), (), unit([1.0, 0, 0]), unit(), unit([1.0, 0.01, 0], [0.0, 1, 0]))
    view = torch.from_numpy(unit([1.0, 0, 0])).requires_grad_()
    (gradient,) = torch.autograd.grad(Objective(goals, 10.0)(view), view)
    assert abs(float(gradient[0, 1])) < 0.05


def test_pictures_count_by_their_cosine_and_weights_are_shares() -> None:
    vectors = unit([1.0, 0, 0], [0.0, 1, 0])

    def loss(first: float, second: float) -> float:
        both = (Goal("a", first, is_text=False), Goal("b", second, is_text=False))
        return float(
            Objective(Goals(both, (), vectors, unit(), unit([0.0, 0, 1])), 10.0)(torch.from_numpy(vectors[:1]))
        )

    assert loss(1, 1) == pytest.approx(-0.5)
    assert loss(3, 1) == pytest.approx(-0.75)


# --- judging -------------------------------------------------------------------------------------------------------


def test_the_sentences_of_comparison_are_others_than_the_negatives() -> None:
    assert len(COMPARISON) == 49
    assert len(set(NEGATIVES)) == len(NEGATIVES) > 150
    assert not set(COMPARISON) & set(NEGATIVES)


def test_ties_count_against_the_prompt_and_itself_does_not(model: Model) -> None:
    image = toy.random_image(0)
    vector = model.embed_texts("a cat")[0]
    judge = Judge(model, "a cat", vector, ("A cat.", "a dog", "a dog"))
    assert judge(image).among == 2
    mean = model.embed_images(held_out_views(image)).mean(axis=0)
    assert judge(image).similarity == pytest.approx(float(mean @ vector / np.linalg.norm(mean)), abs=1e-6)
    judge._vectors = np.stack([vector, vector])
    assert judge(image).rank == 2
    with pytest.raises(TandemError, match="among"):
        Judge(model, "a cat", vector, ("a cat",))


def test_towards_pictures_alone_there_is_no_rank(model: Model) -> None:
    guided = guide(model, like=[(toy.random_image(5), 2.0)], steps=2, **QUICK)
    assert (guided.after.rank, guided.after.best) == (None, "")


# --- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"toward": ""}, "empty"),
        ({"toward": ()}, "nothing to guide by"),
        ({"toward": {"x": 0.0}}, "above 0"),
        ({"steps": 0}, "steps"),
        ({"size": 8}, "height"),
        ({"size": (400, 20)}, "narrow"),
        ({"shapes": 0}, "shapes"),
        ({"strength": 0.0}, "strength"),
        ({"seconds": 0.0}, "seconds"),
    ],
)
def test_what_cannot_be_is_one_line(model: Model, changed: dict[str, object], said: str) -> None:
    with pytest.raises(TandemError, match=said):
        guide(model, **{"toward": "x", "steps": 1, **QUICK, **changed})


def test_an_unreadable_start_is_an_image_error(model: Model, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("no image")
    with pytest.raises(ImageError, match=r"a\.jpg"):
        guide(model, "x", start=tmp_path / "a.jpg")


def test_without_torch_the_extra_is_named(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guiding, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"torch.*tandem-clip\[guide\]"):
        guide(model, "x")


def test_states_of_others_and_damaged_ones_are_refused(model: Model, tmp_path: Path) -> None:
    part = guide(model, "x", steps=3, callback=lambda _: True, **QUICK)
    assert part.state is not None
    with pytest.raises(TandemError, match="another model"):
        resume(made("clipa"), part.state)
    wrong = replace(part.state, arrays={**part.state.arrays, "picture.spectrum": np.zeros(3, np.float32)})
    with pytest.raises(TandemError, match=r"picture\.spectrum"):
        resume(model, write_state(wrong, tmp_path / "wrong.guidance"))
    generator = np.zeros_like(part.state.arrays["generator"])
    with pytest.raises(TandemError, match="generator"):
        resume(model, replace(part.state, arrays={**part.state.arrays, "generator": generator}))
    narrow = replace(part.state.goals, toward_vectors=np.ones((1, 3), np.float32))
    with pytest.raises(TandemError, match="vectors of 12"):
        resume(model, replace(part.state, goals=narrow))
    file = part.save_state(tmp_path / "x.guidance")
    file.write_bytes(file.read_bytes()[:-40])
    for path, said in ((file, "damaged"), (tmp_path, "a folder"), (tmp_path / "none", "not there")):
        with pytest.raises(TandemError, match=said):
            read_state(path)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.svg"])
def test_pictures_are_written_in_the_format_of_their_name(model: Model, tmp_path: Path, name: str) -> None:
    guided = guide(model, "x", steps=1, shapes=4, **QUICK)
    target = guided.save(tmp_path / name)
    assert "<svg" in target.read_text() if name == "a.svg" else Image.open(target).size == (40, 40)


def test_targets_that_cannot_be_are_refused(model: Model, tmp_path: Path) -> None:
    guided = guide(model, "x", steps=1, **QUICK)
    for path, said in (
        (tmp_path, "a folder"),
        (tmp_path / "a.svg", "shapes"),
        (tmp_path / "a.txt", "ends in"),
        (tmp_path / "a", "no suffix"),
        (tmp_path / "b" / "a.png", "no folder"),
    ):
        with pytest.raises(TandemError, match=said):
            guided.save(path)
