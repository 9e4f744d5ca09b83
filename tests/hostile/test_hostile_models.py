"""Weights, configurations and tokenizers that ask for more than a model: refused in one line, by a process whose memory
and processor time are limited."""

import itertools
from pathlib import Path

import pytest
from support import toy
from support.bounded import Outcome, bounded
from support.hostile_models import (
    ARCHIVES,
    FOLDERS,
    PROGRAMS,
    SAFETENSORS,
    SPECIAL,
    SPECIAL_INSIDE,
    copied,
    legacy,
    zipped,
)

MEGABYTES = 300
IMPORTED = (
    *("tandem.weights.reading", "tandem.weights.torch_legacy", "tandem.weights.torch_zip", "tandem.weights.folder"),
    *("tandem.weights.single_file", "tandem.weights.safetensors_file", "tandem.tokenizer.tokenizer", "tokenizers"),
    *("tandem.weights.transformers", "tandem.weights.open_clip"),
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy.folder(tmp_path_factory.mktemp("hostile") / "model")


def refused(path: Path, words: str) -> Outcome:
    outcome = bounded("support.hostile_models:load", str(path), imported=IMPORTED)
    assert outcome.kind in ("WeightsError", "ConfigError"), outcome.result
    assert outcome.error is not None
    assert str(path) in outcome.error
    assert words in outcome.error
    assert len(outcome.error.splitlines()) == 1
    assert len(outcome.error) < len(str(path)) + 800
    assert outcome.megabytes < MEGABYTES
    return outcome


@pytest.mark.slow_if("a description of 20 MB", "a million instructions")
@pytest.mark.parametrize(("name", "container"), list(itertools.product(PROGRAMS, ("zip", "legacy"))))
def test_pickles(name: str, container: str, tmp_path: Path) -> None:
    make, words = PROGRAMS[name]
    path = tmp_path / "model.pt"
    path.write_bytes((zipped if container == "zip" else legacy)(make()))
    refused(path, words if container == "zip" or "20 MB" not in name else "")


@pytest.mark.parametrize("name", ARCHIVES)
def test_archives(name: str, tmp_path: Path) -> None:
    make, words = ARCHIVES[name]
    path = tmp_path / "model.pt"
    path.write_bytes(make())
    refused(path, words)


@pytest.mark.slow_if("a header of 90 MB", "a header of many lists", "a million dimensions")
@pytest.mark.parametrize("name", SAFETENSORS)
def test_safetensors(name: str, tmp_path: Path) -> None:
    make, words = SAFETENSORS[name]
    path = tmp_path / "model.safetensors"
    path.write_bytes(make())
    refused(path, words)


@pytest.mark.slow_if("a configuration of 100 MB", "a million steps")
@pytest.mark.parametrize("name", FOLDERS)
def test_configurations_and_tokenizers(name: str, model: Path, tmp_path: Path) -> None:
    change, words = FOLDERS[name]
    folder = copied(model, tmp_path / "model")
    change(folder)
    refused(folder, words)


@pytest.mark.parametrize("name", SPECIAL)
@pytest.mark.parametrize("suffix", ["", ".safetensors", ".pt"])
def test_what_is_no_file_is_no_model(name: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"model{suffix}"
    SPECIAL[name](path)
    refused(path, f"expected a file, found {name}")


@pytest.mark.parametrize("name", SPECIAL_INSIDE)
def test_what_is_no_file_is_no_part_of_a_model(name: str, model: Path, tmp_path: Path) -> None:
    folder = copied(model, tmp_path / "model")
    SPECIAL_INSIDE[name](folder)
    refused(folder, "")


def test_the_model_that_was_changed_is_read(model: Path) -> None:
    assert "logit_scale" in bounded("support.hostile_models:load", str(model), imported=IMPORTED).result


def test_a_text_of_megabytes_is_refused() -> None:
    outcome = bounded("support.hostile_models:split", "5000000", imported=IMPORTED)
    assert outcome.kind == "TextError"
    assert outcome.error == "text 0: 5,000,000 characters, more than the 1,000,000 that are read: give parts"
    assert outcome.megabytes < MEGABYTES
    assert bounded("support.hostile_models:split", "20000", imported=IMPORTED).result == 2500 // 75 + 1
