"""The page's views: search, an image, the playground."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from support.browsing import (
    CROPS,
    announced,
    answered,
    frames,
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
    """Search by a photo of the collection, of which its model can tell what resembles it."""
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
    """As of short texts here: no groups by likelihood, and nothing is said to match or not."""
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
    """They need not sum to 100%, one is enough, and the choice is kept. The model here refuses them."""

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
    assert classes.all_inner_texts()[0] == answered.value.json()["results"][0]["best"]
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
    page.goto("/#/classify")
    page.locator("#classify-file").set_input_files(collection.parent / "photos" / "chelsea-1.png")
    wait_for_bars(page, 6)
    page.locator(".classify").get_by_label("Independent labels").check()
    page.get_by_text("tandem-mini cannot judge a label by itself").wait_for()
    page.locator(".classify").get_by_label("Independent labels").uncheck()
    until(page, "document.querySelectorAll('.bars li.best').length === 1")
