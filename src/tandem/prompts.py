"""Prompts: labels filled into templates.

Knows texts only. The model makes one vector from the prompts of a label (normalise each, average, normalise again).
"""

import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from tandem.errors import TextError, did_you_mean
from tandem.files import user_path

SLOT = "{}"
VOCABULARY = Path(__file__).parent / "assets" / "vocabulary.txt"
MOST_BYTES = 2**26  # of a file of labels
DEFAULT_TEMPLATE = "a photo of a {}."
ENGLISH = "en"
# Names that are typed where a code is expected
_CODES = {
    "arabic": "ar", "czech": "cs", "danish": "da", "dansk": "da", "german": "de", "deutsch": "de", "english": "en",
    "englisch": "en", "spanish": "es", "español": "es", "finnish": "fi", "suomi": "fi", "french": "fr",
    "français": "fr", "hindi": "hi", "indonesian": "id", "italian": "it", "italiano": "it", "japanese": "ja",
    "korean": "ko", "dutch": "nl", "nederlands": "nl", "polish": "pl", "polski": "pl", "portuguese": "pt",
    "português": "pt", "russian": "ru", "swedish": "sv", "svenska": "sv", "thai": "th", "turkish": "tr",
    "türkçe": "tr", "ukrainian": "uk", "vietnamese": "vi", "chinese": "zh",
}  # fmt: skip

# Labels, or the name of each with its text in several languages: {"dog": {"de": "Hund", "fr": "chien"}}
Labels: TypeAlias = Sequence[str] | Mapping[str, Mapping[str, str]]

# Variations of how a thing is shown: camera and light, distance and framing, state and surroundings, and media other
# than photos. The average over them keeps what they have in common.
ENSEMBLE: tuple[str, ...] = (
    "a photo of a {}.",
    "a photo of the {}.",
    "a photo of one {}.",
    "a photo of several {}.",
    "a picture that shows a {}.",
    "a snapshot of a {} taken with a phone.",
    "a sharp, well-lit photo of a {}.",
    "a blurred photo of a {}.",
    "a dark photo of a {}.",
    "an overexposed photo of a {}.",
    "a low-resolution photo of a {}.",
    "a black-and-white photo of a {}.",
    "an old photo of a {}.",
    "a close-up of a {}.",
    "a detail of a {}.",
    "a {} seen from far away.",
    "a {} seen from above.",
    "a {} seen from the side.",
    "a {}, partly hidden.",
    "a small {} in a wide scene.",
    "a large {} that fills the picture.",
    "a {} on a plain background.",
    "a {} outdoors.",
    "a {} indoors.",
    "a {} in its usual surroundings.",
    "a drawing of a {}.",
    "a painting of a {}.",
    "a cartoon of a {}.",
    "a toy {}.",
    "a rendering of a {}.",
)


def languages() -> list[str]:
    """The languages that have templates, as ISO 639-1 codes."""
    from tandem.prompt_templates import TEMPLATES

    return sorted([ENGLISH, *TEMPLATES])


def templates(language: str = ENGLISH) -> tuple[str, ...]:
    """The built-in templates of a language ("de", "pt-BR"), the default one first. Raises `TextError` for others."""
    from tandem.prompt_templates import TEMPLATES

    code = base_language(language)
    if code == ENGLISH:
        return ENSEMBLE
    if code not in TEMPLATES:
        raise TextError(
            f"language {language!r}: there are templates for {', '.join(languages())}; for another, give templates"
        )
    return TEMPLATES[code]


def default_templates(language: str | None) -> tuple[str, ...]:
    """The one template that labels of a language are filled into."""
    return (DEFAULT_TEMPLATE,) if language is None else templates(language)[:1]


def is_default(templates: str | Sequence[str] | None, language: str | None = None) -> bool:
    """Whether labels are filled into one template alone: the default one, or that of their language."""
    if templates is None:
        return True
    known = language is not None and base_language(language) in languages()
    return check_templates(templates) in ((DEFAULT_TEMPLATE,), default_templates(language if known else None))


def base_language(language: str) -> str:
    """`pt` of `pt-BR` and `PT_br`. Raises `TextError` for what is no code."""
    code = language.replace("_", "-").partition("-")[0].strip().lower() if isinstance(language, str) else ""
    if not (2 <= len(code) <= 3 and code.isascii() and code.isalpha()):
        raise TextError(f"language: expected a code such as de or pt-BR, got {language!r}{_code_meant(language)}")
    return code


def _code_meant(language: str) -> str:
    """`; did you mean 'de'?` for the name of a language, or ""."""
    code = _CODES.get(language.strip().lower()) if isinstance(language, str) else None
    return f"; did you mean {code!r}?" if code else ""


def labels_in(labels: Labels, language: str | None = None, source: str = "labels") -> tuple[list[str], list[str]]:
    """The names of labels, which answers give, and their texts in a language, which a model reads.

    Without a language, or for labels that have no texts by language, both are the same. Raises `TextError` for a label
    without a text in the language, and as `check_labels`.
    """
    names = check_labels(labels, source)
    if not isinstance(labels, Mapping) or language is None:
        return names, names
    texts = [_text_in(name, labels[given], language, source) for name, given in zip(names, labels, strict=True)]
    return names, check_labels(texts, f"{source} in {language}")


def _text_in(name: str, texts: Mapping[str, str], language: str, source: str) -> str:
    for code in (language, base_language(language)):
        if code in texts:
            return texts[code]
    raise TextError(
        f"{source}: {name!r} has no text in the language {language!r}, but in {', '.join(texts) or 'none'}"
        f"{did_you_mean(language, texts)}"
    )


def several(texts: str | Iterable[str]) -> Iterable[str]:
    """Normalise one text or several to an iterable. Raises `TextError` for anything else."""
    if not isinstance(texts, Iterable):
        raise TextError(f"texts: expected a text or several, got {type(texts).__name__}")
    return [texts] if isinstance(texts, str) else texts


def check_template(template: str) -> str:
    """Return the template. Raises `TextError` unless it has `{}`, the placeholder of the label, exactly once."""
    if not isinstance(template, str) or template.count(SLOT) != 1:
        raise TextError(
            f"template {template!r}: expected {SLOT} exactly once, where the label goes, as in {DEFAULT_TEMPLATE!r}"
        )
    return template


def check_templates(templates: str | Iterable[str]) -> tuple[str, ...]:
    """Normalise one template or several to a tuple. Raises `TextError` if there is none, or an invalid one."""
    checked = tuple(check_template(t) for t in ([templates] if isinstance(templates, str) else templates))
    if not checked:
        raise TextError(f"no template: give at least one, as {DEFAULT_TEMPLATE!r}")
    return checked


def fill(label: str, templates: str | Iterable[str] = DEFAULT_TEMPLATE) -> list[str]:
    """Fill the label into each template. Braces in the label have no special meaning."""
    return [template.replace(SLOT, label) for template in check_templates(templates)]


def _as_list(text: str) -> str:
    """Advice for a string that was given instead of a list of labels."""
    return "split it with parse_labels" if "," in text else f"give it in a list: [{text!r}]"


def check_labels(labels: Iterable[str], source: str = "labels") -> list[str]:
    """The labels, stripped of surrounding blanks. Raises `TextError` for empty, duplicate or no labels.

    Labels that differ only in case are duplicates: most tokenizers lowercase, and they would share a probability.
    """
    if isinstance(labels, str):
        raise TextError(f"{source}: expected a list of labels, got the string {labels!r}; {_as_list(labels)}")
    checked: list[str] = []
    first_seen: dict[str, int] = {}
    for number, label in enumerate(labels, start=1):
        if not isinstance(label, str) or not label.strip():
            raise TextError(f"{source}: label {number}: expected a word or a phrase, got {label!r}")
        checked.append(label.strip())
        first = first_seen.setdefault(" ".join(label.lower().split()), number)
        if first != number:
            raise TextError(f"{source}: {checked[-1]!r} is given twice, as label {first} and {number}; leave one out")
    if not checked:
        raise TextError(f"{source}: no labels: give at least one")
    return checked


def check_labels_or_head(
    labels: Labels | None,
    head: object | None,
    *,
    templates: str | Sequence[str] | None = None,
    language: str | None = None,
    long: str = "error",
    independent: bool = False,
) -> None:
    """Raises `TextError` unless exactly one of both is given, and for options of labels beside a head."""
    if (labels is None) == (head is None):
        raise TextError(f"expected either labels or a head, got {'neither' if head is None else 'both'}")
    if head is not None and (templates is not None or language is not None or long != "error" or independent):
        raise TextError("templates, language, long and independent are for labels; a head has its own classes")


def parse_labels(text: str, source: str = "labels") -> list[str]:
    """Labels from `cat,dog,zebra`. Labels that contain commas can be read from a file."""
    return check_labels([part for part in text.split(",") if part.strip()], source)


def read_labels(path: Path) -> Labels:
    """Labels from a file in UTF-8: one per line, or with their texts in several languages (.csv, .json).

    Of lines, empty ones and those that begin with `#` are ignored. A .csv has a header: the first column is the label's
    name, each further one its text in the language that its heading names (`name,de,fr`); a first heading that is a
    language (`en,de,fr`) counts as one too. A .json is {"dog": {"de": "Hund", "fr": "chien"}}, or a list.
    """
    suffix = path.suffix.lower()
    try:
        with user_path(path).open("rb") as file:
            read = file.read(MOST_BYTES + 1)
        if len(read) > MOST_BYTES:
            raise TextError(f"{path}: expected labels of at most {MOST_BYTES:,} bytes in all, found more")
        content = io.TextIOWrapper(io.BytesIO(read), encoding="utf-8-sig").read()
    except UnicodeDecodeError as error:
        raise TextError(
            f"{path}: expected text in UTF-8, one label per line ({error.reason} at {error.start})"
        ) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise TextError(f"{path}: the file of labels or words cannot be read: {reason}") from None
    if suffix == ".csv":
        return _labels_of_csv(content, str(path))
    if suffix == ".json":
        return _labels_of_json(content, str(path))
    stripped = (line.strip() for line in content.splitlines())
    return check_labels((line for line in stripped if line and not line.startswith("#")), str(path))


def read_vocabulary() -> list[str]:
    """The words that come with Tandem: names of things, for clusters, calibrations and measurements."""
    return list(read_labels(VOCABULARY))


def _labels_of_csv(content: str, source: str) -> Labels:
    import csv

    rows = [[cell.strip() for cell in row] for row in csv.reader(content.splitlines()) if any(map(str.strip, row))]
    if not rows:
        raise TextError(f"{source}: no labels: give at least one")
    heading, *rows = rows
    codes = [_language_of_heading(text, source) if i else text for i, text in enumerate(heading)]
    first = 0 if heading[0].lower() in languages() else 1
    labels: dict[str, dict[str, str]] = {}
    for number, row in enumerate(rows, start=2):
        if len(row) > len(heading) or row[0] in labels:
            problem = f"{row[0]!r} is given twice" if row[0] in labels else f"expected {len(heading)} values"
            raise TextError(f"{source}, line {number}: {problem}")
        labels[row[0]] = {code: text for code, text in zip(codes[first:], row[first:], strict=False) if text}
    return _checked(labels, source)


def _language_of_heading(heading: str, source: str) -> str:
    try:
        return base_language(heading)
    except TextError:
        raise TextError(
            f"{source}: the heading {heading!r}: expected a code such as de or pt-BR, for the language of its column"
            f"{_code_meant(heading)}"
        ) from None


def _labels_of_json(content: str, source: str) -> Labels:
    import json

    try:
        plain: Any = json.loads(content)
    except ValueError as error:
        raise TextError(f"{source}: expected JSON: {error}") from None
    if isinstance(plain, list):
        return check_labels(plain, source)
    if not isinstance(plain, dict) or not all(
        isinstance(texts, dict) and all(isinstance(text, str) for text in texts.values()) for texts in plain.values()
    ):
        raise TextError(f'{source}: expected labels with their texts by language: {{"dog": {{"de": "Hund"}}}}')
    return _checked(plain, source)


def _checked(labels: Mapping[str, Mapping[str, str]], source: str) -> Labels:
    check_labels(labels, source)
    return labels
