"""Class vectors on disk: read again to the bit, by the same model and texts alone, never when damaged; bounded."""

import os
import time
from pathlib import Path

import numpy as np
import pytest
from support import toy

from tandem import class_vector_files, engine, model, prompts, version
from tandem.class_vector_files import ClassVectorFile
from tandem.engine import build
from tandem.home import cache_folder
from tandem.model import Model
from tandem.weights import Checkpoint

KEY = {"fingerprint": "f", "texts": (("cat",), ("a {}",), "error"), "dimensions": 3}
ROWS = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TANDEM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_vectors_are_read_again_to_the_bit() -> None:
    assert ClassVectorFile(KEY).read() is None
    ClassVectorFile(KEY).write(ROWS)
    found = ClassVectorFile(dict(reversed(KEY.items()))).read()
    assert found is not None
    assert found.dtype == np.float32
    assert found.tobytes() == ROWS.tobytes()


@pytest.mark.parametrize("changed", [{"fingerprint": "g"}, {"texts": (("dog",), ("a {}",), "error")}, {"device": "x"}])
def test_others_do_not_find_them(changed: dict[str, object]) -> None:
    ClassVectorFile(KEY).write(ROWS)
    assert ClassVectorFile({**KEY, **changed}).read() is None


@pytest.mark.parametrize("damage", ["bit", "cut", "empty", "renamed", "longer", "folder", "pipe"])
def test_damaged_files_are_not_taken_and_are_replaced(damage: str) -> None:
    file = ClassVectorFile(KEY)
    file.write(ROWS)
    content = file.path.read_bytes()
    if damage == "bit":
        file.path.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    elif damage == "renamed":
        ClassVectorFile({**KEY, "fingerprint": "g"}).write(ROWS + 1)
        os.replace(ClassVectorFile({**KEY, "fingerprint": "g"}).path, file.path)
    elif damage in ("folder", "pipe"):
        file.path.unlink()
        file.path.mkdir() if damage == "folder" else os.mkfifo(file.path)
    else:
        file.path.write_bytes({"cut": content[:-12], "empty": b"", "longer": content + bytes(12)}[damage])
    assert file.read() is None
    file.write(ROWS)
    read = file.read()
    if damage in ("folder", "pipe"):  # not ours to remove, and never waited for
        assert read is None
    else:
        assert read is not None
        assert np.array_equal(read, ROWS)


def test_a_folder_that_cannot_be_written_keeps_nothing(cache: Path) -> None:
    cache.write_text("a file where the folder should be")
    ClassVectorFile(KEY).write(ROWS)
    assert ClassVectorFile(KEY).read() is None


def test_what_was_not_used_for_longest_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(class_vector_files, "MAX_BYTES", 230)  # four of 56 bytes
    made = [ClassVectorFile({**KEY, "number": number}) for number in range(5)]
    for age, file in enumerate(made[:4]):
        file.write(ROWS)
        os.utime(file.path, (time.time() - 100 + age,) * 2)
    assert made[0].read() is not None  # the oldest, used now
    made[4].write(ROWS)
    assert [file.path.exists() for file in made] == [True, False, True, True, True]
    monkeypatch.setattr(class_vector_files, "MAX_BYTES", 80)
    made[1].write(ROWS)  # larger than a quarter of all
    assert not made[1].path.exists()


def test_a_model_computes_many_labels_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "MANY_PROMPTS", 4)
    monkeypatch.setattr(model, "PROMPTS_ON_DISK", 3)
    config = toy.config()
    checkpoint = Checkpoint(config, toy.tensors(config), toy.tokenizer(), "toy")
    asked: list[int] = []
    real = Model.embed_texts

    def counted(self: Model, texts: list[str], **options: str) -> np.ndarray:
        asked.append(len(texts))
        return real(self, texts, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Model, "embed_texts", counted)

    def fresh() -> Model:
        return Model(checkpoint, build(config, checkpoint.tensors))

    labels = ["cat", "dog", "fish", "do"]
    first = fresh().class_vectors(labels, "a {}")
    again = fresh().class_vectors(labels, "a {}")
    assert asked == [4]
    assert again.tobytes() == first.tobytes()
    assert not again.flags.writeable
    fresh().class_vectors(labels, "the {}")
    fresh().class_vectors(labels[:3], "a {}")  # too few to read all weights for
    fresh().class_vectors(labels[:3], "a {}")
    assert asked == [4, 4, 3, 3]
    known = fresh()
    assert known.fingerprint
    known.class_vectors(labels[:3], "a {}")
    again = fresh()
    assert again.fingerprint
    again.class_vectors(labels[:3], "a {}")
    assert asked == [4, 4, 3, 3, 3]
    assert len(list((cache_folder() / class_vector_files.FOLDER).iterdir())) == 3


@pytest.mark.parametrize("changed", ["engine's version", "Tandem's version", "a filled prompt"])
def test_another_version_or_another_prompt_is_computed_again(changed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "PROMPTS_ON_DISK", 2)
    config = toy.config()
    checkpoint = Checkpoint(config, toy.tensors(config), toy.tokenizer(), "toy")
    files = cache_folder() / class_vector_files.FOLDER

    def computed() -> int:
        fresh = Model(checkpoint, build(config, checkpoint.tensors))
        assert fresh.fingerprint
        fresh.class_vectors(["cat", "dog"], "a {}")
        return len(list(files.iterdir()))

    assert (computed(), computed()) == (1, 1)
    if changed == "a filled prompt":  # by other rules of filling, of the same label and template
        monkeypatch.setattr(prompts, "fill", lambda label, template: (template.replace("{}", label.upper()), 0))
    elif changed == "Tandem's version":
        monkeypatch.setattr(version, "__version__", "another")
    else:
        monkeypatch.setattr(engine, "version_of", lambda name: "another")
    assert computed() == 2
