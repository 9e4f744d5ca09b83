"""Class vectors on disk: read again to the bit, by the same model and texts alone, never when damaged; bounded."""

import os
import time
from pathlib import Path

import numpy as np
import pytest
from support import toy

from tandem import class_vector_files, engine, files, model, prompts, version
from tandem.class_vector_files import ClassVectorFile
from tandem.engine import build
from tandem.home import cache_folder
from tandem.model import Model
from tandem.weights import Checkpoint

KEY = {"fingerprint": "f", "texts": (("cat",), ("a {}",), "error"), "labels": 2, "dimensions": 3}
ROWS = np.eye(2, 3, dtype=np.float32)


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


def test_files_of_another_format_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    ClassVectorFile(KEY).write(ROWS)
    monkeypatch.setattr(class_vector_files, "FORMAT", class_vector_files.FORMAT + 1)
    assert ClassVectorFile(KEY).read() is None


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


@pytest.mark.parametrize("rows", [ROWS * np.nan, ROWS * 0, ROWS * 1e30, ROWS[:1], np.eye(3, dtype=np.float32)])
def test_what_no_model_computes_is_not_taken_whatever_its_checksum(rows: np.ndarray) -> None:
    ClassVectorFile(KEY).write(rows)
    assert ClassVectorFile(KEY).path.is_file()
    assert ClassVectorFile(KEY).read() is None


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="Windows has no such bits")
def test_a_file_that_others_may_have_written_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    file = ClassVectorFile(KEY)
    file.write(ROWS)
    file.path.chmod(0o666)
    assert file.read() is None
    file.write(ROWS)
    assert file.read() is not None  # written anew, for its owner
    owner = file.path.stat().st_uid
    monkeypatch.setattr(os, "getuid", lambda: owner + 1)
    assert (file.read() is None) == (owner != 0)  # what the administrator wrote is taken


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


def test_only_class_vectors_are_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What another process is writing beside them, under a name of its own, is older than all of them."""
    monkeypatch.setattr(class_vector_files, "MAX_BYTES", 230)  # four of 56 bytes
    first = ClassVectorFile({**KEY, "number": 0})
    first.write(ROWS)
    others = [files.temporary_path(first.path), first.path.parent / "notes.txt"]
    for path in others:
        path.write_bytes(bytes(200))
        os.utime(path, (1, 1))
    made = [ClassVectorFile({**KEY, "number": number}) for number in range(1, 6)]
    for file in made:
        file.write(ROWS)
    assert all(path.exists() for path in others)
    assert sum(file.path.exists() for file in (first, *made)) == 4  # the others do not count


def labelled(**how: object) -> Model:
    """A model whose class vectors are kept on disk, whatever the number of labels."""
    config = toy.config()
    seed = how.pop("seed", 0)
    assert isinstance(seed, int)
    checkpoint = Checkpoint(config, toy.tensors(config, seed), toy.tokenizer(), "toy")
    made = Model(checkpoint, build(config, checkpoint.tensors, **how))  # type: ignore[arg-type]
    assert made.fingerprint  # else nothing is looked up for few labels
    return made


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "PROMPTS_ON_DISK", 1)


@pytest.mark.usefixtures("few")
def test_models_of_other_weights_have_class_vectors_of_their_own() -> None:
    """Of the same name, shapes and labels."""
    first, other = labelled(), labelled(seed=1)
    theirs = first.class_vectors(["cat", "dog"], "a {}")
    mine = other.class_vectors(["cat", "dog"], "a {}")
    np.testing.assert_allclose(mine, other.embed_texts(["a cat", "a dog"]), atol=1e-6)
    assert np.abs(mine - theirs).max() > 0.01


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize(("name", "value"), [("precision", "bfloat16"), ("device", "gpu"), ("name", "torch")])
def test_a_model_that_computes_in_another_way_has_class_vectors_of_its_own(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    asked: list[str] = []

    def embedded(self: Model, texts: list[str], **options: str) -> np.ndarray:
        asked.append(getattr(self.engine, name))
        return np.ones((len(texts), self.config.embed_dim), np.float32)

    monkeypatch.setattr(Model, "embed_texts", embedded)
    other = labelled()
    setattr(other.engine, name, value)
    for each in (labelled(), other, labelled()):
        each.class_vectors(["cat", "dog"], "a {}")
    assert asked == [getattr(labelled().engine, name), value]


@pytest.mark.usefixtures("few")
def test_the_same_prompts_of_fewer_labels_are_averaged() -> None:
    several = labelled().class_vectors(["cat", "dog"], "a {}")
    one = labelled().class_vectors(["a"], ["{} cat", "{} dog"])
    assert one.shape == (1, several.shape[1])
    np.testing.assert_allclose(one, [several.sum(0) / np.linalg.norm(several.sum(0))], atol=1e-6)


@pytest.mark.usefixtures("few")
def test_long_labels_are_cut_or_split_as_they_were_asked_for() -> None:
    """In memory and on disk: one model asks for both, and another for the second alone."""
    labels = ["cat " * 100 + "dog", "fish"]
    asked = labelled()
    cut, split = (asked.class_vectors(labels, "{}", long=long) for long in ("truncate", "split"))
    again = labelled().class_vectors(labels, "{}", long="split")
    np.testing.assert_allclose(split, asked.embed_texts(labels, long="split"), atol=1e-6)
    np.testing.assert_array_equal(again, split)
    assert np.abs(cut[0] - split[0]).max() > 1e-3
    np.testing.assert_allclose(cut[1], split[1], atol=1e-6)


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
