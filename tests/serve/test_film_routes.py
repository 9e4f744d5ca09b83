"""Films behind moments: served in parts, only as they were indexed, and played by the page."""

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support import skip_without, toy

skip_without("av", "fastapi")

from fastapi.testclient import TestClient  # noqa: E402
from support import films  # noqa: E402
from support.browsing import until  # noqa: E402
from support.serving import post_json, serving  # noqa: E402

import tandem  # noqa: E402
from tandem.search.indexing.image_record import image_id  # noqa: E402
from tandem.serve.app import build_app  # noqa: E402
from tandem.serve.http import ranges  # noqa: E402
from tandem.serve.service import open_service  # noqa: E402
from tandem.serve.settings import Settings  # noqa: E402


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A collection of a film and a photo, with a model of random weights."""
    here = tmp_path_factory.mktemp("served")
    toy.folder(here / "model")
    toy.write_images(here / "photos", 1)
    films.make(here / "photos" / "a film.webm", codec="libvpx")
    with tandem.open(here / "photos.tandem", here / "model") as photos:
        photos.add(here / "photos")
    return here / "photos.tandem"


@pytest.fixture(scope="module")
def here(collection: Path) -> Iterator[TestClient]:
    corrections = collection.parent / "corrections"
    service = open_service(Settings(batch_wait_s=0, corrections=corrections), [str(collection)])
    yield TestClient(build_app(service), base_url="http://127.0.0.1:8000")
    service.close()


def moment(here: TestClient) -> dict[str, Any]:
    """The hit at 2 s."""
    hits = post_json(here, "/v1/search", text="a", moments=0)["hits"]
    return next(hit for hit in hits if hit["path"].endswith("a film.webm#t=2.000"))


@pytest.mark.slow
def test_texts_are_located_in_the_frame_and_in_a_thumbnail_only_where_it_is_said(
    here: TestClient, collection: Path
) -> None:
    assert post_json(here, "/v1/locate", id=moment(here)["id"], texts=["a"])["of_thumbnail"] is False
    (photo,) = (collection.parent / "photos").glob("*.png")
    identifier = image_id(photo.read_bytes())
    assert post_json(here, "/v1/locate", id=identifier, texts=["a"])["of_thumbnail"] is False
    moved = photo.rename(collection.parent / "moved.png")
    assert post_json(here, "/v1/locate", id=identifier, texts=["a"])["of_thumbnail"] is True
    moved.rename(photo)


def test_a_moment_has_its_time_its_thumbnail_and_its_film_in_parts(here: TestClient, collection: Path) -> None:
    film = (collection.parent / "photos" / "a film.webm").read_bytes()
    hit = moment(here)
    assert hit["metadata"]["time"] == 2.0
    described = here.get(f"/v1/images/{hit['id']}").json()
    assert (described["time"], described["format"]) == (2.0, "WEBM")
    assert here.get(hit["thumbnail"]).headers["content-type"] == "image/jpeg"
    whole = here.get(described["original"])
    assert (whole.status_code, whole.content, whole.headers["content-type"]) == (200, film, "video/webm")
    assert whole.headers["accept-ranges"] == "bytes"
    assert whole.headers["content-disposition"] == "inline; filename*=UTF-8''a%20film.webm"
    assert str(collection.parent) not in str(whole.headers)
    part = here.get(described["original"], headers={"range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, film[10:20])
    assert part.headers["content-range"] == f"bytes 10-19/{len(film)}"
    last = here.get(described["original"], headers={"range": "bytes=-5"})
    assert last.content == film[-5:]
    outside = here.get(described["original"], headers={"range": f"bytes={len(film)}-"})
    assert (outside.status_code, outside.headers["content-range"]) == (416, f"bytes */{len(film)}")
    assert outside.headers["content-type"] == "application/problem+json"
    assert outside.json()["title"] == "Range not satisfiable"


@pytest.mark.parametrize("wanted", ["bytes=9-5", "bytes=a-b", "bytes=0-1,5-6", "lines=1-2"])
def test_what_is_no_range_of_one_part_gets_the_whole_film(here: TestClient, wanted: str) -> None:
    link = f"/v1/images/{moment(here)['id']}/original"
    whole = here.get(link)
    found = here.get(link, headers={"range": wanted})
    assert (found.status_code, found.content) == (200, whole.content)


def test_a_film_that_is_there_already_is_not_sent_and_parts_are_of_the_same_film(here: TestClient) -> None:
    link = f"/v1/images/{moment(here)['id']}/original"
    whole = here.get(link)
    tag = whole.headers["etag"]
    for headers in ({}, {"range": "bytes=0-9"}):
        again = here.get(link, headers={"if-none-match": tag, **headers})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert here.get(link, headers={"if-none-match": '"other"'}).status_code == 200
    assert here.get(link, headers={"range": "bytes=0-9", "if-range": tag}).status_code == 206
    for other in ('"other"', f"W/{tag}", "Sun, 22 Nov 2026 04:00:00 GMT"):
        found = here.get(link, headers={"range": "bytes=0-9", "if-range": other})
        assert (found.status_code, found.content) == (200, whole.content)


def test_filters_know_the_time_and_no_film_fills_the_answer(here: TestClient) -> None:
    assert len(post_json(here, "/v1/search", text="a", where="time > 1", moments=0)["hits"]) == 2
    hits = post_json(here, "/v1/search", text="a", k=2)["hits"]
    assert sum("film" in hit["path"] for hit in hits) == 1


def test_a_moment_is_corrected_by_its_picture(here: TestClient, collection: Path) -> None:
    kept = post_json(here, "/v1/corrections", id=moment(here)["id"], label="green")
    assert kept["labels"] == {"green": 1}
    (file,) = (collection.parent / "corrections" / "green").iterdir()
    assert films.colour_of(tandem_image(file)) == "green"


def tandem_image(file: Path) -> Any:
    from tandem.image import load_image

    return np.asarray(load_image(file))


def test_a_film_is_served_only_while_it_is_the_indexed_one(tmp_path: Path) -> None:
    toy.folder(tmp_path / "model")
    film = films.make(tmp_path / "film.mp4")
    with tandem.open(tmp_path / "c.tandem", tmp_path / "model") as photos:
        photos.add(film)
    service = open_service(Settings(batch_wait_s=0), [str(tmp_path / "c.tandem")])
    here = TestClient(build_app(service), base_url="http://127.0.0.1:8000")
    link = f"/v1/images/{post_json(here, '/v1/search', text='a')['hits'][0]['id']}/original"
    assert here.get(link).headers["content-type"] == "video/mp4"
    secret = tmp_path / "secret.txt"
    secret.write_text("not a film")
    film.unlink()
    film.symlink_to(secret)
    assert here.get(link).status_code == 404
    service.close()


@pytest.mark.parametrize(
    ("header", "part"),
    [
        ("bytes=0-", (0, 100)),
        ("bytes=5-9", (5, 10)),
        ("bytes=90-500", (90, 100)),
        ("bytes=-10", (90, 100)),
        ("bytes=-500", (0, 100)),
        ("bytes=0-1,5-6", None),
        ("bytes=9-5", None),
        ("bytes=-", None),
        ("lines=1-2", None),
        (None, None),
        ("bytes=100-", ValueError),
        ("bytes=-0", ValueError),
    ],
)
def test_parts_of_a_file(header: str | None, part: Any) -> None:
    if part is ValueError:
        with pytest.raises(ValueError, match="of 100"):
            ranges.part_of(header, 100)
    else:
        assert ranges.part_of(header, 100) == part
    begin, end = ranges.part_of("bytes=7-", 10**12) or (0, 0)
    assert (begin, end) == (7, 7 + ranges.MOST_BYTES)


@pytest.mark.server
@pytest.mark.browser
def test_the_page_plays_a_film_from_the_moment(collection: Path, browser: Any) -> None:
    with serving(collection) as server:
        page = browser.new_page()
        page.goto(f"{server.url}/#/search?q=a")
        tile = page.get_by_role("link", name="a film.webm @ 0:00").first
        tile.wait_for()
        time = page.locator(".film-time").first
        time.wait_for()  # seen, that is
        assert time.inner_text().startswith("0:00:0")
        with page.expect_response("**/v1/search") as answered:
            page.goto(f"{server.url}/#/?q=a&kind=film")
        assert answered.value.request.post_data_json["where"] == "time is not null"
        assert {hit["metadata"]["time"] is not None for hit in answered.value.json()["hits"]} == {True}
        tile.wait_for()
        tile.click()
        until(page, "!document.querySelector('video').hidden")
        seconds = page.evaluate("document.querySelector('video').currentTime")
        title = page.get_by_role("dialog").get_by_role("heading").first.inner_text()
        assert title == f"a film.webm @ 0:00:{int(seconds):02}"
        page.keyboard.press("Escape")
        until(page, "!document.querySelector('video').hasAttribute('src')")
        page.close()


@pytest.mark.server
@pytest.mark.browser
def test_words_are_found_in_the_frame_where_the_film_stands(collection: Path, browser: Any) -> None:
    with serving(collection) as server:
        page = browser.new_page()
        page.goto(f"{server.url}/#/search?q=a")
        page.get_by_role("link", name="a film.webm @ 0:00:02").click()
        until(page, "!document.querySelector('video').hidden")
        dialog = page.get_by_role("dialog")
        headings = dialog.get_by_role("heading").all_inner_texts()
        assert "Find something in this frame" in headings
        assert headings[-1] == "About this moment"
        page.evaluate("document.querySelector('video').currentTime = 4.5")
        until(page, "!document.querySelector('video').seeking")
        dialog.get_by_label("Words, with commas between several").fill("dog")
        with page.expect_request("**/v1/locate") as sent:
            dialog.get_by_role("button", name="Find", exact=True).click()
        uri = sent.value.post_data_json["image"]
        frame = np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("RGB"))
        assert (frame.shape, films.colour_of(frame)) == ((48, 64, 3), "blue")  # not green, as at 2 s
        until(page, "!document.querySelector('.located').hidden")
        over, film = (dialog.locator(each).bounding_box() for each in (".located", "video"))
        assert over["width"] <= film["width"] + 1
        page.evaluate("document.querySelector('video').play()")
        until(page, "document.querySelector('.located').hidden")  # the frame is gone, and what was found in it
        page.close()


@pytest.fixture
def keyed(collection: Path, tmp_path: Path) -> Iterator[TestClient]:
    (tmp_path / "keys").write_text("open-sesame-0001")
    service = open_service(Settings(batch_wait_s=0, keys_file=tmp_path / "keys"), [str(collection)])
    yield TestClient(build_app(service), base_url="http://127.0.0.1:8000")
    service.close()


def test_a_server_with_keys_gives_a_link_that_plays_the_film_and_nothing_else(
    keyed: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    key = {"authorization": "Bearer open-sesame-0001"}
    hits = keyed.post("/v1/search", json={"text": "a", "moments": 0}, headers=key).json()["hits"]
    film = next(hit["id"] for hit in hits if hit["path"].endswith("#t=2.000"))
    other = next(hit["id"] for hit in hits if hit["path"].endswith("#t=0.000"))
    link = f"/v1/images/{film}/link"
    assert keyed.get(link).status_code == 401
    answer = keyed.get(link, headers=key).json()
    assert answer["expires_in_s"] == 600
    assert "sesame" not in answer["url"]
    part = keyed.get(answer["url"], headers={"range": "bytes=0-9"})
    assert (part.status_code, len(part.content), part.headers["content-type"]) == (206, 10, "video/webm")
    signed, query = answer["url"], answer["url"].partition("?")[2]
    changed = (signed.replace(film, other), signed + "0", signed.replace("/original", "/thumbnail"))
    for refused in (f"/v1/images/{film}/original", f"/v1/images/{film}?{query}", *changed):
        assert keyed.get(refused).status_code == 401, refused
    assert keyed.delete(answer["url"]).status_code == 401
    assert keyed.get("/v1/images/00/link", headers=key).status_code == 404
    assert "sesame" not in caplog.text


def test_a_server_without_keys_gives_the_path_itself(here: TestClient) -> None:
    film = moment(here)["id"]
    answer = here.get(f"/v1/images/{film}/link").json()
    assert answer == {"url": f"/v1/images/{film}/original", "expires_in_s": None}
    assert here.get(answer["url"]).headers["content-type"] == "video/webm"


@pytest.mark.server
@pytest.mark.browser
def test_the_page_plays_a_film_with_a_key_and_goes_on_when_a_link_has_ended(
    collection: Path, browser: Any, tmp_path: Path
) -> None:
    (tmp_path / "keys").write_text("open-sesame-0001")
    given = []

    def ended(route: Any) -> None:
        """The first link is over when it comes."""
        answer = route.fetch()
        document = answer.json()
        if not given:
            document = {"url": document["url"] + "0", "expires_in_s": 0}
        given.append(document["url"])
        route.fulfill(response=answer, json=document)

    with serving(collection, keys_file=tmp_path / "keys") as server:
        page = browser.new_page()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.route("**/link*", ended)
        page.goto(f"{server.url}/#/search?q=a")
        page.get_by_label("API key").fill("open-sesame-0001")
        page.get_by_role("button", name="Continue").click()
        page.get_by_role("link", name="a film.webm @ 0:00:02").click()
        until(page, "!document.querySelector('video').hidden")
        assert len(given) == 2
        assert page.evaluate("document.querySelector('video').currentTime") >= 2
        assert not page.get_by_role("dialog").get_by_text("This is a picture of the film").count()
        assert not [address for address in asked if "sesame" in address]
        page.close()
