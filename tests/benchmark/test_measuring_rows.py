"""What is timed and what is not: vectors and answers that disagree, how long a row takes, and what its figures are."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from comparison import measuring
from comparison.measuring import LABELS, Scale, in_turn, measure, measure_photo
from comparison.rows import LEAST_ROUNDS, MOST_ROUNDS, ROWS, SIDES

OURS = "tandem float32"
SECONDS = 0.5  # that each answer says it took


class Photos:
    """Materials of which nothing is made: names of files, and texts."""

    def pixels(self, name: str) -> str:
        return f"{name}.npy"

    def photos(self, count: int = 400) -> list[str]:
        return [f"{i}.jpg" for i in range(count)]

    def prompts(self, count: int, seed: int = 0) -> list[str]:
        return [f"text {i}" for i in range(count)]


class Answering:
    """A side's process that gives these vectors."""

    def __init__(self, vectors: np.ndarray) -> None:
        self.vectors = vectors
        self.timed: list[Any] = []  # what it was asked for beside the check

    def ask(self, do: str, /, *, out: str = "", **asked: Any) -> dict[str, Any]:
        given = asked.get("texts") or asked.get("paths") or [None] * asked.get("count", 0)
        if len(given) == measuring.CHECKED:
            np.save(out, self.vectors)
        else:
            self.timed.append(given)
        return {"seconds": SECONDS}


class Running:
    """Sides that run, by name."""

    threads = 1

    def __init__(self, vectors: dict[str, np.ndarray]) -> None:
        self.processes = {name: Answering(each) for name, each in vectors.items()}
        self.versions = {name: {"numpy": "2"} for name in vectors}

    def get(self, side: Any, model: str) -> Answering:
        return self.processes[side.name]

    def prepare(self, side: Any, model: str) -> dict[str, str]:
        return {"model": model, "scratch": "", "precision": side.precision}


def measured(vectors: dict[str, np.ndarray], key: str, home: Path, rounds: int = 1) -> tuple[Any, Running]:
    running = Running(vectors)
    row = replace(ROWS[key], sides=tuple(vectors))
    return measure(row, SIDES, Photos(), running, Scale(rounds), home), running


def turned(vectors: np.ndarray, cosine: float) -> np.ndarray:
    """Vectors of these cosines to those given, in dimensions that were not used."""
    aside = np.concatenate([np.zeros_like(vectors), vectors], axis=1)
    return cosine * np.concatenate([vectors, np.zeros_like(vectors)], axis=1) + np.sqrt(1 - cosine**2) * aside


@pytest.mark.parametrize(
    ("key", "cosine", "timed"),
    [
        ("images", 0.99999, "float32 bfloat16 int8"),
        ("images", 0.9998, "bfloat16 int8"),
        ("prompts", 0.97, "int8"),
        ("prompts", 0.94, ""),
        ("files", 0.991, "float32 bfloat16 int8"),
        ("files", 0.985, "bfloat16 int8"),
        ("files", 0.94, ""),
    ],
)
def test_what_disagrees_is_named_and_not_timed(key: str, cosine: float, timed: str, tmp_path: Path) -> None:
    exact = turned(np.eye(measuring.CHECKED, dtype=np.float32), 1.0)
    other = turned(np.eye(measuring.CHECKED, dtype=np.float32), cosine)
    peers = [f"optimum-intel {precision}" for precision in ("float32", "bfloat16", "int8")]
    row, running = measured({OURS: exact} | dict.fromkeys(peers, other), key, tmp_path)
    expected = [f"optimum-intel {precision}" for precision in timed.split()]
    assert list(row.values) == list(row.versions) == [OURS, *expected]
    assert set(row.agreement) == {OURS, *peers}
    for name in set(peers) - set(expected):
        assert f"least cosine {cosine:.4f}" in row.missing[name]
        assert not running.processes[name].timed


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("key", ["images", "files"])
def test_other_images_that_point_the_same_way_do_not_agree(key: str, precision: str, tmp_path: Path) -> None:
    """All vectors of a model with random weights do."""
    exact = 1000 + np.eye(measuring.CHECKED, dtype=np.float64)
    name = f"transformers {precision}" if precision != "int8" else "ONNX Runtime int8"
    row, _ = measured({OURS: exact, name: exact[::-1]}, key, tmp_path)
    assert row.agreement[name][0] > 0.9999
    assert list(row.values) == [OURS]
    assert "without the mean" in row.missing[name]


@pytest.mark.parametrize(("key", "count"), [("images", 32), ("prompts", 128), ("files", 200)])
def test_a_rate_is_what_was_done_in_a_second(key: str, count: int, tmp_path: Path) -> None:
    exact = turned(np.eye(measuring.CHECKED, dtype=np.float32), 1.0)
    row, running = measured({OURS: exact}, key, tmp_path)
    assert {len(each) for each in running.processes[OURS].timed} == {count}
    assert row.values == {OURS: [count / SECONDS]}


def test_a_round_has_other_texts_than_the_one_before(tmp_path: Path) -> None:
    exact = turned(np.eye(measuring.CHECKED, dtype=np.float32), 1.0)
    _, running = measured({OURS: exact}, "prompts", tmp_path, rounds=3)
    timed = [text for texts in running.processes[OURS].timed for text in texts]
    assert len(timed) == len(set(timed)) == 4 * 128  # with the round that does not count


@pytest.mark.parametrize(("seconds", "rounds"), [(0.0, LEAST_ROUNDS), (1e9, MOST_ROUNDS)])
def test_rounds_end_with_the_seconds_of_a_row_within_bounds(seconds: float, rounds: int) -> None:
    row = replace(ROWS["images"], seconds=seconds)
    assert len(in_turn({"a": lambda: 1.0}, row, Scale())["a"]) == rounds


def test_another_answer_to_the_photo_is_named_and_not_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers are printed by processes; those of peers as JSON."""
    ours = dict(zip(LABELS, (0.7, 0.2, 0.1), strict=True))
    answers = {
        "transformers float32": {**ours, "cat": 0.74, "dog": 0.16},
        "open_clip float32": {**ours, "cat": 0.64, "dog": 0.26},
        OURS: ours,
    }
    printed = {name: json.dumps(answer) for name, answer in answers.items()}
    printed[OURS] = "\n".join(f"0.jpg\t{label}\t{value}" for label, value in ours.items())
    monkeypatch.setattr(
        measuring, "_command", lambda side, *_: [sys.executable, "-S", "-c", f"print({printed[side.name]!r})"]
    )
    row = replace(ROWS["photo"], sides=tuple(answers))
    found = measure_photo(row, SIDES, Photos(), Running(dict.fromkeys(answers, np.empty(0))), Scale(1), tmp_path)
    assert list(found.values) == ["transformers float32", OURS]
    assert "it is not timed" in found.missing["open_clip float32"]
