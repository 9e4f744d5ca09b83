"""The keywords of an XMP document, edited in place: every byte that is not a keyword of ours stays as it is.

XMP is RDF in XML (ISO 16684-1). Keywords are the items of `dc:subject`; those with a path, such as `animal|cat`, are in
`lr:hierarchicalSubject` too, as Lightroom and digiKam write them. What was written here is noted in a namespace of our
own, so that it can be withdrawn later, and so that a keyword its owner deleted does not come back. expat finds where
elements begin and end; nothing is written back through an XML library, which would change prefixes and spaces.

Knows bytes and texts; no files.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from xml.parsers import expat
from xml.sax.saxutils import escape

from tandem.errors import SidecarError

MAX_BYTES = 16 * 2**20  # of a sidecar: a history of edits takes some hundred kilobytes
MAX_ELEMENTS = 200_000
LEVEL = "|"  # between the levels of a hierarchical keyword

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
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


@dataclass(slots=True)
class _Element:
    """An element, and where in the bytes it is: [start, inside) is the start tag, [close, end) the end tag."""

    name: str  # "namespace name"
    start: int
    inside: int
    close: int = -1
    end: int = -1
    children: "list[_Element]" = field(default_factory=list)
    text: str = ""

    @property
    def is_empty_tag(self) -> bool:
        return self.close == self.end


def check_keyword(label: str) -> str:
    """A label as a keyword. Raises `SidecarError` for what XML cannot hold."""
    if _ILLEGAL.search(label) or not label.strip(f"{LEVEL} "):
        raise SidecarError(f"{label!r} cannot be a keyword: expected a text on one line")
    return label


def keywords_of(content: bytes, name: str = "XMP") -> list[str]:
    """The keywords of a document, in order."""
    return [text for _, text in _Property.find(_parsed(content, name), content, DC, "subject", name).items]


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
    rdf = _parsed(document, name)
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
    _parsed(after, name)  # what would not be read again is not written
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

    def __init__(self, rdf: _Element, document: bytes, namespace: str, local: str) -> None:
        self.rdf, self.document, self.namespace, self.local = rdf, document, namespace, local
        self.element: _Element | None = None
        self.container: _Element | None = None

    @staticmethod
    def find(rdf: _Element, document: bytes, namespace: str, local: str, name: str) -> "_Property":
        """In any of the descriptions. Raises `SidecarError` for one that is no list."""
        found = _Property(rdf, document, namespace, local)
        for description in rdf.children:
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
    def items(self) -> list[tuple[_Element, str]]:
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
        prefix = _prefix(self.document, self.container)
        first = self.container.children[0] if self.container.children else None
        space = _space_before(self.document, first) if first is not None else ""
        last = self.container.children[-1].end if self.container.children else self.container.inside
        for item in going:
            start, end = self._with_space_before(item)
            edits.append((start, end, ""))
        if add:
            edits.append((last, last, "".join(f"{space}<{prefix}li>{escape(t)}</{prefix}li>" for t in add)))

    def _with_space_before(self, element: _Element) -> tuple[int, int]:
        return element.start - len(_space_before(self.document, element)), element.end

    def _written(self, items: Sequence[str]) -> str:
        prefix, tag = _prefix(self.document, self.rdf), f"{_NAMED[self.namespace]}:{self.local}"
        inside = "".join(f"\n     <{prefix}li>{escape(item)}</{prefix}li>" for item in items)
        declared = f'xmlns:{_NAMED[self.namespace]}="{self.namespace}"'
        return f"\n   <{tag} {declared}>\n    <{prefix}Bag>{inside}\n    </{prefix}Bag>\n   </{tag}>" if items else ""


def _insertion(rdf: _Element, document: bytes, fresh: Sequence[str], name: str) -> tuple[int, int, str]:
    """Where new properties go: at the end of the first description."""
    text = "".join(fresh)
    description = next((child for child in rdf.children if child.name == f"{RDF} Description"), None)
    prefix = _prefix(document, rdf)
    if description is None:
        if rdf.is_empty_tag:
            raise SidecarError(f"{name}: left as it is: it describes nothing")
        whole = f'\n  <{prefix}Description {prefix}about="">{text}\n  </{prefix}Description>'
        return rdf.inside, rdf.inside, whole
    if description.is_empty_tag:  # <rdf:Description .../>: all that it says is in attributes
        return description.inside - 2, description.inside, f">{text}\n  </{prefix}Description>"
    at = description.children[-1].end if description.children else description.inside
    return at, at, text


def _prefix(document: bytes, element: _Element) -> str:
    """What its name is written with: `rdf:`, or nothing."""
    written = re.match(rb"<([^\s/>]+)", document[element.start : element.inside])
    name = written[1].decode() if written else ""
    return name[: name.index(":") + 1] if ":" in name else ""


def _space_before(document: bytes, element: _Element) -> str:
    start = element.start
    while start > 0 and document[start - 1 : start].isspace():
        start -= 1
    return document[start : element.start].decode()


# --- reading ---------------------------------------------------------------------------------------------------------


def _parsed(document: bytes, name: str) -> _Element:
    """The `rdf:RDF` of a document. Raises `SidecarError` for what is not safe to read or to write back."""
    if len(document) > MAX_BYTES:
        raise SidecarError(f"{name}: left as it is: {len(document):,} bytes, more than {MAX_BYTES:,}")
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    roots: list[_Element] = []
    stack: list[_Element] = []
    count = 0

    def refuse(what: str) -> None:
        raise SidecarError(f"{name}: left as it is: {what}")

    def declared(version: str, encoding: str | None, standalone: int) -> None:
        if encoding is not None and encoding.lower() not in ("utf-8", "utf8", "us-ascii"):
            refuse(f"its encoding is {encoding[:40]}, expected UTF-8")

    def begin(tag: str, attributes: dict[str, str]) -> None:
        nonlocal count
        count += 1
        if count > MAX_ELEMENTS:
            refuse(f"more than {MAX_ELEMENTS:,} elements")
        start = parser.CurrentByteIndex
        if document[start : start + 1] != b"<":  # another encoding: places are not those of the bytes
            refuse("it is not in UTF-8")
        element = _Element(tag, start, _end_of_tag(document, start))
        (stack[-1].children if stack else roots).append(element)
        stack.append(element)

    def finish(tag: str) -> None:
        element = stack.pop()
        if document[element.inside - 2 : element.inside] == b"/>":
            element.close = element.end = element.inside
        else:
            element.close = parser.CurrentByteIndex
            element.end = document.index(b">", element.close) + 1

    def characters(text: str) -> None:
        if stack:
            stack[-1].text += text

    parser.XmlDeclHandler = declared
    parser.StartDoctypeDeclHandler = lambda *_: refuse(
        "it has a document type, which XMP has not: entities are not read"
    )
    parser.StartElementHandler, parser.EndElementHandler = begin, finish
    parser.CharacterDataHandler = characters
    if document[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in document[:4]:
        refuse("it is not in UTF-8")
    try:
        parser.Parse(document, True)
    except (expat.ExpatError, ValueError) as error:
        raise SidecarError(f"{name}: left as it is: it is damaged: {error}") from None
    looked, depth = roots, 0
    while looked and depth < 3:
        found = [element for element in looked if element.name == f"{RDF} RDF"]
        if found:
            return found[0]
        looked, depth = [child for element in looked for child in element.children], depth + 1
    raise SidecarError(f"{name}: left as it is: it is no XMP: there is no rdf:RDF in it")


def _end_of_tag(document: bytes, start: int) -> int:
    """After the `>` of a start tag: values in quotes may hold one, too."""
    at = start
    while True:
        found = re.compile(rb"[>\"']").search(document, at)
        if found is None:
            raise ValueError("a tag without an end")
        if found[0] == b">":
            return found.end()
        at = document.index(found[0], found.end()) + 1
