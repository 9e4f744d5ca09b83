"""How texts are cleaned before they are tokenized: the ways of the models, by their name in a model's configuration.

A wrong one costs accuracy without any other sign. Knows strings only; no vocabulary.
"""

import html
import re
import string
import warnings
from collections.abc import Callable, Mapping

from tandem.config import Cleaning

# ftfy deletes these even in plain ASCII (but keeps tab, line feed, form feed, carriage return)
_ASCII_CONTROL = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f]")
_NO_PUNCTUATION = str.maketrans("_", " ", string.punctuation.replace("_", ""))


def clean(text: str) -> str:
    """Clean a text as the original CLIP: fix mojibake, unescape HTML twice, collapse whitespace, lowercase."""
    return clean_whitespace(text).lower()


def clean_whitespace(text: str) -> str:
    """The same in the given case, as tokenizers of Hugging Face are used in open_clip.

    Plain ASCII without `&` skips the first two steps, which saves importing ftfy (70 ms).
    """
    if text.isascii() and "&" not in text and (text.isprintable() or not _ASCII_CONTROL.search(text)):
        return " ".join(text.split())
    return " ".join(html.unescape(html.unescape(_fix_text(text))).split())


def canonicalize(text: str) -> str:
    """Lower case without ASCII punctuation, as SigLIP's texts (Zhai et al. 2023); an underscore separates words."""
    return " ".join(clean(text).translate(_NO_PUNCTUATION).split())


CLEANINGS: Mapping[Cleaning, Callable[[str], str]] = {
    "clip": clean,
    "whitespace": clean_whitespace,
    "canonical": canonicalize,
}


def cleaning_of_others(cleaning: Cleaning) -> Callable[[str], str] | None:
    """The cleaning before a vocabulary that is not in CLIP's style; None for what its own normalizer does.

    CLIP's cleaning belongs to CLIP's vocabularies: it is what models say that ask for none.
    """
    return None if cleaning == "clip" else CLEANINGS[cleaning]


def _fix_text(text: str) -> str:
    """Fix mojibake with ftfy. Without ftfy (on machines that only train), warns and returns the text unchanged."""
    try:
        import ftfy
    except ImportError:
        warnings.warn("ftfy is not installed: about 3% of unusual texts get different token ids", stacklevel=2)
        return text
    return ftfy.fix_text(text)
