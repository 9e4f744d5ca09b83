"""Texts of others for terminals: on one line, with nothing in them that commands it or hides what they say."""

import re

_SURROGATE = "[\udc80-\udcff]"
# Controls of both sets, line separators, marks and overrides of direction, invisible tags and marks of byte order. Not
# the joiners of letters and emoji.
_INVISIBLE = (
    "\x7f-\x9f\u061c\u180e\u200b\u200e\u200f\u2028\u2029\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f"
)
_COMMAND = f"[\x00-\x1f{_INVISIBLE}]"


def plain_line(text: str) -> str:
    """`text` on one line: characters that would break it, or command the terminal, are spelled out, as `\\n`.

    So are the bytes of names that are not UTF-8, as `\\xff`.
    """
    if text.isprintable():
        return text
    if re.search(_SURROGATE, text):
        from tandem.files import display_name

        text = display_name(text)
    return re.sub(_COMMAND, lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def plain_lines(text: str) -> str:
    """Several lines, and values separated by tabs: each of them as `plain_line` gives it."""
    if text.isprintable():
        return text
    return "\n".join("\t".join(map(plain_line, line.split("\t"))) for line in text.split("\n"))


def plain_json(text: str) -> str:
    """A JSON document that means the same, in which such characters are escaped as JSON escapes them."""
    if text.isascii() and "\x7f" not in text:
        return text
    return re.sub(f"[{_INVISIBLE}]", lambda found: _escaped(found[0]), text)


def _escaped(character: str) -> str:
    """As JSON escapes it: beyond the first plane in two halves."""
    units = character.encode("utf-16-be")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))
