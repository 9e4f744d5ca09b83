"""A fingerprint that is remembered holds for exactly the files that it was computed of, read in the same way."""

import json
import os
import shutil

import pytest
from support import toy

from tandem import weights
from tandem.home import cache_folder
from tandem.weights import known_fingerprints
from tandem.weights.known_fingerprints import file_identity, fingerprint_of


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("TANDEM_CACHE", str(tmp_path / "cache"))
    return toy.folder(tmp_path / "toy")


@pytest.fixture
def hashed(monkeypatch):
    """The models that were hashed, which remembering spares."""
    done = []
    real = known_fingerprints.fingerprint
    monkeypatch.setattr(known_fingerprints, "fingerprint", lambda each: done.append(real(each)) or done[-1])
    return done


def test_what_is_remembered_is_what_is_computed(folder, hashed):
    first = fingerprint_of(folder)
    again = fingerprint_of(folder)
    assert first.fingerprint == again.fingerprint == weights.fingerprint(weights.read(folder))
    assert (len(hashed), first.checkpoint is None, again.checkpoint is None) == (1, False, True)
    assert len(json.loads((cache_folder() / "fingerprints.json").read_text())["models"]) == 1


def test_every_file_of_a_model_counts(folder):
    known = {file_identity(folder)}
    for name in sorted(os.listdir(folder)):
        file = folder / name
        status = file.stat()
        content = file.read_bytes()
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))  # of the same size and date
        while file.stat().st_ctime_ns == status.st_ctime_ns:  # until the file system's clock has moved
            os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
        known.add(file_identity(folder))
    assert len(known) == 1 + len(os.listdir(folder)) >= 4
    (folder / "added_tokens.json").write_text("{}")
    assert file_identity(folder) not in known


def test_a_changed_configuration_is_another_model(folder, hashed):
    """Of the same weights and words."""
    before = fingerprint_of(folder).fingerprint
    plain = json.loads((folder / "config.json").read_text())
    plain["vision"]["activation"] = "quick_gelu"
    (folder / "config.json").write_text(json.dumps(plain))
    found = fingerprint_of(folder).fingerprint
    assert found != before
    assert found == weights.fingerprint(weights.read(folder))
    assert len(hashed) == 2


def test_a_copy_an_activation_and_another_version_are_computed_anew(folder, hashed, tmp_path):
    first = fingerprint_of(folder, version="1").fingerprint
    copy = shutil.copytree(folder, tmp_path / "copy")
    assert fingerprint_of(copy, version="1").fingerprint == first
    assert len(hashed) == 2
    assert len({file_identity(folder, activation) for activation in (None, "gelu", "quick_gelu")}) == 3
    assert fingerprint_of(folder, version="2").fingerprint == first
    assert len(hashed) == 3
    fingerprint_of(folder, version="1")  # which version 2 has forgotten
    assert len(hashed) == 4


@pytest.mark.parametrize("content", ["", "{", "[]", '{"version": ""}', '{"version": "", "models": [1]}', "[" * 100_000])
def test_a_damaged_file_remembers_nothing(folder, hashed, content):
    cache_folder().mkdir(parents=True, exist_ok=True)
    (cache_folder() / "fingerprints.json").write_text(content)
    assert fingerprint_of(folder).fingerprint == fingerprint_of(folder).fingerprint
    assert len(hashed) == 1


def test_the_latest_models_are_remembered(folder, hashed, monkeypatch, tmp_path):
    monkeypatch.setattr(known_fingerprints, "_MOST", 2)
    other, third = (shutil.copytree(folder, tmp_path / name) for name in ("other", "third"))
    for each in (folder, other, third, third, other):
        fingerprint_of(each)
    assert len(hashed) == 3
    fingerprint_of(folder)
    assert len(hashed) == 4
