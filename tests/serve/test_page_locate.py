"""The page's dialog: words, and where they are in the image."""

import pytest
from support.browsing import fresh_page, search, tiles, until

pytestmark = pytest.mark.browser


def only_the_first_is_there(route):
    """What the server answers, but with a box in the middle for the first text, and no other text there."""
    answer = route.fetch()
    document = answer.json()
    width, height = document["width"], document["height"]
    first, *others = document["locations"]
    box = [width // 4, height // 4, width * 3 // 4, height * 3 // 4]
    first |= {"present": True, "point": [width // 2, height // 2], "boxes": [{"box": box, "heat": 0.9}]}
    for other in others:
        other |= {"present": False, "boxes": []}
    route.fulfill(response=answer, json=document)


def test_words_are_found_and_a_region_is_searched_by(page):
    page.route("**/v1/locate", only_the_first_is_there)
    search(page, "cat")
    tiles(page).first.click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Words, with commas between several").fill("cat, blue sky")
    dialog.get_by_role("button", name="Find", exact=True).click()
    texts = dialog.locator(".located-texts li")
    until(page, "() => document.querySelectorAll('.located-texts li').length === 2")
    assert [text.split("\n")[0] for text in texts.all_inner_texts()] == ["cat", "blue sky"]
    over, image = (dialog.locator(each).bounding_box() for each in (".located", "img.shown"))
    for side in ("x", "y"):
        assert over[side] >= image[side] - 1  # the heat lies on the picture, which is centred in its element
    assert over["width"] <= image["width"] + 1
    painted = "() => document.querySelector('.located canvas').width > 1"
    assert page.evaluate(painted)
    boxes = dialog.locator(".located-box")
    texts.nth(1).get_by_role("button").click()
    assert boxes.count() == 0
    assert "“blue sky” is not there" in dialog.locator(".locate [role=status]").inner_text()
    texts.nth(0).get_by_role("button").click()
    assert boxes.count() == 1
    box, photo = boxes.first.bounding_box(), dialog.locator(".located").bounding_box()
    assert box["x"] == pytest.approx(photo["x"] + photo["width"] / 4, abs=2)
    assert box["width"] == pytest.approx(photo["width"] / 2, abs=2)
    with page.expect_response(lambda answer: "/v1/search" in answer.url) as sent:
        boxes.first.click()
    assert sent.value.request.post_data_json["image"].startswith("data:image/jpeg;base64,")


def test_another_image_forgets_what_was_found(page):
    search(page, "cat")
    tiles(page).first.click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Words, with commas between several").fill("cat")
    dialog.get_by_role("button", name="Find", exact=True).click()
    until(page, "() => document.querySelectorAll('.located-texts li').length === 1")
    dialog.get_by_role("button", name="Next photo").click()
    until(page, "() => document.querySelectorAll('.located-texts li').length === 0")
    assert dialog.locator(".located").is_hidden()
    assert dialog.get_by_label("Words, with commas between several").input_value() == ""


def boxed_at_the_edge(route):
    """An answer with a box from the left edge to the right one."""
    found = {"present": True, "probability": None, "point": [1, 1], "boxes": [{"box": [0, 0, 480, 40], "heat": 0.9}]}
    found["heat"] = {"width": 1, "height": 1, "values": "/w=="}
    locations = [{"text": text, **found} for text in route.request.post_data_json["texts"]]
    route.fulfill(json={"width": 480, "height": 320, "locations": locations})


def find(page, dialog, words):
    """Type words, and wait until they are shown."""
    dialog.get_by_label("Words, with commas between several").fill(words)
    dialog.get_by_role("button", name="Find", exact=True).click()
    until(page, "words => document.querySelector('.located-texts span')?.textContent === words", words)


@pytest.mark.parametrize("width", [1200, 400])
def test_arrows_lie_beside_the_photo_which_stays_in_sight(browser, url, width):
    with fresh_page(browser, url, viewport={"width": width, "height": 800}) as page:
        page.route("**/v1/locate", boxed_at_the_edge)
        search(page, "cat")
        tiles(page).nth(1).click()  # it has a photo before it, and one after it
        dialog = page.get_by_role("dialog")
        for words in ("cat", "an ear"):
            find(page, dialog, words)
        box, photo = dialog.locator(".located-box").bounding_box(), dialog.locator(".stage").bounding_box()
        assert photo["y"] >= 0
        assert box["y"] >= 0
        assert box["y"] + box["height"] <= 800
        for name in ("Previous photo", "Next photo"):
            arrow = dialog.get_by_role("button", name=name).bounding_box()
            beside = arrow["x"] + arrow["width"] <= box["x"] or arrow["x"] >= box["x"] + box["width"]
            assert beside or arrow["y"] >= dialog.locator("img.shown").bounding_box()["y"] + box["height"]
            dialog.get_by_role("button", name=name).click(trial=True)
        page.evaluate("for (const each of ['.image-dialog', '.aside']) document.querySelector(each).scrollTop = 1e5")
        assert dialog.locator(".stage").bounding_box()["y"] == photo["y"]  # also at the end of the dialog
