"""Links to originals without a key: what they open, for how long, and that they tell nothing."""

from pathlib import Path
from urllib.parse import parse_qsl, urlencode

import pytest

from tandem.serve.http.keys import CHECKED_EVERY_S, KeyFile
from tandem.serve.http.links import LINK_S, SignedLinks
from tandem.serve.image_links import is_original

KEY, OTHER = "a-key-of-ours-0001", "another-key-0002"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.5

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def keys(tmp_path: Path, clock: Clock) -> KeyFile:
    (tmp_path / "keys").write_text(f"{KEY}\n{OTHER}\n")
    return KeyFile(tmp_path / "keys", clock=clock)


@pytest.fixture
def links(keys: KeyFile, clock: Clock) -> SignedLinks:
    return SignedLinks(keys, is_original, clock=clock)


def opens(links: SignedLinks, url: str, method: str = "GET") -> bool:
    path, _, query = url.partition("?")
    return (
        links.key_of({"method": method, "raw_path": path.encode(), "path": path, "query_string": query.encode()})
        is not None
    )


def made(links: SignedLinks, collection: str | None = None) -> str:
    return links.signed("/v1/images/a%2Fb/original", collection, f"Bearer {KEY}", None)


@pytest.mark.parametrize("collection", [None, "my photos"])
def test_a_link_opens_what_it_was_made_for_until_its_time_is_over(
    links: SignedLinks, clock: Clock, collection: str | None
) -> None:
    url = made(links, collection)
    assert opens(links, url)
    assert not opens(links, url, "DELETE")
    clock.now += LINK_S - 1
    assert opens(links, url)
    clock.now += 1
    assert not opens(links, url)


def test_nothing_of_a_link_can_be_changed(links: SignedLinks) -> None:
    url = made(links, "c")
    path, _, query = url.partition("?")
    fields = dict(parse_qsl(query))
    assert set(fields) == {"collection", "expires", "signature"}
    for other in (
        f"/v1/images/a/b/original?{query}",
        f"/v1/images/other/original?{query}",
        f"/v1/images/a%2Fb/thumbnail?{query}",
        f"/v1/images/a%2Fb?{query}",
        f"/v1/collections?{query}",
        f"{url}&collection=d",
        f"{url}&more=1",
        path,
        *(f"{path}?{urlencode({**fields, **change})}" for change in (
            {"collection": "d"}, {"expires": str(int(fields["expires"]) + 1)}, {"expires": "9" * 20}, {"expires": "²"},
            {"signature": ""}, {"signature": fields["signature"].upper()}, {"signature": "é"},
        )),
        f"{path}?{urlencode({name: fields[name] for name in ('expires', 'signature')})}",
    ):  # fmt: skip
        assert not opens(links, other), other


def test_a_link_ends_with_the_key_that_asked_for_it(links: SignedLinks, keys: KeyFile, clock: Clock) -> None:
    url = made(links)
    keys.path.write_text(f"{OTHER}\n")
    clock.now += 2 * CHECKED_EVERY_S
    assert not opens(links, url)
    with pytest.raises(ValueError, match="no key"):
        made(links)


def test_a_link_tells_nothing_of_the_key_and_is_good_in_one_process(links: SignedLinks, keys: KeyFile) -> None:
    url = made(links)
    assert KEY not in url
    assert all(name not in url for name in keys.names())
    again = SignedLinks(keys, is_original, clock=Clock())  # another secret
    assert not opens(again, url)
    assert made(again) != url
