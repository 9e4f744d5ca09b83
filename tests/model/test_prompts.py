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


def test_labels_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    monkeypatch.setattr(prompts, "MOST_BYTES", 1000)
    with pytest.raises(TextError, match="/dev/zero: expected labels of at most 1,000 bytes in all"):
        prompts.read_labels(Path("/dev/zero"))


# --- languages -----------------------------------------------------------------------------------------------------


def test_templates_of_many_languages() -> None:
    codes = prompts.languages()
    assert len(codes) >= 20
    assert {"en", "de", "fr", "es", "it", "pt", "nl", "pl", "ru", "zh", "ja", "ko", "ar", "hi", "tr"} <= set(codes)
    for code in codes:
        templates = prompts.templates(code)
        assert len(templates) == len(set(templates)) >= 5
        assert prompts.check_templates(templates) == templates
    assert prompts.templates("en") == prompts.templates() == prompts.ENSEMBLE
    assert prompts.templates("pt-BR") == prompts.templates("PT_br") == prompts.templates("pt")
    assert prompts.default_templates("de") == ("ein Foto von {}.",)
    assert prompts.default_templates(None) == prompts.default_templates("en") == (prompts.DEFAULT_TEMPLATE,)
    with pytest.raises(TextError, match="there are templates for ar, cs"):
        prompts.templates("eo")
    for code in ("", "german", "d", "12", None):
        with pytest.raises(TextError, match="expected a code such as de"):
            prompts.templates(code)  # type: ignore[arg-type]


def test_labels_with_texts_by_language() -> None:
    labels = {"dog": {"de": "Hund", "pt": "cão", "pt-BR": "cachorro"}, "cat": {"de": "Katze", "pt": "gato"}}
    assert prompts.labels_in(labels) == (["dog", "cat"], ["dog", "cat"])
    assert prompts.labels_in(labels, "de") == (["dog", "cat"], ["Hund", "Katze"])
    assert prompts.labels_in(labels, "pt-BR") == (["dog", "cat"], ["cachorro", "gato"])
    assert prompts.labels_in(["Hund"], "de") == (["Hund"], ["Hund"])
    with pytest.raises(TextError, match="'dog' has no text in the language 'fr', but in de, pt, pt-BR"):
        prompts.labels_in(labels, "fr")
    with pytest.raises(TextError, match="labels in de: 'Maus' is given twice"):
        prompts.labels_in({"mouse": {"de": "Maus"}, "computer mouse": {"de": "Maus"}}, "de")


def test_files_of_labels_with_languages(tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    table.write_text('en,de,pt-BR\ndog,Hund,cachorro\n\n"hot dog, plain",Hotdog,\n', encoding="utf-8")
    labels = prompts.read_labels(table)
    assert labels == {
        "dog": {"en": "dog", "de": "Hund", "pt": "cachorro"},
        "hot dog, plain": {"en": "hot dog, plain", "de": "Hotdog"},
    }
    assert prompts.labels_in(labels, "en") == (list(labels), list(labels))
    with pytest.raises(TextError, match="'hot dog, plain' has no text in the language 'pt'"):
        prompts.labels_in(labels, "pt")
    table.write_text("name,de\nanimal 1,Hund\n", encoding="utf-8")
    assert prompts.read_labels(table) == {"animal 1": {"de": "Hund"}}
    for content, reason in (
        ("", "no labels"),
        ("en,de\n", "no labels"),
        ("en,German\ndog,Hund\n", r"labels\.csv: the heading 'German': expected a code .*did you mean 'de'"),
        ("deutsch,english\nHund,dog\n", r"labels\.csv: the heading 'english': expected a code .*did you mean 'en'"),
        ("name,klingon\nHund,x\n", r"labels\.csv: the heading 'klingon': .*column$"),
        ("en,de\ndog,Hund,x\n", "line 2: expected 2 values"),
        ("en,de\ndog,Hund\ndog,Hund\n", "line 3: 'dog' is given twice"),
    ):
        table.write_text(content, encoding="utf-8")
        with pytest.raises(TextError, match=reason):
            prompts.read_labels(table)
    listed = tmp_path / "labels.json"
    listed.write_text('{"dog": {"de": "Hund"}}', encoding="utf-8")
    assert prompts.read_labels(listed) == {"dog": {"de": "Hund"}}
    listed.write_text('["dog", "cat"]', encoding="utf-8")
    assert prompts.read_labels(listed) == ["dog", "cat"]
    for content, reason in (("{", "expected JSON"), ('{"dog": "Hund"}', "texts by language"), ("{}", "no labels")):
        listed.write_text(content, encoding="utf-8")
        with pytest.raises(TextError, match=reason):
            prompts.read_labels(listed)


def test_the_name_of_a_language_is_answered_with_its_code() -> None:
    with pytest.raises(TextError, match=r"expected a code such as de or pt-BR, got 'german'; did you mean 'de'\?$"):
        prompts.templates("german")
    assert set(prompts._CODES.values()) == set(prompts.languages())


def test_our_vocabulary_is_clean() -> None:
    words = prompts.read_vocabulary()
    assert len(words) > 1000
    assert all(word == word.strip() and len(word) < 24 for word in words)
