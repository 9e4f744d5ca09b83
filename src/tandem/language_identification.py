"""Which texts are surely not English, by their letters and their function words. Knows no labels and no models."""

import re
import unicodedata

# Measured (docs/log.md): two of one language, and no English one. Short ones that are English words too are left out.
_FUNCTION_WORDS = [
    frozenset(words.split())
    for words in (
        "un una el la los las del con por para en que está sobre dos",  # Spanish
        "un une le la les des du dans sur avec pour est et qui aux au en deux",  # French
        "um uma os dos das na em com que ao duas dois",  # Portuguese
        "un una il la gli della del di nella con che sul due",  # Italian
        "een het de op met van naar twee zijn",  # Dutch
    )
]
_GERMAN, _ENGLISH = (
    frozenset(words.split())
    for words in (
        "ein eine einen einem einer der die das und mit auf im ist den dem zwei",
        "a i the of with and at to for by from near over under into his her their its",
    )
)
_ALSO_ELSEWHERE = frozenset(["a", "i"])  # the same letters are function words of Romance languages


def is_latin(text: str) -> bool:
    """Whether at least half of the letters of a text are Latin ones, as in "β-carotene"; true without any letter."""
    letters = [char for char in text if char.isalpha()]
    latin = sum(char.isascii() or unicodedata.name(char, "").startswith("LATIN") for char in letters)
    return 2 * latin >= len(letters)


def is_not_english(text: str) -> bool:
    """Whether a text in Latin letters is surely a sentence of one of six languages, and not English.

    It has at least three words, among them two different function words of one language and no English one. Function
    words within a name ("Henry van de Velde", "Villa del Mar") do not count; in German, where all nouns begin with
    a capital, they do. Single words, and most short phrases, tell nothing: of them it is false.
    """
    words = re.findall(r"[^\W\d_]+", text)
    lower = [word.lower() for word in words]
    if len(words) < 3 or any(word in _ENGLISH - _ALSO_ELSEWHERE for word in lower):
        return False
    outside_names = set(_outside_names(words))
    if any(len(each & outside_names) >= 2 for each in _FUNCTION_WORDS):
        return True
    return len(_GERMAN.intersection(lower)) >= 2 and _ALSO_ELSEWHERE.isdisjoint(lower)


def _outside_names(words: list[str]) -> list[str]:
    """The words, in lower case, that neither belong to a name nor lead to one: those before a small word."""
    kept = []
    in_name = False
    for place in reversed(range(len(words))):
        word = words[place]
        is_name = word[0].isupper() and place > 0
        is_function_word = any(word.lower() in each for each in _FUNCTION_WORDS)
        in_name = is_name or (in_name and is_function_word)
        if not in_name:
            kept.append(word.lower())
    return kept
