"""A row measured: sides opened, checked against ours, then timed in turn until the row's seconds are over."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from comparison.machine import Usage, usage
from comparison.materials import Materials, parts_of
from comparison.results import Measured
from comparison.rows import LEAST_ROUNDS, MOST_ROUNDS, OTHER_MODEL, Row
from comparison.sides import PEERS, ROOT, PeerError, Process, Side, environment
from comparison.spread import agreement

# Least cosines to ours in float32: as the vectors are, and without the mean. An encoder that was given the same pixels
# and prompts differs by its rounding; files are decoded and resized by each library in its own way.
LIMITS = {"float32": (0.9999, 0.999), "bfloat16": (0.99, 0.9), "int8": (0.95, 0.8)}
LIMITS_FILES = {"float32": (0.99, 0.9), "bfloat16": (0.98, 0.85), "int8": (0.95, 0.75)}
CHECKED = 16  # images and texts
DIFFERENT_ROUNDS = MOST_ROUNDS + 1  # with the one that does not count
LABELS = ["cat", "dog", "zebra"]
PREPARED_WITHIN_S = 3600.0
PROBABILITY = 0.05  # by which answers to one photo may differ
REFERENCE = Side("tandem", "float32", "with_tandem.py", "")


@dataclass(frozen=True)
class Scale:
    """How much of a row is done: all of it, or a little, to see that it works."""

    rounds: int | None = None  # instead of the row's seconds
    share: float = 1.0  # of the row's count

    def count(self, row: Row) -> int:
        return max(row.batch, 2, round(row.count * self.share))

    def enough(self, row: Row, rounds: int, since: float) -> bool:
        if self.rounds is not None:
            return rounds >= self.rounds
        return rounds >= MOST_ROUNDS or (rounds >= LEAST_ROUNDS and time.perf_counter() - since > row.seconds)


class Open:
    """Sides that run, by model: the rows of one model share them."""

    def __init__(self, materials: Materials, threads: int, logs: Path) -> None:
        self._materials, self.threads, self._logs = materials, threads, logs
        self._running: dict[str, Process] = {}
        self._model = ""
        self.versions: dict[str, dict[str, str]] = {}
        self._told: dict[tuple[str, str], dict[str, Any]] = {}
        self._failed: dict[tuple[str, str], str] = {}

    def get(self, side: Side, model: str) -> Process:
        """Prepared and opened. Raises `PeerError` where it cannot be; it is not tried twice."""
        key = (side.name, model)
        if key in self._failed:
            raise PeerError(self._failed[key])
        name = f"{side.name}, {model}"
        if name not in self._running:
            try:
                self._running[name] = self._start(side, model)
            except PeerError as error:
                self._failed[key] = str(error)
                raise
        return self._running[name]

    def prepare(self, side: Side, model: str) -> dict[str, Any]:
        """In a process of its own, which exporting may fill. What `open` and `classify` are told."""
        if (side.name, model) in self._told:
            return self._told[side.name, model]
        told = {
            "model": self._materials.model(model),
            "scratch": self._materials.scratch(model, side.library.partition(" (")[0]),
            "precision": side.precision,
        }
        print(f"opening {side.name}, {model}", file=sys.stderr, flush=True)  # the first time it takes minutes
        photos, texts = self._materials.calibration_photos(), self._materials.prompts(300, seed=1)
        with Process.of(side, self._log(side)) as process:
            answer = process.ask("prepare", **told, photos=photos, texts=texts, within_s=PREPARED_WITHIN_S)
        self.versions[side.name] = answer["versions"]
        if side.library == "open_clip":
            told["model"] = self._materials.in_open_clip(model)
        self._told[side.name, model] = told
        return told

    def _start(self, side: Side, model: str) -> Process:
        told = self.prepare(side, model)
        process = Process.of(side, self._log(side))
        try:
            process.ask("open", **told, threads=self.threads)
        except PeerError:
            process.close()
            raise
        return process

    def _log(self, side: Side) -> Path:
        return self._logs / f"{side.name.replace(' ', '-')}.log"

    def close(self) -> None:
        for process in self._running.values():
            process.close()
        self._running.clear()


Ask = Callable[[Process, str], float]  # a side's process and its name -> its value in this round


def measure(
    row: Row, sides: Mapping[str, Side], materials: Materials, running: Open, scale: Scale, home: Path
) -> Measured:
    """A row of encoders or files. What cannot take part, or disagrees, is named with its reason."""
    measured = Measured(row.key, datetime.now(UTC).isoformat(timespec="seconds"))
    reference = _vectors(running.get(REFERENCE, row.model), row, row.model, materials, home / "reference.npy")
    references = {row.model: reference}
    processes: dict[str, Process] = {}
    for name in (*row.others, *row.sides):
        model = OTHER_MODEL if name in row.others else row.model
        try:
            process = running.get(sides[name], model)
            if model not in references:
                references[model] = _vectors(running.get(REFERENCE, model), row, model, materials, home / "other.npy")
            found = agreement(_vectors(process, row, model, materials, home / "vectors.npy"), references[model])
            measured.agreement[name] = found
            _check_agreement(found, (LIMITS_FILES if row.work == "files" else LIMITS)[sides[name].precision])
        except PeerError as error:
            measured.missing[name] = str(error)
            continue
        processes[name] = process
        measured.versions[name] = running.versions[name]
    asks = {
        name: _ask(row, OTHER_MODEL if name in row.others else row.model, materials, scale, home) for name in processes
    }
    before = usage()
    measured.values = in_turn({name: lambda n=name: asks[n](processes[n]) for name in processes}, row, scale)
    return finished(measured, before)


def in_turn(works: Mapping[str, Callable[[], float]], row: Row, scale: Scale) -> dict[str, list[float]]:
    """Each side's value of each round: forwards and backwards in turn, after a round that does not count.

    That round is left out where checking what agrees has done the same already, and a round takes minutes.
    """
    values: dict[str, list[float]] = {name: [] for name in works}
    if row.work not in ("files", "photo"):
        for work in works.values():
            work()
    began, rounds = time.perf_counter(), 0
    while works and not scale.enough(row, rounds, began):
        for name in list(works)[:: 1 if rounds % 2 else -1]:
            values[name].append(works[name]())
        rounds += 1
    return values


def finished(measured: Measured, before: Usage) -> Measured:
    measured.others_during = usage().others(before, os.cpu_count() or 1)
    measured.load = os.getloadavg()[0]
    return measured


def _check_agreement(found: tuple[float, float], limits: tuple[float, float]) -> None:
    if found[0] < limits[0] or found[1] < limits[1]:
        raise PeerError(
            f"its vectors disagree with ours: least cosine {found[0]:.4f}, {found[1]:.4f} without the mean; expected "
            f"at least {limits[0]:g} and {limits[1]:g}. It is not timed"
        )


def _vectors(process: Process, row: Row, model: str, materials: Materials, out: Path) -> np.ndarray:
    if row.work == "images":
        process.ask(
            "images", pixels=materials.pixels(model), count=CHECKED, batch=min(row.batch, CHECKED), out=str(out)
        )
    elif row.work == "texts":
        process.ask("texts", texts=materials.prompts(CHECKED), out=str(out))
    else:
        process.ask("files", paths=_paths(row, materials)[:CHECKED], out=str(out))
    return np.asarray(np.load(out), dtype=np.float32)


def _paths(row: Row, materials: Materials) -> list[str]:
    return materials.large_photos() if row.key == "large" else materials.photos()


def _ask(row: Row, model: str, materials: Materials, scale: Scale, home: Path) -> Callable[[Process], float]:
    """What a side does in a round -> images or texts a second. Sides do the same in the same round."""
    count = scale.count(row)
    if row.work == "images":
        pixels = materials.pixels(model)
        return lambda process: count / process.ask("images", pixels=pixels, count=count, batch=row.batch)["seconds"]
    if row.work == "texts":
        # Other texts in each round: nothing is remembered from the one before.
        texts = parts_of(materials.prompts(count * DIFFERENT_ROUNDS), count)
        return lambda process: count / process.ask("texts", texts=next(texts))["seconds"]
    parts = parts_of(_paths(row, materials), count)
    return lambda process: count / process.ask("files", paths=next(parts), out=str(home / "vectors.npy"))["seconds"]


# --- whole processes ------------------------------------------------------------------------------------------------


def measure_photo(
    row: Row, sides: Mapping[str, Side], materials: Materials, running: Open, scale: Scale, home: Path
) -> Measured:
    """From the start of a process to its end: one photo, three labels. Answers are compared first."""
    measured = Measured(row.key, datetime.now(UTC).isoformat(timespec="seconds"))
    photo = materials.photos(1)[0]
    commands: dict[str, Sequence[str]] = {}
    reference: dict[str, float] = {}
    for name in ("tandem float32", *(each for each in row.sides if each != "tandem float32")):
        side = sides[name]
        try:
            told = running.prepare(side, row.model)
            commands[name] = command = _command(side, told, photo, running)
            answer = _answer(side, command, home)
            reference = reference or answer
            worst = max(abs(answer[label] - reference[label]) for label in LABELS)
            if worst > PROBABILITY:
                raise PeerError(f"it answers {answer}, and ours {reference}: it is not timed")
            measured.versions[name] = running.versions.get(name, {})
        except PeerError as error:
            measured.missing[name] = str(error)
            commands.pop(name, None)
    ordered = {name: commands[name] for name in row.sides if name in commands}
    before = usage()
    measured.values = in_turn(
        {name: lambda n=name: _seconds(sides[n], ordered[n], home) for name in ordered}, row, scale
    )
    return finished(measured, before)


def _command(side: Side, told: dict[str, Any], photo: str, running: Open) -> Sequence[str]:
    if side.is_ours:
        from peers import with_tandem

        return with_tandem.command(told["model"], told["scratch"], side.precision, photo, LABELS)
    asked = json.dumps({**told, "threads": running.threads, "photo": photo, "labels": LABELS})
    return [str(side.python()), str(PEERS / "one_photo.py"), side.module.removesuffix(".py"), asked]


def _seconds(side: Side, command: Sequence[str], home: Path) -> float:
    """Its output goes to a file, which no reader slows down."""
    with (home / "answer.txt").open("wb") as answer, (home / "photo.log").open("wb") as said:
        began = time.perf_counter()
        done = subprocess.run(command, stdout=answer, stderr=said, env=environment(side.is_ours), cwd=ROOT, check=False)
        seconds = time.perf_counter() - began
    if done.returncode:
        lines = (home / "photo.log").read_text(errors="replace").strip().splitlines() or ["nothing said"]
        raise PeerError(lines[-1])
    return seconds


def _answer(side: Side, command: Sequence[str], home: Path) -> dict[str, float]:
    _seconds(side, command, home)
    printed = (home / "answer.txt").read_text()
    if side.is_ours:
        from peers import with_tandem

        return with_tandem.probabilities(printed)
    return {label: float(probability) for label, probability in json.loads(printed).items()}
