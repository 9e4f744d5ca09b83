"""Runs that were edited or damaged: each is refused in one line that says what is wrong."""

import errno
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import evaluations

from tandem.errors import DataError
from tandem.evaluate.report.card import write_card
from tandem.evaluate.run_report import RunReport


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    result = evaluations.zero_shot(evaluations.dataset(), np.ones(12, bool))
    return evaluations.run(result).save(tmp_path_factory.mktemp("runs") / "run")


def edited(saved: Path, folder: Path, path: str, value: Any) -> Path:
    """A copy of a run with one value of its JSON replaced: `results.0.task`."""
    document = json.loads((saved / "result.json").read_text(encoding="utf-8"))
    *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    at = document
    for part in parents:
        at = at[part]
    at[last] = value
    folder.mkdir()
    (folder / "result.json").write_text(json.dumps(document))
    (folder / "outcomes.npz").write_bytes((saved / "outcomes.npz").read_bytes())
    return folder


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("results.0.task", 5),
        ("results.0.settings", []),
        ("results.0.dataset.hash", 7),
        ("results.0.dataset.images", "12"),
        ("results.0.dataset.images", 11),
        ("made", 7),
        ("model.fingerprint", None),
        ("results.0.figures.top1.value", None),
        ("results.0.figures.top1.value", "0.5"),
        ("results.0.figures.top1.value", float("nan")),
        ("results.0.figures.top1.value", 10**400),
        ("results.0.figures.top1.chance", "none"),
        ("results.0.outcomes", ["absent"]),
        ("results.0.tables.deep", [[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]),
        ("environment.libraries", {"numpy": 2}),
    ],
)
def test_edited_json_is_named(saved: Path, tmp_path: Path, path: str, value: Any) -> None:
    with pytest.raises(DataError, match="the run is damaged") as raised:
        RunReport.load(edited(saved, tmp_path / "run", path, value))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("text", ['{"format": ' + "[" * 100_000, '{"made": ' + "9" * 5000 + "}", "\xff"])
def test_json_that_cannot_be_read_is_damage(saved: Path, tmp_path: Path, text: str) -> None:
    folder = edited(saved, tmp_path / "run", "made", "")
    (folder / "result.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match="the run is damaged"):
        RunReport.load(folder)


def npy(values: Any) -> bytes:
    """An array as a file."""
    file = io.BytesIO()
    np.save(file, values, allow_pickle=True)
    return file.getvalue()


def header(described: str) -> bytes:
    """The beginning of an array's file, without the array."""
    return b"\x93NUMPY\x01\x00" + len(described).to_bytes(2, "little") + described.encode()


ONES = np.ones(12, np.float32)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("0/top1", npy(ONES[:3])),
        ("0/top1", npy(ONES[:, None] * ONES[:2])),
        ("0/top1", npy(ONES * np.nan)),
        ("0/top1", npy(ONES.astype(complex))),
        ("0/top1", npy(ONES.astype(str))),
        ("0/top1", npy(ONES.astype("datetime64[s]"))),
        ("0/top1", npy(np.array([{}] * 12, dtype=object))),
        ("0/top1", header("{'descr': '<f4', 'fortran_order': False, 'shape': (12,)}")),
        ("0/top1", b"no array"),
        ("0/keys", npy(np.full((12, 2), "a"))),
        ("0/keys", header("{'descr': '<U4', 'fortran_order': False, 'shape': (10000000000000,)}")),
    ],
)
def test_edited_outcomes_are_named(saved: Path, tmp_path: Path, name: str, content: bytes) -> None:
    folder = edited(saved, tmp_path / "run", "made", "")
    with zipfile.ZipFile(saved / "outcomes.npz") as old, zipfile.ZipFile(folder / "outcomes.npz", "w") as new:
        for member in old.namelist():
            new.writestr(member, content if member == f"{name}.npy" else old.read(member))
    with pytest.raises(DataError, match="the run is damaged"):
        RunReport.load(folder)


def test_a_damaged_stream_is_named(saved: Path, tmp_path: Path) -> None:
    folder = edited(saved, tmp_path / "run", "made", "")
    content = bytearray((saved / "outcomes.npz").read_bytes())
    start = content.index(b"0/top1.npy") + 40
    content[start : start + 20] = b"\xff" * 20
    (folder / "outcomes.npz").write_bytes(content)
    with pytest.raises(DataError, match="the run is damaged"):
        RunReport.load(folder)


def test_figures_are_written_into_text_only(saved: Path, tmp_path: Path) -> None:
    picture = tmp_path / "x.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(DataError, match=r"x\.png: expected a Markdown file"):
        write_card(RunReport.load(saved), picture)
    assert [path.name for path in tmp_path.iterdir()] == ["x.png"]


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(OSError, match="No space left") as raised:
        evaluations.run().save(tmp_path / "run")
    assert raised.value.filename == str(tmp_path / "run")
    assert not list(tmp_path.iterdir())
