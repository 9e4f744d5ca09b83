"""The page where things go wrong, change, or are gone back to."""

import base64
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from support.browsing import (
    HOSTILE,
    announced,
    fresh_page,
    hand_over_all,
    leave_image,
    names,
    scroll_to_the_end,
    search,
    tiles,
    until,
)
from support.serving import Server, serving, toy_collection

import tandem

pytestmark = [pytest.mark.server, pytest.mark.browser]


@pytest.fixture(scope="module")
def two(collection: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of two collections: the photos, and squares of one colour each."""
    folder = tmp_path_factory.mktemp("squares")
    (folder / "squares").mkdir()
    for color in ("red", "green", "blue", "yellow", "black"):
        Image.new("RGB", (64, 64), color).save(folder / "squares" / f"{color}.png")
    with tandem.open(folder / "squares.tandem") as squares:
        squares.add(folder / "squares")
    with serving(collection, folder / "squares.tandem") as server:
        yield server


def test_what_is_no_image_is_reported(page: Any) -> None:
    page.goto("/")
    page.locator("#text").wait_for()
    search(page, "a cat")
    before = names(page)
    alert = page.get_by_role("alert")
    rows: list[tuple[list[tuple[str, str, bytes]], str, str]] = [
        ([("holiday.jpg", "image/jpeg", b"not an image at all")], "", "holiday.jpg cannot be read"),
        ([("notes.txt", "text/plain", b"text")], "", "expected an image, got text/plain"),
        ([], "https://example.org/cat.jpg", "nothing is fetched from other sites"),
    ]
    for files, address, said in rows:
        hand_over_all(page, "drop", files, address)
        alert.get_by_text(said).wait_for()
        assert names(page) == before
        page.get_by_role("button", name="Close the message").click()
        assert not alert.count()


def test_names_of_files_are_text(page: Any) -> None:
    search(page, "dark blue")
    page.goto("/#/?q=dark+blue&name=onerror")
    page.reload()
    tiles(page).first.wait_for()
    assert names(page) == [f"{HOSTILE}.png"]
    tiles(page).first.click()
    page.get_by_role("dialog").get_by_text(HOSTILE).first.wait_for()
    assert page.title() != "broken"


def test_a_server_that_does_not_answer(page: Any) -> None:
    page.goto("/")
    page.locator("#text").wait_for()
    page.route("**/v1/search", lambda route: route.abort())
    page.locator("#text").fill("a cat")
    alert = page.get_by_role("alert")
    alert.wait_for()
    assert "does not answer" in alert.inner_text()
    page.unroute("**/v1/search")
    page.get_by_role("button", name="Try again").click()
    tiles(page).first.wait_for()
    assert not alert.count()


def test_a_server_that_is_gone_is_reported_and_retried(page: Any) -> None:
    page.goto("/")
    bar = page.locator("#collection")
    bar.get_by_text("photos").wait_for()
    page.route("**/v1/collections", lambda route: route.abort())
    look_again(page)
    alert = bar.get_by_role("alert")
    alert.wait_for()
    assert alert.inner_text() == "The server does not answer. Is it still running?"
    page.unroute("**/v1/collections")
    bar.get_by_role("button", name="Try again").click()
    bar.get_by_text("photos").wait_for()
    assert not alert.count()


def test_a_collection_that_is_gone_is_unavailable_and_the_others_stay(browser: Any, tmp_path: Path) -> None:
    here, gone = toy_collection(tmp_path, "here"), toy_collection(tmp_path, "gone")
    with serving(here, gone) as server, fresh_page(browser, server.url) as page:
        page.goto("/#/?in=gone")
        options = page.get_by_label("Collection").locator("option")
        options.first.wait_for(state="attached")
        assert options.all_inner_texts() == ["here · 9", "gone · 9"]
        with tandem.open(gone) as removed:
            removed.remove()
        look_again(page)
        until(page, "document.querySelectorAll('#collection option')[1].textContent === 'gone · unavailable'")
        assert "cannot be read" in options.last.get_attribute("title")
        announced(page, "unavailable now")
        page.locator("#text").fill("a cat")  # answered by 503, which the page asks twice more
        alert = page.get_by_role("alert")
        alert.wait_for()
        assert "the collection cannot be read now; try again later" in alert.inner_text()
        assert not tiles(page).count()
        page.get_by_label("Collection").select_option("here")
        tiles(page).first.wait_for()
        assert not alert.count()


def look_again(page: Any) -> None:
    """The user comes back to the tab: the page asks for the collections."""
    page.evaluate("dispatchEvent(new Event('visibilitychange'))")


def test_a_key_is_requested_once(browser: Any, collection: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("open-sesame-open-sesame\n")
    with serving(collection, keys_file=keys) as server:
        context = browser.new_context()
        page = context.new_page()
        page.goto(f"{server.url}/#/?q=a+cat")
        for key in ("wrong-wrong-wrong-wrong", "open-sesame-open-sesame"):
            page.get_by_label("API key").fill(key)
            page.get_by_role("button", name="Continue").click()
            if key.startswith("wrong"):
                page.get_by_text("That key was not accepted").wait_for()
        tiles(page).first.wait_for()
        image = page.locator(".grid img.there").first
        image.wait_for()
        assert image.get_attribute("src").startswith("blob:")
        page.reload()
        tiles(page).first.wait_for()
        assert not page.get_by_label("API key").count()
        context.close()


def test_an_address_leads_to_an_image(page: Any) -> None:
    search(page, "a rocket")
    tiles(page).first.click()
    page.wait_for_url(re.compile("image="))
    page.goto(page.url.replace("q=a+rocket&", ""))
    page.reload()
    page.get_by_role("dialog").get_by_role("heading", name=re.compile("rocket")).wait_for()
    page.goto("/#/?image=0000000000000000")
    page.reload()
    page.get_by_text("This photo is not here").wait_for()


def test_several_collections(browser: Any, two: Server) -> None:
    with fresh_page(browser, two.url) as page:
        search(page, "red")
        assert len(names(page)) > 5
        choice = page.get_by_label("Collection")
        choice.select_option("squares")
        until(page, "document.querySelectorAll('.grid li').length === 5")
        page.wait_for_url(re.compile("in=squares"))
        page.wait_for_url(re.compile("q=red"))
        until(page, "document.querySelector('.grid img.there')")
        tiles(page).first.click()
        page.get_by_role("dialog").get_by_text("PNG").first.wait_for()
        leave_image(page)
        with page.expect_response(re.compile("/v1/map.*squares")):
            page.get_by_role("link", name="Map").click()
        page.get_by_role("heading", name="Map").wait_for()
        page.locator(".cluster").first.wait_for()
        assert page.locator(".map-count").inner_text().startswith("5 photos")
        page.reload()
        page.locator(".cluster").first.wait_for()
        assert choice.input_value() == "squares"
        page.go_back()
        page.go_back()
        until(page, "document.querySelector('#collection select').value === 'photos'")
        until(page, "document.querySelectorAll('.grid li').length > 5")


def test_a_collection_that_grows_is_noticed(browser: Any, two: Server) -> None:
    with fresh_page(browser, two.url) as page:
        page.goto("/#/?in=squares")
        page.get_by_text("5 photos here").wait_for()
        page.locator(".group").first.wait_for()
        buffer = io.BytesIO()
        Image.effect_noise((80, 80), 90).convert("RGB").save(buffer, "PNG")
        uri = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
        answer = httpx.post(f"{two.url}/v1/images", json={"collection": "squares", "images": [uri]}, timeout=60)
        assert answer.status_code == 201, answer.text
        with page.expect_response(re.compile("/v1/map")):
            look_again(page)
        page.get_by_text("6 photos here").wait_for()
        announced(page, "6 photos now")


def test_back_leads_to_what_was_found_and_where(page: Any) -> None:
    search(page, "a photo")
    page.mouse.wheel(0, 5000)
    until(page, "document.querySelectorAll('.grid li').length > 60")
    page.evaluate("scrollTo(0, 700)")
    before, at = names(page), page.evaluate("scrollY")
    assert at == 700
    page.locator(".alike").nth(40).evaluate("button => button.click()")
    until(page, "document.querySelector('.query-image:not([hidden])') && scrollY === 0")
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url) if "/v1/search" in request.url else None)
    page.go_back()
    until(page, "at => scrollY === at", at)
    assert names(page) == before
    assert not requests


def test_an_image_of_ones_own_is_a_step(page: Any, collection: Path) -> None:
    search(page, "a cat")
    photo = (collection.parent / "photos" / "rocket-5.png").read_bytes()
    hand_over_all(page, "drop", [(f"{number}.png", "image/png", photo) for number in range(3)])
    until(page, "document.querySelector('.query-image').textContent === 'Like 0.png'")
    tiles(page).first.wait_for()
    page.get_by_text("Of 3 photos the first one is taken: 0.png").wait_for()  # beside the answer, not for a moment only
    page.go_back()
    until(page, "document.querySelector('.query-image').hidden")
    assert page.locator("#text").input_value() == "a cat"
    page.go_forward()
    until(page, "!document.querySelector('.query-image').hidden")
    page.locator("#text").fill("")
    until(page, "!location.hash.includes('q=')")
    page.reload()
    page.get_by_text("Drop it again").wait_for()


def test_a_hit_dropped_on_the_page_is_searched_by(page: Any) -> None:
    search(page, "a cat")
    address = tiles(page).first.evaluate("link => link.href")
    hand_over_all(page, "drop", [], address)
    page.wait_for_url(re.compile("like="))


def test_pages_that_shift_bring_nothing_twice(page: Any) -> None:
    """Images that come in while one scrolls push others onto the next page."""
    first: list[Any] = []

    def shifted(route: Any) -> None:
        answer = route.fetch()
        found = answer.json()
        if route.request.post_data_json["offset"] == 0:
            first.extend(found["hits"])
        else:
            found["hits"] = first[-5:] + found["hits"]
        route.fulfill(response=answer, json=found)

    page.route("**/v1/search", shifted)
    search(page, "a photo")
    page.mouse.wheel(0, 9000)
    page.get_by_text("That is all").wait_for()
    assert len(names(page)) == len(set(names(page))) > 60


def test_a_thousand_hits_are_laid_out_once_each(page: Any) -> None:
    """What stands is left alone when more come."""
    page.goto("/")
    page.locator("#text").wait_for()

    def endless(route: Any) -> None:
        offset = route.request.post_data_json["offset"]
        hits = [
            {
                "id": f"{offset + number:032x}", "path": f"{offset + number}.jpg", "score": 0.3, "relevance": 0.6,
                "metadata": {"width": 300 + number, "height": 200}, "thumbnail": "/icon.svg",
            }
            for number in range(60 if offset < 1200 else 0)
        ]  # fmt: skip
        about = {
            "nothing_matches": False,
            "threshold": 0.04,
            "relevance_reason": None,
            "model": {},
            "query": {},
            "offset": offset,
            "total": 1200,
        }
        route.fulfill(json={"hits": hits, **about})

    page.route("**/v1/search", endless)
    page.evaluate(
        """() => {
            window.laid = 0;
            new MutationObserver((changes) => { laid += changes.length; })
                .observe(document.body, { attributes: true, attributeFilter: ["style"], subtree: true });
        }"""
    )
    page.locator("#text").fill("a photo")
    tiles(page).first.wait_for()
    scroll_to_the_end(page)
    assert page.get_by_text("That is all: 1,200 photos").count()
    assert len(names(page)) == 1200
    assert page.evaluate("laid") < 1200 * 2 * 1.5  # width and height of each, and those of last rows again


def test_a_server_that_comes_back(page: Any) -> None:
    page.route("**/v1/**", lambda route: route.abort())
    page.goto("/")
    bar = page.locator("#collection")
    bar.get_by_text("does not answer").wait_for()
    page.unroute("**/v1/**")
    bar.get_by_role("button", name="Try again").click()
    bar.get_by_text("photos").wait_for()
    page.locator(".group").first.wait_for()


def test_a_map_that_fails_can_be_retried(page: Any) -> None:
    page.route("**/v1/map", lambda route: route.abort())
    page.goto("/#/map")
    page.get_by_text("does not answer").wait_for()
    page.unroute("**/v1/map")
    page.get_by_role("button", name="Try again").click()
    page.locator(".cluster").first.wait_for()


def test_a_photo_whose_file_is_gone_is_marked(browser: Any, two: Server) -> None:
    body = {"text": "green", "collection": "squares"}
    hit = httpx.post(f"{two.url}/v1/search", json=body, timeout=60).json()["hits"][0]
    file = Path(hit["path"])
    content = file.read_bytes()
    file.unlink()
    try:
        with fresh_page(browser, two.url) as page:
            page.goto("/#/?q=green&in=squares")
            marked = page.locator(".grid li:has(.file-missing) > a")
            marked.wait_for()
            assert [marked.get_attribute("title")] == [file.name]
            assert "file missing" in str(marked.get_attribute("aria-label"))
            marked.click()
            page.get_by_role("dialog").get_by_text("The file is gone").wait_for()
            page.goto(f"/#/?image={hit['id']}&in=squares")
            page.reload()
            page.get_by_role("dialog").get_by_text("The file is gone").wait_for()
    finally:
        file.write_bytes(content)
