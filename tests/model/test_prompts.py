"""Labels and templates become prompts; invalid ones are refused with a reason."""

from pathlib import Path

import pytest

from tandem import prompts
from tandem.errors import TextError
from tandem.tokenizer import Tokenizer


def test_fill() -> None:
    assert prompts.fill("cat") == ["a photo of a cat."]
    assert prompts.fill("cat", "{}!") == ["cat!"]
    assert prompts.fill("cat", ["one {}", "two {}s"]) == ["one cat", "two cats"]
    assert prompts.fill("{} or {0}", "a {}") == ["a {} or {0}"]


@pytest.mark.parametrize("template", ["a photo", "{} and {}", "a {label}", "", None])
def test_templates_without_exactly_one_place_are_refused(template: str) -> None:
    with pytest.raises(TextError, match="exactly once"):
        prompts.check_template(template)
    with pytest.raises(TextError, match="exactly once"):
        prompts.fill("cat", ["a {}", template])


def test_no_template_at_all() -> None:
    with pytest.raises(TextError, match="no template"):
        prompts.fill("cat", [])


def test_the_ensemble() -> None:
    assert 20 <= len(prompts.ENSEMBLE) == len(set(prompts.ENSEMBLE)) <= 30
    assert prompts.check_templates(prompts.ENSEMBLE) == prompts.ENSEMBLE
    assert prompts.DEFAULT_TEMPLATE in prompts.ENSEMBLE
    texts = prompts.fill("great white shark", prompts.ENSEMBLE)
    assert all("great white shark" in text for text in texts)
    assert Tokenizer.clip()(texts).shape[1] <= 20  # short: a text costs what its tokens cost


def test_labels_of_a_line() -> None:
    assert prompts.parse_labels("cat,dog, great white shark ,") == ["cat", "dog", "great white shark"]
    for text in ("", " , ,"):
        with pytest.raises(TextError, match="no labels"):
            prompts.parse_labels(text)


def test_labels_given_twice() -> None:
    with pytest.raises(TextError, match="'Great  Dane' is given twice, as label 1 and 3"):
        prompts.check_labels(["great dane", "cat", " Great  Dane"])


def test_labels_that_are_none() -> None:
    with pytest.raises(TextError, match="label 2: expected a word or a phrase, got ''"):
        prompts.check_labels(["cat", ""])
    with pytest.raises(TextError, match="label 1: expected a word or a phrase, got 7"):
        prompts.check_labels([7])  # type: ignore[list-item]
    with pytest.raises(TextError, match=r"give it in a list: \['cat'\]"):
        prompts.check_labels("cat")
    with pytest.raises(TextError, match="parse_labels"):
        prompts.check_labels("cat,dog")


def test_labels_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_bytes("\ufeff# animals\ncat\r\n\n  dog  \ncafé, outdoors\nC#\n".encode())
    assert prompts.read_labels(path) == ["cat", "dog", "café, outdoors", "C#"]
    path.write_text("cat\ndog\nCAT\n")
    with pytest.raises(TextError, match=r"labels\.txt: 'CAT' is given twice"):
        prompts.read_labels(path)
    path.write_text("# nothing else\n")
    with pytest.raises(TextError, match=r"labels\.txt: no labels"):
        prompts.read_labels(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TextError, match=r"labels\.txt: expected text in UTF-8"):
        prompts.read_labels(path)
    for other in (tmp_path, tmp_path / "missing.txt"):
        with pytest.raises(TextError, match="cannot be read"):
            prompts.read_labels(other)
