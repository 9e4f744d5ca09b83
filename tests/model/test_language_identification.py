"""Sentences of other languages in Latin letters: found where it is sure, and never among English labels."""

import json
import tarfile
from pathlib import Path

import pyarrow.parquet
import pytest

from tandem.language_identification import is_not_english


@pytest.mark.parametrize(
    "text",
    [
        "un perro en la nieve",
        "ein Hund im Schnee",
        "un chien dans la neige",
        "una foto di un cane",
        "een hond in de sneeuw",
        "um cachorro na neve",
        "La plage au coucher du soleil.",
        "Un perro en la playa de Barcelona",
        "zwei Hunde auf der Wiese",
    ],
)
def test_sentences_of_other_languages(text: str) -> None:
    assert is_not_english(text)


@pytest.mark.parametrize(
    "text",
    [
        "", "perro", "piñata", "crème brûlée", "café au lait", "un gato", "spaghetti alla carbonara", "pas de deux",
        "hear no evil , see no evil", "a dog in the snow", "a man in an El Camino with la vida loca on it", "das Auto",
        "Van de Graaff generator", "Villa del Mar, La Jolla", "Los Angeles del Rey", "Dos Equis en Los Cabos",
        "Henry van de Velde chair", "I am making a die cast", "Mies van der Rohe and die cast toys",
    ],
)  # fmt: skip
def test_names_and_english_are_left_alone(text: str) -> None:
    assert not is_not_english(text)


def test_no_false_alarm_among_captions_and_class_names(shared: Path) -> None:
    texts: list[str] = []
    with tarfile.open(shared / "data" / "flickr8k" / "dev-00000.tar") as tar:
        for member in tar:
            if member.name.endswith(".json"):
                file = tar.extractfile(member)
                assert file is not None
                texts += json.load(file)["captions"]
    for name in ("food", "nature"):
        table = pyarrow.parquet.read_table(shared / "data" / "broad" / f"{name}.parquet", columns=["label"])
        texts += filter(None, table.column("label").unique().to_pylist())
    assert len(texts) > 5500
    assert [text for text in texts if is_not_english(text)] == []
