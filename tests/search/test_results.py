"""What a search found, by itself: whether anything matches, and what notebooks show of it."""

import dataclasses
from pathlib import Path

import pytest

from tandem.errors import StoreError
from tandem.search.results import Results, SearchHit

HIT = SearchHit("a", 0.31, 0.4, {"path": '/photos/<one> & "two".png', "width": 7})
FOUND = Results({"text": "a <b>cat</b> & more"}, "<toy>", "0" * 64, (HIT,), best=0.4, threshold=0.3)


@pytest.mark.parametrize(
    ("changes", "nothing"),
    [
        ({"best": 0.29}, True),
        ({"best": 0.3}, False),  # the threshold itself is enough
        ({"best": 0.3, "offset": 5, "hits": ()}, False),
        ({"best": None, "threshold": None}, False),
        ({"best": None, "hits": ()}, True),
        ({"best": None, "hits": (), "offset": 1}, False),  # a page beyond the last hit
    ],
)
def test_nothing_matches_below_the_threshold_or_where_nothing_was_found(
    changes: dict[str, object], nothing: bool
) -> None:
    assert dataclasses.replace(FOUND, **changes).nothing_matches is nothing  # type: ignore[arg-type]


def test_names_are_text_in_html() -> None:
    shown = FOUND._repr_html_()
    assert "a &lt;b&gt;cat&lt;/b&gt; &amp; more" in shown
    assert "&lt;toy&gt;" in shown
    assert 'title="/photos/&lt;one&gt; &amp; &quot;two&quot;.png"' in shown
    assert "&lt;one&gt; &amp; &quot;two&quot;.png</div>" in shown


def test_ranks_go_on_after_the_hits_that_were_passed_over() -> None:
    assert "21. 0.310" in dataclasses.replace(FOUND, offset=20)._repr_html_()


def test_a_thumbnail_that_is_no_image_spoils_no_sheet(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    junk = dataclasses.replace(FOUND, thumbnail=lambda id: b"junk")
    assert junk.plot(tmp_path / "sheet.png") == tmp_path / "sheet.png"


def test_a_collection_that_cannot_be_read_spoils_no_results() -> None:
    def gone(id: str) -> bytes:
        raise StoreError("no collection there")

    assert "no thumbnail" in dataclasses.replace(FOUND, thumbnail=gone)._repr_html_()
