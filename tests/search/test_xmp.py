"""Keywords in XMP documents: every other byte stays, owners keep theirs, hostile documents are refused."""

from xml.etree import ElementTree

import pytest

from tandem.errors import SidecarError
from tandem.search.tagging.rdf import MAX_BYTES
from tandem.search.tagging.xmp import Edited, edited, keywords_of

LABELS = ("cat", "dog", "animal|bird")
LIGHTROOM = b"""<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="Adobe XMP Core 5.6">
 <!-- a comment > here -->
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about=""  xmlns:dc="http://purl.org/dc/elements/1.1/"
    xmlns:xmp="http://ns.adobe.com/xap/1.0/"   xmp:Rating="4"  xmp:Label='a > b'>
   <dc:subject>
    <rdf:Bag>
     <rdf:li>Holiday &amp; sun</rdf:li>
     <rdf:li>Cat</rdf:li>
    </rdf:Bag>
   </dc:subject>
   <dc:title><rdf:Alt><rdf:li xml:lang="x-default">t\xc3\xbcr</rdf:li></rdf:Alt></dc:title>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="w"?>"""
DARKTABLE = b"""<?xml version="1.0" encoding="UTF-8"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="XMP Core 4.4.0-Exiv2">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:Rating="-1"/>
 </rdf:RDF>
</x:xmpmeta>
"""


def change(content: bytes | None, *holds: str, judged: tuple[str, ...] | None = LABELS) -> Edited:
    return edited(content, holds, judged, "photo.jpg.xmp")


@pytest.mark.parametrize(
    "before", [LIGHTROOM, DARKTABLE, b"\xef\xbb\xbf" + DARKTABLE, LIGHTROOM.replace(b"\n", b"\r\n")]
)
def test_what_is_written_can_be_taken_back(before: bytes) -> None:
    after = change(before, "dog", "animal|bird")
    assert after.added == ("dog", "animal", "bird")
    assert {"dog", "animal", "bird"} <= set(keywords_of(after.content))
    assert b"animal|bird" in after.content
    ElementTree.fromstring(after.content.removeprefix(b"\xef\xbb\xbf"))
    same = change(after.content, "animal|bird", "dog")
    assert (same.content, same.added, same.withdrawn) == (after.content, (), ())
    fewer = change(after.content, "dog")
    assert fewer.withdrawn == ("animal", "bird")
    back = change(fewer.content)
    assert keywords_of(back.content) == keywords_of(before)
    if b"/>" not in before:
        assert back.content == before


def test_all_other_bytes_stay() -> None:
    after = change(LIGHTROOM, "dog").content
    at = LIGHTROOM.index(b"\n    </rdf:Bag>\n   </dc:subject>")
    assert after.startswith(LIGHTROOM[:at] + b"\n     <rdf:li>dog</rdf:li>")
    assert after.endswith(LIGHTROOM[LIGHTROOM.index(b"\n  </rdf:Description>") :])
    assert LIGHTROOM[at : LIGHTROOM.index(b"\n  </rdf:Description>")] in after


def test_what_an_owner_wrote_is_not_withdrawn() -> None:
    after = change(LIGHTROOM, "cat", "dog")  # "Cat" was there
    assert after.added == ("dog",)
    back = change(after.content)
    assert back.content == LIGHTROOM
    assert keywords_of(back.content) == ["Holiday & sun", "Cat"]


def test_what_an_owner_deleted_does_not_come_back() -> None:
    after = change(LIGHTROOM, "dog").content
    deleted = after.replace(b"\n     <rdf:li>dog</rdf:li>", b"", 1)
    again = change(deleted, "dog")
    assert (again.content, again.added) == (deleted, ())
    assert change(deleted).content == LIGHTROOM  # once it does not hold, the note of it goes, too


def test_labels_that_were_not_asked_about_stay_unless_all_are_withdrawn() -> None:
    after = change(LIGHTROOM, "dog", "animal|bird").content
    assert change(after, "cat", judged=("cat",)).content == after
    assert change(after, judged=None).content == LIGHTROOM


def test_levels_that_another_label_holds_stay() -> None:
    judged = ("animal|cat", "animal|dog")
    after = change(None, *judged, judged=judged).content
    assert keywords_of(after) == ["animal", "cat", "dog"]
    fewer = change(after, "animal|dog", judged=judged)
    assert fewer.withdrawn == ("cat",)
    assert keywords_of(fewer.content) == ["animal", "dog"]


def test_a_new_document_is_made_only_where_a_label_holds() -> None:
    assert change(None).content == b""
    made = change(None, "a < b & c", judged=("a < b & c",))
    assert keywords_of(made.content) == ["a < b & c"]
    assert made.content.startswith(b"<?xml")


def test_other_prefixes_lists_and_places() -> None:
    document = (
        b'<r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><r:Description><k:subject '
        b'xmlns:k="http://purl.org/dc/elements/1.1/"><r:Seq><r:li>one</r:li></r:Seq></k:subject></r:Description></r:RDF>'
    )
    after = change(document, "dog").content
    assert b"<r:li>one</r:li><r:li>dog</r:li></r:Seq>" in after
    assert change(after).content == document
    empty = document.replace(b"<r:Seq><r:li>one</r:li></r:Seq>", b"<r:Bag/>")
    assert keywords_of(change(empty, "dog").content) == ["dog"]
    nothing = b'<r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#"></r:RDF>'
    assert keywords_of(change(nothing, "dog").content) == ["dog"]


def test_texts_are_escaped_in_a_list_that_is_there() -> None:
    after = change(LIGHTROOM, "a < b & c", judged=("a < b & c",)).content
    assert keywords_of(after) == ["Holiday & sun", "Cat", "a < b & c"]


def test_an_item_with_something_inside_is_left_alone() -> None:
    inside = LIGHTROOM.replace(b">Cat<", b">Cat<rdf:value>x</rdf:value><")
    assert keywords_of(inside) == ["Holiday & sun"]
    after = change(inside, "cat").content
    assert keywords_of(after) == ["Holiday & sun", "cat"]
    assert change(after).content.count(b"Cat<rdf:value>x</rdf:value>") == 1


def test_another_case_of_a_label_is_noted_once() -> None:
    once = change(DARKTABLE, "dog").content
    again = change(once, "DOG", judged=("DOG",))
    assert (again.content, again.added) == (once, ())


BOMB = b'<!DOCTYPE a [<!ENTITY b "bbbb"><!ENTITY c "&b;&b;&b;&b;">]>' + LIGHTROOM
ATTRIBUTE = DARKTABLE.replace(b'xmp:Rating="-1"', b'xmlns:dc="http://purl.org/dc/elements/1.1/" dc:subject="mine"')
TWO = LIGHTROOM.replace(b"   <dc:title>", b"   <dc:subject/><dc:title>")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (BOMB.replace(LIGHTROOM[:60], b""), "document type"),
        (b"<a>" * 300, "more than 200 elements"),
        (b"x" * (MAX_BYTES + 1), "bytes, more than"),
        (DARKTABLE.decode().encode("utf-16"), "not in UTF-8"),
        (b'<?xml version="1.0" encoding="latin-1"?>' + DARKTABLE[39:], "its encoding is latin-1"),
        (DARKTABLE[:-20], "damaged"),
        (b"\xff" + DARKTABLE, "damaged"),
        (b"<a><b/></a>", "no rdf:RDF"),
        (b"", "damaged"),
        (TWO, "two lists of subject"),
        (ATTRIBUTE, "its subject is an attribute"),
        (LIGHTROOM.replace(b"<rdf:Bag>", b"<rdf:Bog>").replace(b"</rdf:Bag>", b"</rdf:Bog>"), "no list of keywords"),
        (b'<r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#"/>', "describes nothing"),
    ],
)
def test_documents_that_are_left_as_they_are(content: bytes, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tandem.search.tagging.rdf.MAX_ELEMENTS", 200)
    with pytest.raises(SidecarError, match=says) as caught:
        change(content, "dog")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("photo.jpg.xmp: left as it is: ")


@pytest.mark.parametrize("label", ["a\nb", "\x00", "|", " ", "a\ud800"])
def test_labels_that_no_keyword_can_be(label: str) -> None:
    with pytest.raises(SidecarError, match="cannot be a keyword"):
        change(None, label, judged=(label,))
