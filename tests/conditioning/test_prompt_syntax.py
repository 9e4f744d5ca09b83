"""Weights in parentheses, as the web UIs read them."""

import pytest

from tandem.conditioning import parse_prompt
from tandem.errors import ConditioningError

CASES = {
    "": [],
    "a red fox": [("a red fox", 1)],
    "a (red) fox": [("a ", 1), ("red", 1.1), (" fox", 1)],
    "a ((red)) fox": [("a ", 1), ("red", 1.21), (" fox", 1)],
    "a [red] fox": [("a ", 1), ("red", 1 / 1.1), (" fox", 1)],
    "a (red:1.3) fox": [("a ", 1), ("red", 1.3), (" fox", 1)],
    "(red:0)": [("red", 0)],
    "(red: -.5 )": [("red", -0.5)],
    "((red:2) fox)": [("red", 2.2), (" fox", 1.1)],
    "([red])": [("red", 1)],
    r"a \(red\) fox": [("a (red) fox", 1)],
    r"\[a\] \\": [(r"[a] \ ".rstrip(), 1)],
    "a (red fox": [("a ", 1), ("red fox", 1.1)],
    "a [red (fox": [("a ", 1), ("red ", 1 / 1.1), ("fox", 1)],
    "a red) fox]": [("a red) fox]", 1)],
    "at 10:30, a fox": [("at 10:30, a fox", 1)],
    "a:1.3) b": [("a:1.3) b", 1)],
    "(a:b:1.2)": [("a:b", 1.2)],
    "(a)(b)": [("ab", 1.1)],
}


@pytest.mark.parametrize("prompt", CASES)
def test_the_parts_of_a_prompt(prompt):
    found = [(each.text, pytest.approx(each.weight)) for each in parse_prompt(prompt)]
    assert found == CASES[prompt]
    assert not any(each.breaks for each in parse_prompt(prompt))


def test_break_begins_a_chunk():
    found = [(each.text.strip(), each.weight, each.breaks) for each in parse_prompt("a BREAK b BREAK (c:2) BREAKFAST")]
    assert found == [("a", 1, False), ("b", 1, True), ("c", 2, True), ("BREAKFAST", 1, False)]


@pytest.mark.parametrize(
    ("prompt", "says"),
    [
        ("a [cat:dog:0.5]", "changes it between the steps"),
        ("a [cat:0.5]", "changes it between the steps"),
        ("a [cat|dog]", "changes it between the steps"),
        ("(" * 5000 + "fox", "nests more than 50"),
        ("a fox <lora:ink:0.8>", "asks for weights, not words"),
        ("a (fox:900)", "a weight of 900; expected -100 to 100"),
        ("(fox:" + "9" * 400 + ")", "expected -100 to 100"),
    ],
)
def test_what_belongs_elsewhere_is_refused(prompt, says):
    with pytest.raises(ConditioningError, match=says):
        parse_prompt(prompt)


def test_escaped_brackets_are_no_schedule():
    assert [each.text for each in parse_prompt(r"a \[cat|dog\]")] == ["a [cat|dog]"]
