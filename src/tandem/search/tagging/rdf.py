"""RDF in XML as elements with their places in the bytes, found by expat: what is edited in place needs no more.

Knows bytes; nothing of keywords.
"""

import re
from dataclasses import dataclass, field
from xml.parsers import expat

from tandem.errors import SidecarError

MAX_BYTES = 16 * 2**20  # of a sidecar: a history of edits takes some hundred kilobytes
MAX_ELEMENTS = 200_000
RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"


@dataclass(slots=True)
class Element:
    """An element, and where in the bytes it is: [start, inside) is the start tag, [close, end) the end tag."""

    name: str  # "namespace name"
    start: int
    inside: int
    close: int = -1
    end: int = -1
    children: "list[Element]" = field(default_factory=list)
    text: str = ""
    attributes: frozenset[str] = frozenset()  # their names

    @property
    def is_empty_tag(self) -> bool:
        return self.close == self.end


def parsed(document: bytes, name: str) -> Element:
    """The `rdf:RDF` of a document. Raises `SidecarError` for what is not safe to read or to write back."""
    if len(document) > MAX_BYTES:
        raise SidecarError(f"{name}: left as it is: {len(document):,} bytes, more than {MAX_BYTES:,}")
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    roots: list[Element] = []
    stack: list[Element] = []
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
        element = Element(tag, start, _end_of_tag(document, start), attributes=frozenset(attributes))
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


def prefix_of(document: bytes, element: Element) -> str:
    """What its name is written with: `rdf:`, or nothing."""
    written = re.match(rb"<([^\s/>]+)", document[element.start : element.inside])
    name = written[1].decode() if written else ""
    return name[: name.index(":") + 1] if ":" in name else ""


def space_before(document: bytes, element: Element) -> str:
    start = element.start
    while start > 0 and document[start - 1 : start].isspace():
        start -= 1
    return document[start : element.start].decode()
