"""The page's dialog: words, and where they are in the image."""

import pytest
from support.browsing import search, tiles, until

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
