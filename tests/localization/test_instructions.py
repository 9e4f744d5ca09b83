"""What an instruction is about."""

import pytest

from tandem.errors import TextError
from tandem.localization.instructions import read_instruction


@pytest.mark.parametrize(
    ("text", "thing"),
    [
        ("pick up the red ball from the table", "red ball"),
        ("the one with a hat", "hat"),
        ("Please put the blue cup on the shelf.", "blue cup"),
        ("Could you hand me the scissors?", "scissors"),
        ("where is my dog", "dog"),
        ("which one has a beard?", "beard"),
        ("a dog", "dog"),
        ("red car", "red car"),
        ("the picture of a cat", "cat"),
        ("the photo that shows a beach", "beach"),
        ("grab the knife next to the plate and put it down", "knife"),
        ("find me a man with a red umbrella", "man with a red umbrella"),
        ("touch the green button with your hand", "green button"),
        ("take the second book off the pile", "second book"),
        ("open the drawer", "drawer"),
        ("Ball", "Ball"),
    ],
)
def test_the_thing_is_taken_out(text: str, thing: str) -> None:
    assert read_instruction(text).thing == thing


def test_what_was_left_out_is_told() -> None:
    found = read_instruction("please pick up the red ball from the table")
    assert found.left_out == ("please", "pick up", "from the table")


@pytest.mark.parametrize("text", ["", "  ", "?!", "pick up the"])
def test_nothing_to_look_for_is_an_error(text: str) -> None:
    with pytest.raises(TextError, match="expected words for a thing"):
        read_instruction(text)
