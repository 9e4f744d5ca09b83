"""Prompts: labels filled into templates.

Knows texts only. The model makes one vector from the prompts of a label (normalise each, average, normalise again).
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from tandem.errors import TextError
from tandem.files import user_path

SLOT = "{}"
DEFAULT_TEMPLATE = "a photo of a {}."

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

    The tokenizer lowercases, so labels that differ only in case are duplicates: they would share a probability.
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


def parse_labels(text: str, source: str = "labels") -> list[str]:
    """Labels from `cat,dog,zebra`. Labels that contain commas can be read from a file."""
    return check_labels([part for part in text.split(",") if part.strip()], source)


def read_labels(path: Path) -> list[str]:
    """Labels from a UTF-8 file, one per line; ignores empty lines and lines that begin with `#`."""
    try:
        lines: Sequence[str] = user_path(path).read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise TextError(
            f"{path}: expected text in UTF-8, one label per line ({error.reason} at {error.start})"
        ) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise TextError(f"{path}: the file of labels or words cannot be read: {reason}") from None
    stripped = (line.strip() for line in lines)
    return check_labels((line for line in stripped if line and not line.startswith("#")), str(path))
