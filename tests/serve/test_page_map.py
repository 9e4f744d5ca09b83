"""The page's map: it is waited for, moved by hand and by fingers, and its points lead to images."""

import math
from typing import Any

import pytest
from support.browsing import (
    CROPS,
    frames,
    fresh_page,
    numbered,
    until,
    with_names,
)

pytestmark = [pytest.mark.server, pytest.mark.browser]


# The first group has a name and the others have none.
named = with_names(lambda place: ["tabby", "cat"] if place == 0 else [])


def test_groups_without_a_name_say_so(page: Any) -> None:
    page.route("**/v1/map", named)
    page.goto("/")
    titles = page.locator(".group:not(.ghost) h2")
    titles.first.wait_for()
    until(page, "document.querySelectorAll('.group:not(.ghost) h2').length > 1")
    assert titles.first.get_by_role("button").inner_text() == "tabby"
    assert titles.nth(1).inner_text().startswith("Unnamed group")
    assert not titles.nth(1).get_by_role("button").count()
    page.goto("/#/map")
    groups = page.locator(".cluster")
    groups.nth(1).wait_for()
    assert [label for label in page.locator(".names button").all_text_contents() if label] == ["tabby"]
    groups.nth(1).click()
    page.locator(".more:visible").get_by_text("No word clearly sets these photos apart.").wait_for()
    assert page.locator(".more:visible a").count() > 1
    assert not page.locator(".more:visible .button").count()


def test_map(page: Any) -> None:
    page.route("**/v1/map", named)
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
        page.route("**/v1/map", numbered)
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
