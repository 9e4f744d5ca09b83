"""The page's views: search, an image, the playground, the map."""

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from support.browsing import (
    CROPS,
    announced,
    answered,
    frames,
    fresh_page,
    hand_over,
    leave_image,
    names,
    scroll_to_the_end,
    search,
    shares,
    tiles,
    until,
    wait_for_bars,
)

pytestmark = [pytest.mark.server, pytest.mark.browser]


def test_search_as_you_type(page: Any) -> None:
    search(page, "a cat")
    assert names(page)[0].startswith("chelsea")
    announced(page, "photos, nearest first")
    page.wait_for_url(re.compile(r"q=a\+cat"))
    page.reload()
    tiles(page).first.wait_for()
    assert names(page)[0].startswith("chelsea")
    assert page.get_by_role("searchbox").input_value() == "a cat"


def badges(page: Any) -> list[str]:
    """The percentages that are seen with the photos."""
    return [text for text in page.locator(".relevance:visible").all_inner_texts() if text]


def by_photo(page: Any) -> None:
    """Search by a photo of the collection, of which the model that ships can tell what resembles it."""
    search(page, "a cat")
    with page.expect_response("**/v1/search"):
        page.get_by_role("button", name="More like chelsea").first.dispatch_event("click")
    page.get_by_text("Like chelsea").wait_for()
    answered(page)


def test_percentages_are_shown_when_asked_for_and_the_choice_is_kept(page: Any) -> None:
    by_photo(page)
    toggle = page.get_by_label("Show relevance")
    assert not toggle.is_checked()
    assert badges(page) == []
    assert "likely" not in tiles(page).first.get_attribute("aria-label")
    toggle.check()
    assert re.fullmatch(r"[<>]?\d+%", badges(page)[0])
    assert tiles(page).evaluate_all("all => all.every((each) => each.querySelector('.relevance:not([hidden])'))")
    assert "% likely to match" in tiles(page).first.get_attribute("aria-label")
    tiles(page).first.click()
    assert "% likely to match" in page.get_by_role("dialog").locator(".fits").inner_text()
    leave_image(page)
    page.reload()
    tiles(page).first.wait_for()
    assert badges(page)
    toggle.uncheck()
    assert badges(page) == []
    tiles(page).first.click()
    assert "%" not in page.get_by_role("dialog").locator(".fits").inner_text()


def test_where_the_model_cannot_tell_there_is_only_the_order_and_the_reason(page: Any) -> None:
    """As of short texts with the model that ships: no groups by likelihood, and nothing is said to match or not."""
    search(page, "a cat")
    assert page.locator(".band").all_inner_texts() == ["Nearest first"]
    assert page.locator(".relevance-reason").inner_text() == ""
    page.get_by_label("Show relevance").check()
    page.get_by_text("No relevance: the calibration of tandem-mini cannot separate matches").wait_for()
    assert badges(page) == []
    assert page.get_by_role("heading", name="Nothing matches").count() == 0
    tiles(page).first.click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_text("Cosine").wait_for()
    assert dialog.locator(".fits").inner_text() == ""


def test_rows_fill_the_width(page: Any) -> None:
    search(page, "a flower")
    frames(page)  # laid out again where a scroll bar has come
    edges = page.locator(".grid").evaluate_all(
        """grids => grids.flatMap((grid) => {
            const tiles = [...grid.children];
            const last = tiles.at(-1).offsetTop; // this row may be shorter
            const ends = tiles.filter((tile, at) => tile.offsetTop < last && tile.offsetTop < tiles[at + 1].offsetTop);
            return ends.map((tile) => tile.offsetLeft + tile.offsetWidth - grid.offsetLeft - grid.clientWidth);
        })"""
    )
    assert len(edges) >= 2, "no full rows to compare"
    assert all(abs(edge) <= 1 for edge in edges)


def test_scrolling_brings_the_rest(page: Any) -> None:
    search(page, "a photo")
    scroll_to_the_end(page)
    assert len(set(names(page))) == len(names(page)) == 6 * CROPS + 1


@pytest.mark.parametrize("event", ["drop", "paste"])
def test_an_image_of_ones_own(page: Any, collection: Path, event: str) -> None:
    page.goto("/")
    page.locator("#text").wait_for()
    hand_over(page, event, (collection.parent / "photos" / "rocket-5.png").read_bytes())
    tiles(page).first.wait_for()
    assert names(page)[0] == "rocket-5.png"
    with page.expect_request(lambda request: '"text":"flower"' in (request.post_data or "")) as sent:
        page.locator("#text").fill("flower")
    assert sent.value.post_data_json["image"].startswith("data:image/png;base64,")
    assert sent.value.post_data_json["weight"] == 0.5
    with page.expect_request(lambda request: '"weight":1' in (request.post_data or "")):
        page.locator("#balance").fill("100")
    page.get_by_role("button", name="Remove the photo").click()
    until(page, "document.querySelector('.query-image').hidden")


def test_more_like_this(page: Any) -> None:
    search(page, "a flower")
    first = page.locator(".grid li").first
    name = names(page)[0]
    first.hover()
    first.get_by_role("button").click()
    page.wait_for_url(re.compile("like="))
    until(page, "name => document.querySelector('.grid li > a')?.title === name && document.activeElement.id", name)
    assert page.get_by_role("searchbox").input_value() == ""
    page.go_back()
    until(page, "document.querySelector('#text').value === 'a flower'")


def test_filters(page: Any) -> None:
    search(page, "a photo")
    page.get_by_role("button", name="Filters", exact=True).click()
    page.get_by_label("Path contains").fill("coffee")
    page.keyboard.press("Enter")
    until(page, "document.querySelectorAll('.grid li').length === 12")
    assert {name.split("-")[0] for name in names(page)} == {"coffee"}
    page.get_by_label("Condition").fill("widht > 3")
    page.keyboard.press("Enter")
    page.get_by_role("alert").wait_for()
    assert "widht" in page.get_by_role("alert").inner_text()
    assert page.get_by_role("button", name="Try again").count() == 0  # it would be as wrong again
    page.get_by_label("Condition").fill("width >")
    page.keyboard.press("Enter")
    page.get_by_role("alert").filter(has_not_text="widht").wait_for()
    assert ")" not in page.get_by_role("alert").inner_text()  # nobody typed one
    page.get_by_label("Condition").fill("width > 100000")
    page.keyboard.press("Enter")
    page.get_by_text("No photo passes these filters").wait_for()
    page.get_by_role("button", name="Remove filter: width > 100000").click()
    tiles(page).first.wait_for()


def test_a_filter_finds_a_photo_by_each_of_its_places(page: Any) -> None:
    for part in ("elsewhere", "flower-3"):
        page.goto(f"/#/?q=a+photo&name={part}")
        page.reload()
        tiles(page).first.wait_for()
        assert names(page) == ["flower-3.png"]
    tiles(page).first.click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_text("again.png").wait_for()
    assert "flower-3.png" in dialog.locator("dl").inner_text()


def test_no_match_is_shown(page: Any) -> None:
    def unsure(route: Any) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, json=answer.json() | {"nothing_matches": True})

    page.route("**/v1/search", unsure)
    search(page, "a zebra")
    page.get_by_role("heading", name="Nothing matches “a zebra” well").wait_for()
    assert page.get_by_text("These are the nearest photos.", exact=True).is_visible()
    assert names(page)


def test_an_image_and_what_the_model_sees_in_it(page: Any) -> None:
    search(page, "a cat")
    opened = names(page)[0]
    tiles(page).first.click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("heading", name=opened).wait_for()
    assert "PNG" in dialog.locator("dl").inner_text()
    until(page, "document.querySelector('.shown').src.includes('/original')")
    assert dialog.locator(".bars li").count() == 0  # nothing is said of labels that nobody gave
    for label in ("cat", "rocket"):
        dialog.get_by_label("Add a label").fill(label)
        page.keyboard.press("Enter")
    wait_for_bars(page, 2)
    assert shares(page)["cat"] > shares(page)["rocket"]
    before = shares(page)["cat"]
    rocket = dialog.get_by_role("listitem").filter(has=page.get_by_role("button", name="Remove label rocket"))
    rocket.get_by_role("textbox").fill("kitten")
    until(
        page,
        """before => [...document.querySelectorAll(".bars li")].some((row) =>
            row.querySelector("input").value === "cat"
            && parseFloat(row.querySelector(".fill").style.width) < before - 1)""",
        arg=before,
    )
    second = names(page)[1]
    dialog.get_by_role("button", name="Next photo").click()
    dialog.get_by_role("heading", name=second).wait_for()
    leave_image(page)


@pytest.mark.parametrize("twice", ["Escape", "Close"])
def test_an_image_that_is_closed_twice_is_one_step_back(page: Any, twice: str) -> None:
    """Before the first step is taken: the search behind it stays, and the image can be opened again."""
    by_photo(page)
    page.evaluate("() => { const back = history.back.bind(history); history.back = () => setTimeout(back, 300); }")
    dialog = page.get_by_role("dialog")
    for _ in range(2):
        tiles(page).first.click()
        page.wait_for_url(re.compile("image="))
        dialog.wait_for()
        for _ in range(2):
            if twice == "Escape":
                page.keyboard.press("Escape")
            else:
                dialog.get_by_role("button", name="Close").evaluate("button => button.click()")
        page.wait_for_url(re.compile("like=(?!.*image=)"))
        dialog.wait_for(state="hidden")
    page.wait_for_timeout(400)  # in which a second step would be taken
    assert "like=" in page.evaluate("location.hash")
    assert page.get_by_text("Like chelsea").is_visible()


def test_playground(page: Any, collection: Path) -> None:
    page.goto("/#/classify")
    page.locator("#classify-file").set_input_files(collection.parent / "photos" / "chelsea-1.png")
    wait_for_bars(page, 6)
    assert max(shares(page), key=lambda label: shares(page)[label]) == "cat"
    page.locator(".classify").get_by_label("Add a label").fill("a, b")
    page.keyboard.press("Enter")
    wait_for_bars(page, 8)
    page.get_by_role("button", name="Remove label cat").click()
    wait_for_bars(page, 7)
    page.get_by_label("Template for each label").fill("nothing")
    page.get_by_text("needs {}").wait_for()
    page.get_by_label("Template for each label").fill("a drawing of a {}")
    wait_for_bars(page, 7)
    hand_over(page, "drop", b"no image")
    page.get_by_text("cannot be read as an image").wait_for()


def test_labels_that_are_independent(page: Any, collection: Path) -> None:
    """They need not sum to 100%, one is enough, and the choice is kept. The model that ships refuses them."""

    def answered_by_another(route: Any) -> None:
        asked = route.request.post_data_json
        document = route.fetch(post_data=json.dumps({**asked, "independent": False})).json()
        if asked["independent"]:
            document["scoring"] = "calibrated"
            kept = document["results"][0]["probabilities"]
            document["results"][0]["probabilities"] = dict(zip(kept, (0.9, 0.7, 0.2, 0.1, 0.05, 0.01), strict=True))
        route.fulfill(json=document)

    page.route("**/v1/classify", answered_by_another)
    page.goto("/#/classify")
    page.locator("#classify-file").set_input_files(collection.parent / "photos" / "chelsea-1.png")
    wait_for_bars(page, 6)
    assert sum(shares(page).values()) == pytest.approx(100, abs=0.5)
    before = shares(page)
    with page.expect_response("**/v1/classify") as answered:
        page.locator(".classify").get_by_label("Independent labels").check()
    document = answered.value.json()
    assert document["scoring"] == "calibrated"
    own = {label: round(100 * share, 3) for label, share in document["results"][0]["probabilities"].items()}
    until(
        page,
        """own => [...document.querySelectorAll(".bars li")].filter((row) => row.offsetParent).every((row) =>
            Math.abs(parseFloat(row.querySelector(".fill").style.width) - own[row.querySelector("input").value])
            < 0.01)""",
        own,
    )
    assert set(shares(page)) == set(own) == set(before)
    true = {label for label, share in own.items() if share >= 50}
    assert set(page.locator(".bars li.best input").evaluate_all("inputs => inputs.map(({ value }) => value)")) == true
    page.reload()
    assert page.locator(".classify").get_by_label("Independent labels").is_checked()


def test_a_head_of_the_server_and_a_correction(page: Any, collection: Path) -> None:
    """Its classes take the place of labels; what a person says instead is kept, and what is no name is refused."""
    page.goto("/#/classify")
    photo = collection.parent / "photos" / "chelsea-1.png"
    asked = page.locator(".classify").get_by_label("Not right? This is a")
    page.route("**/v1/classify", lambda route: route.abort())
    page.locator("#classify-file").set_input_files(photo)
    page.locator(".classify .wrong").first.wait_for()
    assert not asked.is_visible()  # there is no answer that could be wrong
    page.unroute("**/v1/classify")
    page.locator("#classify-file").set_input_files(photo)
    wait_for_bars(page, 6)
    asked.wait_for()
    with page.expect_response("**/v1/classify") as answered:
        page.get_by_label("Classify by").select_option("pets")
    assert answered.value.json()["scoring"] == "head"
    page.get_by_text(
        "90% of 20 photos were right when left out of the learning (95% from 75% to 99%; guessing gives 33%)"
    ).wait_for()
    page.get_by_text("The classes of a head. They compete, and together make 100%.").wait_for()
    classes = page.locator(".bars .class-name")
    classes.first.wait_for()
    assert classes.all_inner_texts()[0] == "cat"
    assert set(classes.all_inner_texts()) == {"cat", "dog", "rabbit"}
    assert not page.locator(".classify").get_by_label("Add a label").is_visible()
    page.locator(".classify").get_by_label("Not right? This is a").fill(" ")
    page.locator(".classify").get_by_role("button", name="Keep").click()
    page.get_by_text("Say what it is: the label is empty.").wait_for()
    page.locator(".classify").get_by_label("Not right? This is a").fill("../up")
    page.locator(".classify").get_by_role("button", name="Keep").click()
    page.get_by_text("expected a plain name").wait_for()
    page.locator(".classify").get_by_label("Not right? This is a").fill("tabby cat")
    page.keyboard.press("Enter")
    page.get_by_text("Kept as tabby cat: 1 photo so far.").wait_for()
    (kept,) = (collection.parent / "corrections").glob("*/*")
    assert kept.parent.name == "tabby cat"
    assert kept.read_bytes() == photo.read_bytes()
    page.get_by_label("Classify by").select_option("labels of my own")
    wait_for_bars(page, 6)
    search(page, "a cat")
    tiles(page).first.click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Not right? This is a").fill("rocket")
    dialog.get_by_role("button", name="Keep").click()
    page.get_by_text("Kept as rocket: 1 photo so far.").wait_for()


def test_a_model_that_cannot_judge_labels_by_themselves_says_so(page: Any, collection: Path) -> None:
    """As the model that ships."""
    page.goto("/#/classify")
    page.locator("#classify-file").set_input_files(collection.parent / "photos" / "chelsea-1.png")
    wait_for_bars(page, 6)
    page.locator(".classify").get_by_label("Independent labels").check()
    page.get_by_text("tandem-mini cannot judge a label by itself").wait_for()
    page.locator(".classify").get_by_label("Independent labels").uncheck()
    until(page, "document.querySelectorAll('.bars li.best').length === 1")


def test_map(page: Any) -> None:
    page.goto("/#/map")
    groups = page.locator(".cluster")
    groups.first.wait_for()
    assert page.locator(".map-count").inner_text().startswith(f"{6 * CROPS + 1} photos in {groups.count()} groups")
    groups.first.click()
    assert groups.first.get_attribute("aria-expanded") == "true"
    strip = page.locator(".more:visible a")
    strip.first.wait_for()
    assert page.locator(".more:visible .button").get_attribute("href").startswith("#/?q=")
    groups.first.click()

    canvas = page.get_by_role("application")
    shown = canvas.evaluate("canvas => canvas.toDataURL()")
    box = canvas.bounding_box()
    page.mouse.move(box["x"] + 300, box["y"] + 300)
    page.mouse.wheel(0, -600)
    until(page, "shown => document.querySelector('canvas').toDataURL() !== shown", arg=shown)
    shown = canvas.evaluate("canvas => canvas.toDataURL()")
    page.mouse.down()
    page.mouse.move(box["x"] + 420, box["y"] + 350, steps=4)
    page.mouse.up()
    until(page, "shown => document.querySelector('canvas').toDataURL() !== shown", arg=shown)
    assert "image=" not in page.evaluate("location.hash")
    canvas.focus()
    page.keyboard.press("0")
    page.keyboard.press("Enter")
    page.get_by_role("dialog").wait_for()


def test_the_map_is_waited_for(page: Any) -> None:
    answers = []
    page.on("response", lambda answer: answers.append(answer.status) if "/v1/map" in answer.url else None)

    def not_yet(route: Any) -> None:
        route.fulfill(status=202, json={"status": "computing"}, headers={"Retry-After": "1"})

    page.route("**/v1/map", not_yet)
    page.goto("/#/map")
    page.get_by_text("Computing the map").wait_for()
    assert not page.locator(".cluster").count()
    page.unroute("**/v1/map")
    page.locator(".cluster").first.wait_for()
    assert answers[0] == 202
    assert answers[-1] == 200
    assert not page.locator(".map-said").inner_text()


def test_fingers_on_the_map(browser: Any, url: str) -> None:
    """One moves it, two zoom it, a tap opens an image."""
    with fresh_page(browser, url, has_touch=True, viewport={"width": 400, "height": 800}) as page:
        page.goto("/#/map")
        page.locator(".cluster").first.wait_for()
        box = page.get_by_role("application").bounding_box()
        middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        fingers = page.context.new_cdp_session(page)

        def touch(kind: str, *points: tuple[float, float]) -> None:
            at = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(points)]
            fingers.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": at})

        def where() -> list[list[float] | None]:
            frames(page)
            return list(
                page.locator(".names button").evaluate_all(
                    """all => all.map((each) => each.style.visibility === "visible"
                        ? each.style.transform.match(/-?\\d+/g).slice(0, 2).map(Number) : null)"""
                )
            )

        x, y = middle
        before = where()
        touch("touchStart", (x, y))
        touch("touchMove", (x + 30, y + 12))
        touch("touchEnd")
        moved = [(now, then) for now, then in zip(where(), before, strict=True) if now and then and now != then]
        assert moved
        assert all(abs(now[0] - then[0] - 30) <= 1 and abs(now[1] - then[1] - 12) <= 1 for now, then in moved)
        assert "image=" not in page.evaluate("location.hash")
        page.get_by_role("button", name="Show everything").click()
        before = where()
        touch("touchStart", (x - 20, y), (x + 20, y))
        for step in range(1, 5):
            touch("touchMove", (x - 20 - step * 3, y), (x + 20 + step * 3, y))
        touch("touchEnd")
        both = [(now, then) for now, then in zip(where(), before, strict=True) if now and then]
        assert both
        centre = (box["width"] / 2, box["height"] / 2)
        far = [(math.dist(now, centre), math.dist(then, centre)) for now, then in both]
        now_far, then_far = max(far, key=lambda pair: pair[1])
        assert 1.5 < now_far / then_far < 1.7  # the fingers are 1.6 times as far apart
        assert "image=" not in page.evaluate("location.hash")
        page.get_by_role("button", name="Show everything").click()
        frames(page)
        places = [(left, top) for left in range(-160, 161, 16) for top in range(-160, 161, 16)]
        for left, top in sorted(places, key=lambda place: math.hypot(*place)):
            page.touchscreen.tap(x + left, y + top)
            frames(page, 2)
            if page.evaluate("location.hash.includes('image=')"):
                break
        page.get_by_role("dialog").wait_for()


def test_points_of_a_map(page: Any) -> None:
    """Where they are, in their colour, the more opaque one on top, none outside."""
    page.goto("/")
    painted = page.evaluate(
        """async () => {
            const { paint, packed } = await import("/points.js");
            const view = { x: 0, y: 0, scale: 1 };
            const xs = Float32Array.of(0, 0, 5, 5000), ys = Float32Array.of(0, 0, 8, 0);
            const pixels = new Uint32Array(40 * 40);
            const groups = [0, 1, 1, 0];
            paint(pixels, 40, 40, 1, { view, xs, ys, width: 40, height: 40 }, groups,
                [packed("#0000ff"), packed("#ff8800")], [0.2, 0.8], 2);
            const at = (x, y) => [...new Uint8Array(pixels.buffer, (y * 40 + x) * 4, 4)];
            return { middle: at(20, 20), other: at(25, 12), empty: at(30, 30), set: pixels.filter(Boolean).length };
        }"""
    )
    assert painted["middle"] == painted["other"] == [255, 136, 0, 204]
    assert painted["empty"] == [0, 0, 0, 0]
    assert 2 * 9 < painted["set"] < 2 * 26
