"""What an instruction such as "pick up the red ball from the table" is about: the words for the thing itself.

By rules, in English: what is asked to be done, and where the thing is or goes, is left out, since a model that compares
a window with a text can use neither. Knows words only.
"""

import re
from dataclasses import dataclass

from tandem.errors import TextError

_POLITE = ("please", "now", "then", "kindly", "hey", "just")
_REQUESTS = ("can you", "could you", "would you", "will you", "i want you to", "i would like you to", "i need you to")
_QUESTIONS = (
    "where is", "where are", "where's", "which one is", "which one has", "which is", "which has", "which one", "which",
    "what is", "is there", "are there", "do you see", "can you see",
)  # fmt: skip
_VERBS = (
    "pick up", "pick", "pick out", "lift up", "lift", "grab", "grasp", "grip", "take", "take hold of", "get", "get me",
    "fetch", "fetch me", "bring", "bring me", "give me", "give", "hand me", "pass me", "pass", "hold", "reach for",
    "reach", "touch", "press", "push", "pull", "click on", "click", "tap on", "tap", "open", "close", "move", "put",
    "place", "drop", "throw", "find me", "find", "show me", "show", "point to", "point at", "point out", "look for",
    "look at", "search for", "locate", "select", "choose", "highlight", "mark", "go to", "drive to", "walk to",
    "go towards", "turn on", "turn off", "remove", "clean", "eat", "drink", "i want", "i would like", "i need",
)  # fmt: skip
_PRONOUNS = re.compile(
    r"^(?:the |that |this |a |an )?(?:ones?|pictures?|photos?|images?|things?|objects?)"
    r"(?: that is| that are| that has| that have| which is| which has| that shows| that looks like| showing| with| of"
    r"| that| which| in| having)?\s+(?P<rest>.+)$"
)
_DETERMINER = re.compile(r"^(?:the|a|an|that|this|those|these|my|your|his|her|its|our|their|some|any)(?:\s+|$)")
# Where the thing is, where it goes, what happens next: everything from there on is left out
_AFTER = re.compile(
    r"\s+(?:from|off|out of|onto|into|to|towards|toward|on top of|on|in front of|in|inside|under|underneath|below|above"
    r"|over|beside|next to|near|close to|behind|between|at|by|for|and then|and (?=(?:put|place|bring|give|move|drop)\b)"
    r"|with (?:your|the) (?:hand|gripper|arm)|please|there|here|away|up|down)(?:\s+.*)?$"
)


@dataclass(frozen=True)
class Instruction:
    """An instruction, the words for the thing that it is about, and what was left out of it."""

    text: str
    thing: str  # "red ball": what is looked for
    left_out: tuple[str, ...]  # "pick up", "from the table"


def read_instruction(text: str) -> Instruction:
    """The thing that an instruction, a question or a description is about. Raises `TextError` where nothing is left."""
    words = re.sub(r"\s+", " ", text).strip().strip(".!?,;: ")
    rest, left_out = words, []
    while True:
        start = _leading(rest.lower())
        if not start or len(start) >= len(rest):
            break
        left_out.append(rest[: len(start)])
        rest = rest[len(start) :].strip(" ,")
    pronoun = _PRONOUNS.match(rest.lower())
    if pronoun:
        left_out.append(rest[: pronoun.start("rest")].strip())
        rest = rest[pronoun.start("rest") :]
    after = _AFTER.search(rest.lower())
    if after and rest[: after.start()].strip():
        left_out.append(rest[after.start() :].strip())
        rest = rest[: after.start()]
    thing = rest.strip(" ,")
    determiner = _DETERMINER.match(thing.lower())
    if determiner:
        thing = thing[determiner.end() :]
    if not re.search(r"\w", thing):
        beginning = text if len(text) <= 60 else text[:59] + "…"
        raise TextError(f"{beginning!r}: expected words for a thing, such as 'pick up the red ball'")
    return Instruction(text, thing, tuple(part for part in left_out if part))


def _leading(text: str) -> str:
    """The longest request, question or verb that a text begins with, or ""."""
    found = (phrase for phrase in (*_POLITE, *_REQUESTS, *_QUESTIONS, *_VERBS) if re.match(rf"{phrase}\b", text))
    return max(found, key=len, default="")
