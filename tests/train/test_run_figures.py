"""What a run says of itself, and the rates and batches at the ends of it."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from support import toy
from support.training_toys import NAMED, recipe, write_parquet

from tandem.errors import DataError, MissingExtraError
from tandem.tokenizer import TextFormat
from tandem.train.data import loader as loading
from tandem.train.data.loader import Loader
from tandem.train.data.order import sample_indices, shuffled
from tandem.train.objective import device_batch, teacher
from tandem.train.run import assembly, fine_tuned, reporting
from tandem.train.run.reporting import duration, memory_gb
from tandem.train.step.optimiser import learning_rate
from tandem.train.wise_ft import Point


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 s"), (59.4, "59 s"), (60, "1 min"), (90, "2 min"), (59 * 60, "59 min"), (3600, "1 h 00 min"),
     (7500, "2 h 05 min"), (48 * 3600 - 60, "47 h 59 min"), (48 * 3600, "2 d 0 h"), (300_000, "3 d 11 h")],
)  # fmt: skip
def test_durations_are_said_in_their_own_unit(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_memory_is_in_gigabytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the device: the peak since it was last asked for."""
    asked: list[str] = []
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 2_500_000_000)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", asked.append)
    assert memory_gb("cuda:1") == 2.5
    assert asked == ["cuda:1"]
    assert 0.01 < memory_gb("cpu") < 100
    monkeypatch.setattr(reporting, "open", lambda *given, **options: (_ for _ in ()).throw(OSError()), raising=False)
    assert 0.01 < memory_gb("cpu") < 100  # elsewhere than on Linux


def test_the_learning_rate_at_each_end() -> None:
    rates = [learning_rate(step, 10, 4, 2.0) for step in range(12)]
    assert rates[:4] == [0.5, 1.0, 1.5, 2.0]
    assert rates[4] == 2.0
    assert rates[7] == pytest.approx(1.0)
    assert rates[10] == rates[11] == pytest.approx(0, abs=1e-12)
    assert [learning_rate(step, 3, 3, 1.0) for step in range(4)] == pytest.approx([1 / 3, 2 / 3, 1, 1])  # warm-up only
    assert learning_rate(1, 4, 0, 1.0) == pytest.approx(0.5 * (1 + math.cos(math.pi / 4)))


def test_no_steps_start_no_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_parquet(tmp_path / "names.parquet")
    started: list[Any] = []
    monkeypatch.setattr(loading, "batches_from_workers", lambda *given: started.append(given) or iter(()))
    loader = Loader(recipe(tmp_path, NAMED, workers=2), toy.tokenizer())
    assert list(loader.stream(3, 3)) == list(loader.stream(4, 3)) == []
    assert not started
    assert list(loader.stream(3, 4)) == []
    assert [(list(steps), workers) for _, steps, workers in started] == [([3], 2)]
    here = Loader(recipe(tmp_path, NAMED, workers=0), toy.tokenizer())
    assert len(list(here.stream(1, 3))) == 2


@pytest.mark.parametrize(("pad_id", "end_id", "longest"), [(0, 9, 4), (9, 9, 4)])
def test_texts_of_several_kinds_are_as_long_as_the_longest(pad_id: int, end_id: int, longest: int) -> None:
    """Padding after the last token that any row uses goes; where it is the end token, one of it stays."""
    tokenizer = SimpleNamespace(pad_id=pad_id, end_id=end_id)
    assert TextFormat(None, end_id).end_id == end_id
    first = np.array([[5, 9, pad_id, pad_id, pad_id, pad_id], [5, 5, 5, 9, pad_id, pad_id]])
    second = np.array([[5, 9, pad_id, pad_id, pad_id]])
    found = device_batch._stacked([first, second], tokenizer)  # type: ignore[arg-type]
    assert found.tolist() == [[5, 9, pad_id, pad_id], [5, 5, 5, 9], [5, 9, pad_id, pad_id]]
    assert found.shape[1] == longest
    assert device_batch._used(np.full((2, 3), pad_id), pad_id) == 1


def test_a_teacher_that_is_not_there_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(MissingExtraError, match=r"mini"):
        teacher.locate("no-such-teacher")
    assert teacher.locate(str(tmp_path)) == tmp_path


@pytest.mark.slow
def test_a_folder_without_a_sentence_encoder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no sentence encoder"):
        teacher.vectors(str(tmp_path), ["a cat"], tmp_path / "cache.npz")


def test_the_order_of_samples_is_what_it_always_was() -> None:
    """A run that is resumed by a later version takes the same samples in the same order."""
    assert shuffled(np.arange(12), 12, 7).tolist() == [4, 10, 3, 0, 9, 6, 11, 2, 7, 1, 5, 8]
    large = [59086644, 923731044, 420886642, 498840268, 723815015]
    assert shuffled(np.arange(5), 10**9, 1, 2).tolist() == large
    assert sample_indices(np.arange(5, 15), 10, seed=1, source=0).tolist() == [4, 8, 1, 6, 7, 5, 2, 3, 4, 8]


@pytest.mark.parametrize("measured", [True, False])
def test_what_chose_alpha_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, measured: bool) -> None:
    figures = {0.0: 0.5, 0.5: 0.75, 1.0: 0.625}
    points = [Point(alpha, {fine_tuned.CHOSEN_BY: value} if measured else {}) for alpha, value in figures.items()]
    for name in ("read_model_with_head", "write_model_with_head", "between", "write_curve"):
        monkeypatch.setattr(fine_tuned, name, lambda *given: None)
    monkeypatch.setattr(fine_tuned, "curve", lambda *given: points)
    said = fine_tuned.write_wise_ft(tmp_path, [object()], torch.device("cpu"))  # type: ignore[list-item]
    if measured:
        assert said == "WiSE-FT: alpha 0.5, 75.0% on validation (zero-shot 50.0%, fine-tuned 62.5%)"
    else:
        assert said.endswith("not chosen by any measure (set validation.classification)")


def test_a_class_starts_at_the_mean_of_its_prompts_at_unit_length(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = torch.tensor([[3.0, 4.0], [0.0, 2.0], [1.0, 0.0]])

    class Towers:
        def __init__(self, *given: object) -> None: ...

        def to(self, device: torch.device) -> "Towers":
            return self

        def __call__(self, images: None, ids: torch.Tensor) -> tuple[None, torch.Tensor]:
            return None, vectors[ids[:, 0]]

    monkeypatch.setattr(assembly, "Towers", Towers)
    clip = SimpleNamespace(eval=lambda: None, config=SimpleNamespace(text=SimpleNamespace(context_length=4)))
    loader = SimpleNamespace(class_prompts=lambda: [["0", "1"], ["2"]])
    found = assembly.zero_shot_vectors(
        clip,  # type: ignore[arg-type]
        loader,  # type: ignore[arg-type]
        lambda texts, length, truncate: np.array([[int(text)] for text in texts]),  # type: ignore[arg-type]
        torch.device("cpu"),
    )
    mean = np.array([1.5, 3.0])
    np.testing.assert_allclose(found, [mean / np.linalg.norm(mean), [1, 0]], rtol=1e-6)


@pytest.mark.parametrize("cached", [False, True])
def test_a_dry_run_asks_the_teacher_for_its_own_steps_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cached: bool
) -> None:
    """Unless all texts have been computed already."""
    asked: list[tuple[list[str], str]] = []

    def vectors(name: str, texts: list[str], cache: Path, extra: list[str] | None = None) -> dict[str, np.ndarray]:
        asked.append((sorted([*texts, *(extra or [])]), cache.name))
        return {}

    monkeypatch.setattr(assembly.teacher, "vectors", vectors)
    monkeypatch.setattr(assembly.teacher, "words", lambda name, cache: ["word"])
    recipe = SimpleNamespace(distillation=SimpleNamespace(teacher="toy", words_per_batch=1), seed=0)
    loader = SimpleNamespace(batch=lambda step: SimpleNamespace(texts=[f"text {step}"]), all_texts=lambda: ["all"])
    processes = SimpleNamespace(rank=0, count=1, is_main=True, barrier=lambda: None)
    if cached:
        (tmp_path / "teacher.npz").touch()
    assembly._teacher_targets(recipe, loader, processes, tmp_path, [3, 4])  # type: ignore[arg-type]
    of_steps = (["text 3", "text 4", "word", "word"], "teacher-0.npz")
    of_all = (["all", "word"], "teacher.npz")
    assert asked == ([of_all, of_all] if cached else [of_steps])
    asked.clear()
    assembly._teacher_targets(recipe, loader, processes, tmp_path, None)  # type: ignore[arg-type]
    assert asked == [of_all, of_all]
