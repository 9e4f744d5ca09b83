"""What `tandem check` and its like say of a damaged collection, and how it is repaired, in the command line's words."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import flips
from support.flips import Answers, answers, checked

from tandem import cli
from tandem.cli import main, terminal
from tandem.cli.commands import check
from tandem.errors import DamageWarning

IMAGES = 24  # enough for an index


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with flips.small_indexes():
        yield flips.make(tmp_path_factory.mktemp("whole"), IMAGES).url


@pytest.fixture(scope="module")
def whole(url: str) -> Answers:
    return answers(url)


@pytest.fixture
def copy(url: str, tmp_path: Path) -> Path:
    return Path(shutil.copytree(url, tmp_path / "c.tandem"))


def change(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def test_the_command_says_how_to_repair_in_its_own_words(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (copy / "g1" / "vectors-1.f32").unlink()
    assert main(["remove", str(copy), "x"]) == 2
    said = capsys.readouterr().err
    assert f"vectors are missing; if that stays so: {terminal.program()} check {copy} --repair" in said
    assert "Collection.check" not in said
    spoken = cli._Warnings()
    spoken.show(DamageWarning("it is damaged", "my photos"), DamageWarning)
    spoken.show(DamageWarning("it is damaged"), DamageWarning)
    spoken.show(DamageWarning("it is damaged", "my photos"), DamageWarning)  # from elsewhere: no news
    first, second = capsys.readouterr().err.splitlines()
    assert first == f"tandem: warning: it is damaged; {terminal.program()} check 'my photos' --repair"
    assert second == "tandem: warning: it is damaged"


def test_what_only_a_copy_brings_back_is_not_called_repairable(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (copy / "g1" / "records.sqlite").unlink()
    assert main(["check", str(copy)]) == 1
    said = capsys.readouterr().out
    assert "damaged beyond repair: restore the collection from a copy, or index again into a new one" in said
    assert "--repair" not in said
    assert main(["check", str(copy), "--json"]) == 1
    assert [each["can_repair"] for each in json.loads(capsys.readouterr().out)["findings"]] == [False]


def test_photos_of_a_page_that_is_damaged_are_named_when_they_are_read_again(
    whole: Answers, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    database = copy / "g1" / "records.sqlite"
    lost = next(iter(whole.records))
    content = database.read_bytes()
    at = content.find(lost.encode()) // 8192 * 8192
    database.write_bytes(content[:at] + b"\x5a" * 8192 + content[at + 8192 :])
    after = checked(str(copy), repair=True)
    assert len(after.read_again) == after.renewed > 0
    assert set(after.read_again) <= {str(record[0]) for record in whole.records.values()}
    check.show(after, str(copy))
    assert after.read_again[0] in capsys.readouterr().err


def test_the_command_says_what_is_damaged_and_repairs_it(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (index,) = (copy / "g1").glob("index-*.faiss")
    change(index, 1000)
    assert main(["check", str(copy), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["sound"], found["repaired"], found["images"]) == (False, False, IMAGES - 1)
    assert [each["part"] for each in found["findings"]] == ["index"]
    assert main(["check", str(copy), "--model", "ViT-B/32"]) == 2
    assert "--model goes with --repair" in capsys.readouterr().err
    assert main(["check", str(copy), "--repair"]) == 0
    assert "repaired" in capsys.readouterr().out
    assert main(["check", str(copy)]) == 0
    assert "all is well" in capsys.readouterr().out
