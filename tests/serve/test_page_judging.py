"""The page's dialog: how well sentences fit the image, and what the server's policies say of it."""

from collections.abc import Iterator
from typing import Any

import pytest
from support.browsing import fresh_page, search, tiles, until
from support.serving import Server

pytestmark = pytest.mark.browser


@pytest.fixture
def dialog(browser: Any, toy_server: Server) -> Iterator[Any]:
    """The dialog of the first hit, on a server with the policy that ships, which is not fitted for its model."""
    with fresh_page(browser, toy_server.url) as page:
        page.route("**/v1/moderate", as_if_fitted)
        search(page, "cat")
        tiles(page).first.click()
        yield page.get_by_role("dialog")


def as_if_fitted(route: Any) -> None:
    """What the server answers; of the first photo as a policy with a fit has it."""
    answer = route.fetch()
    document = answer.json()
    if not seen:
        document["results"][0]["categories"]["people"] |= {
            "band": "review", "probability": 0.874, "interval": [0.71, 0.95],
        }  # fmt: skip
    seen.append(document)
    route.fulfill(response=answer, json=document)


seen: list[dict[str, Any]] = []


def test_a_photo_is_judged_by_a_policy_and_so_is_the_next_one(dialog: Any) -> None:
    seen.clear()
    section = dialog.locator(".policies")
    section.get_by_role("button", name="people", exact=True).click()
    until(dialog.page, "document.querySelector('.judged li')")
    said = section.inner_text()
    assert "review" in said
    assert "At least one person can be seen. 87% likely (95% from 71% to 95%), where 30% of photos are." in said
    nearest = seen[0]["results"][0]["categories"]["people"]["nearest"]
    for side in ("for", "against"):
        assert f"“{nearest[side]['text']}” {nearest[side]['text_cosine']:.2f}" in said
    assert "Nothing is kept" in said
    dialog.get_by_role("button", name="Next photo").click()
    until(dialog.page, "document.querySelector('.judged .verdict')?.textContent === 'not fitted'")
    assert seen[1]["results"][0]["id"] != seen[0]["results"][0]["id"]
    assert "no probability" in section.inner_text()
    assert "likely" not in section.inner_text()
    section.get_by_role("button", name="people", exact=True).click()  # taken back
    assert section.locator(".judged li").count() == 0


def test_without_a_policy_there_is_no_place_for_one(page: Any) -> None:
    search(page, "cat")
    with page.expect_response("**/v1/policies"):
        tiles(page).first.click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("heading", name="How well does a sentence fit?").wait_for()
    assert dialog.locator(".policies").is_hidden()


def test_sentences_are_scored_the_best_first_and_again_for_the_next_photo(page: Any) -> None:
    search(page, "cat")
    tiles(page).first.click()
    dialog = page.get_by_role("dialog")
    for sentence in ("a rocket at night", "a cat"):
        dialog.get_by_label("A sentence about the photo").fill(sentence)
        dialog.get_by_role("button", name="Score").click()
    rows = dialog.locator(".scored li")
    until(page, "document.querySelectorAll('.scored li').length === 2")
    (best, high), (_, low) = (row.split("\n") for row in rows.all_inner_texts())
    assert best == "a cat"
    assert 2.5 >= float(high) > float(low) >= 0
    assert "alone a figure says little" in dialog.locator(".scores [role=status]").inner_text()
    with page.expect_response("**/v1/score") as sent:
        dialog.get_by_role("button", name="Next photo").click()
    body = sent.value.request.post_data_json
    assert sorted(body["prompts"]) == ["a cat", "a rocket at night"]
