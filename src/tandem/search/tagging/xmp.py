"""The keywords of an XMP document, edited in place: every byte that is not a keyword of ours stays as it is.

XMP is RDF in XML (ISO 16684-1). Keywords are the items of `dc:subject`; those with a path, such as `animal|cat`, are in
`lr:hierarchicalSubject` too, as Lightroom and digiKam write them. What was written here is noted in a namespace of our
own, so that it can be withdrawn later, and so that a keyword its owner deleted does not come back. `rdf` finds where
elements begin and end; nothing is written back through an XML library, which would change prefixes and spaces.

Knows bytes and texts; no files.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from tandem.errors import SidecarError
from tandem.search.tagging.rdf import RDF, Element, parsed, prefix_of, space_before

LEVEL = "|"  # between the levels of a hierarchical keyword

DC = "http://purl.org/dc/elements/1.1/"
LIGHTROOM = "http://ns.adobe.com/lightroom/1.0/"
OURS = "urn:tandem-clip:keywords/"  # ends as XMP libraries expect of a namespace
_NAMED = {DC: "dc", LIGHTROOM: "lr", OURS: "tandem"}
_CONTAINERS = ("Bag", "Seq", "Alt")
_ILLEGAL = re.compile("[\x00-\x1f\x7f\ud800-\udfff\ufffe\uffff]")  # in XML 1.0, or in one line
_EMPTY = """<?xml version="1.0" encoding="UTF-8"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="Tandem">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about="">
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
"""


@dataclass(frozen=True)
class Edited:
    """A document with its keywords brought up to date, and what changed, by label."""

    content: bytes
    added: tuple[str, ...]
    withdrawn: tuple[str, ...]


def check_keyword(label: str) -> str:
    """A label as a keyword. Raises `SidecarError` for what XML cannot hold."""
    if _ILLEGAL.search(label) or not label.strip(f"{LEVEL} "):
        raise SidecarError(f"{label!r} cannot be a keyword: expected a text on one line")
    return label


def keywords_of(content: bytes, name: str = "XMP") -> list[str]:
    """The keywords of a document, in order."""
    return [text for _, text in _Property.find(parsed(content, name), content, DC, "subject", name).items]


def edited(content: bytes | None, holds: Collection[str], judged: Collection[str] | None, name: str) -> Edited:
    """The document with the labels that hold as keywords; a new document for None.

    Args:
        content: the document, in UTF-8.
        holds: labels that are true; `animal|cat` gives the keywords `animal` and `cat`, and the path.
        judged: labels that were asked about: of these, what was written here before and does not hold any more is
            withdrawn. None withdraws whatever was written here before.
        name: what to call the document in errors.

    A keyword that was there before is its owner's and stays; one that was written here and is gone was deleted by its
    owner, and does not come back. Without changes the same bytes. Raises `SidecarError`, and nothing else.
    """
    for label in holds:
        check_keyword(label)
    new = content is None
    document = _EMPTY.encode() if content is None else content
    rdf = parsed(document, name)
    added: list[str] = []
    withdrawn: list[str] = []
    edits: list[tuple[int, int, str]] = []
    fresh: list[str] = []  # properties that are not there yet
    for namespace, local, note, wanted, asked in (
        (DC, "subject", "keywords", _levels(holds), None if judged is None else _levels(judged)),
        (
            LIGHTROOM,
            "hierarchicalSubject",
            "hierarchicalKeywords",
            _paths(holds),
            None if judged is None else _paths(judged),
        ),
    ):
        there = _Property.find(rdf, document, namespace, local, name)
        noted = _Property.find(rdf, document, OURS, note, name)
        ours = [text for _, text in noted.items]
        plan = _plan([text for _, text in there.items], ours, wanted, asked)
        there.change(plan.remove, plan.add, edits, fresh)
        gone = {text.casefold() for text in ours} - {text.casefold() for text in plan.ours}
        noted.change(
            [text for text in ours if text.casefold() in gone],
            [text for text in plan.ours if text.casefold() not in {each.casefold() for each in ours}],
            edits,
            fresh,
        )
        added += plan.add if namespace == DC else []
        withdrawn += plan.remove if namespace == DC else []
    if not edits and not fresh:
        return Edited(b"" if new else document, (), ())
    if fresh:
        edits.append(_insertion(rdf, document, fresh, name))
    result = bytearray(document)
    for start, end, text in sorted(edits, reverse=True):
        result[start:end] = text.encode()
    after = bytes(result)
    parsed(after, name)  # what would not be read again is not written
    return Edited(after, tuple(added), tuple(withdrawn))


# --- what is to change -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Plan:
    add: list[str]
    remove: list[str]
    ours: list[str]  # what will be noted


def _plan(there: Sequence[str], ours: Sequence[str], wanted: Sequence[str], asked: Sequence[str] | None) -> _Plan:
    """Keywords are compared without regard to case, as photo programs do."""
    has, wants = ({text.casefold() for text in some} for some in (there, wanted))
    noted = {text.casefold() for text in ours}
    over = noted if asked is None else {text.casefold() for text in asked}
    dropped = {key for key in noted & over if key not in wants}
    remove = [text for text in there if text.casefold() in dropped]
    add = [text for text in wanted if text.casefold() not in has | noted]
    return _Plan(add, remove, [text for text in ours if text.casefold() not in dropped] + add)


def _levels(labels: Collection[str]) -> list[str]:
    """`animal|cat` -> `animal`, `cat`; each keyword once."""
    parts = (part.strip() for label in labels for part in label.split(LEVEL))
    return list({part.casefold(): part for part in parts if part}.values())


def _paths(labels: Collection[str]) -> list[str]:
    return [label for label in labels if LEVEL in label]


# --- where it stands -------------------------------------------------------------------------------------------------


class _Property:
    """A property of keywords in a document, which may be absent."""

    def __init__(self, rdf: Element, document: bytes, namespace: str, local: str) -> None:
        self.rdf, self.document, self.namespace, self.local = rdf, document, namespace, local
        self.element: Element | None = None
        self.container: Element | None = None

    @staticmethod
    def find(rdf: Element, document: bytes, namespace: str, local: str, name: str) -> "_Property":
        """In any of the descriptions. Raises `SidecarError` for one that is no list."""
        found = _Property(rdf, document, namespace, local)
        for description in rdf.children:
            if f"{namespace} {local}" in description.attributes:  # beside it, a list would make the XMP invalid
                raise SidecarError(f"{name}: left as it is: its {local} is an attribute, expected a list of keywords")
            for element in description.children:
                if element.name == f"{namespace} {local}":
                    if found.element is not None:
                        raise SidecarError(f"{name}: left as it is: it has two lists of {local}")
                    found.element = element
        if found.element is not None:
            lists = [child for child in found.element.children if child.name in {f"{RDF} {c}" for c in _CONTAINERS}]
            if not lists and (found.element.children or found.element.text.strip()):
                raise SidecarError(f"{name}: left as it is: its {local} is no list of keywords")
            found.container = lists[0] if lists else None
        return found

    @property
    def items(self) -> list[tuple[Element, str]]:
        """Its items with their texts; those with something inside are left alone."""
        items = [] if self.container is None else self.container.children
        return [(item, item.text.strip()) for item in items if item.name == f"{RDF} li" and not item.children]

    def change(
        self, remove: Sequence[str], add: Sequence[str], edits: list[tuple[int, int, str]], fresh: list[str]
    ) -> None:
        """Add to `edits` what takes items away and puts items in; to `fresh` the whole property where there is none."""
        if not remove and not add:
            return
        if self.element is None or self.container is None or self.container.is_empty_tag:
            if self.element is not None:
                edits.append((*self._with_space_before(self.element), ""))
            fresh.append(self._written(add))
            return
        lost = {text.casefold() for text in remove}
        going = [item for item, text in self.items if text.casefold() in lost]
        if len(going) == len(self.container.children) and not add:
            edits.append((*self._with_space_before(self.element), ""))
            return
        prefix = prefix_of(self.document, self.container)
        first = self.container.children[0] if self.container.children else None
        space = space_before(self.document, first) if first is not None else ""
        last = self.container.children[-1].end if self.container.children else self.container.inside
        for item in going:
            start, end = self._with_space_before(item)
            edits.append((start, end, ""))
        if add:
            edits.append((last, last, "".join(f"{space}<{prefix}li>{escape(t)}</{prefix}li>" for t in add)))

    def _with_space_before(self, element: Element) -> tuple[int, int]:
        return element.start - len(space_before(self.document, element)), element.end

    def _written(self, items: Sequence[str]) -> str:
        prefix, tag = prefix_of(self.document, self.rdf), f"{_NAMED[self.namespace]}:{self.local}"
        inside = "".join(f"\n     <{prefix}li>{escape(item)}</{prefix}li>" for item in items)
        declared = f'xmlns:{_NAMED[self.namespace]}="{self.namespace}"'
        return f"\n   <{tag} {declared}>\n    <{prefix}Bag>{inside}\n    </{prefix}Bag>\n   </{tag}>" if items else ""


def _insertion(rdf: Element, document: bytes, fresh: Sequence[str], name: str) -> tuple[int, int, str]:
    """Where new properties go: at the end of the first description."""
    text = "".join(fresh)
    description = next((child for child in rdf.children if child.name == f"{RDF} Description"), None)
    prefix = prefix_of(document, rdf)
    if description is None:
        if rdf.is_empty_tag:
            raise SidecarError(f"{name}: left as it is: it describes nothing")
        whole = f'\n  <{prefix}Description {prefix}about="">{text}\n  </{prefix}Description>'
        return rdf.inside, rdf.inside, whole
    if description.is_empty_tag:  # <rdf:Description .../>: all that it says is in attributes
        return description.inside - 2, description.inside, f">{text}\n  </{prefix}Description>"
    at = description.children[-1].end if description.children else description.inside
    return at, at, text
