"""The page by keyboard, by ear, on a phone, without motion."""

import re
from typing import Any

import pytest
from support.browsing import VIEWS, announced, fresh_page, leave_image, names, numbered, search, tiles

pytestmark = [pytest.mark.server, pytest.mark.browser]


def test_keyboard_only(page: Any) -> None:
    page.goto("/#/?q=a+cat")
    tiles(page).first.wait_for()
    focused = "document.activeElement"
    for _ in range(6):
        page.keyboard.press("Tab")
        if page.evaluate(f"{focused}.closest('.grid') !== null"):
            break
    assert page.evaluate(f"{focused}.title") == names(page)[0]
    page.keyboard.press("ArrowRight")
    assert page.evaluate(f"{focused}.title") == names(page)[1]
    page.keyboard.press("ArrowDown")
    assert page.evaluate(f"{focused}.title") not in names(page)[:2]
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    page.get_by_role("dialog").wait_for()
    assert page.evaluate(f"{focused}.closest('dialog') !== null")
    leave_image(page)
    assert page.evaluate(f"{focused}.title") == names(page)[0]
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("like="))


@pytest.mark.parametrize("view", VIEWS)
def test_a_phone_is_wide_enough(page: Any, view: str) -> None:
    page.set_viewport_size({"width": 400, "height": 800})
    page.goto(f"/{view}")
    page.locator("main > section").wait_for()
    page.wait_for_load_state("networkidle")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    if "q=" in view:
        tiles(page).first.click()
        page.get_by_role("dialog").wait_for()
        assert page.evaluate("(d => d.scrollWidth <= d.clientWidth)(document.querySelector('dialog'))")


AXE_VIEWS = (
    *VIEWS,
    "#/?q=a+flower&name=flower&where=width>1",  # filters, and chips of them
    "#/?q=a+flower&kind=GIF",  # nothing passes
    "#/?image=0000",  # not here
)


@pytest.mark.parametrize(("scheme", "width"), [("light", 1200), ("dark", 1200), ("dark", 400)])
def test_axe_finds_nothing_serious(page: Any, scheme: str, width: int) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python").Axe()
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    page.set_viewport_size({"width": width, "height": 800})
    found = []

    def look(view: str) -> None:
        page.wait_for_load_state("networkidle")
        for violation in axe.run(page).response["violations"]:
            if violation["impact"] in ("serious", "critical"):
                found.append((view, violation["id"], [node["html"][:120] for node in violation["nodes"]][:3]))

    for view in AXE_VIEWS:
        page.goto(f"/{view}")
        if "image" in view:
            page.get_by_role("dialog").wait_for()
        look(view)
    page.goto("/#/?q=a+flower")
    page.get_by_role("button", name="Help").click()
    look("help")
    page.keyboard.press("Escape")
    page.get_by_role("dialog", name="Help").wait_for(state="hidden")
    page.locator(".alike").first.evaluate("button => button.click()")
    page.locator("#text").fill("red")
    page.locator("#balance").wait_for()
    look("words and an image")
    tiles(page).first.click()
    page.get_by_role("dialog").wait_for()
    look("image")
    leave_image(page)
    page.route("**/v1/search", lambda route: route.abort())
    page.locator("#text").fill("blue")
    page.get_by_role("alert").wait_for()
    look("error")
    assert not found


def test_help(page: Any) -> None:
    search(page, "a cat")
    page.keyboard.press("?")
    assert page.locator("#text").input_value().endswith("?")  # where words are written it is a letter
    opener = page.get_by_role("button", name="Help")
    opener.click()
    dialog = page.get_by_role("dialog", name="Help")
    for part in ("Relevance", "Labels", "Keys", "Filters"):
        assert part in dialog.inner_text()
    page.keyboard.press("Escape")
    dialog.wait_for(state="hidden")
    assert opener.evaluate("opener => opener === document.activeElement")
    page.keyboard.press("?")
    dialog.wait_for()
    page.keyboard.press("Escape")
    dialog.wait_for(state="hidden")
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "text"


def test_focus_goes_where_one_has_walked(page: Any) -> None:
    search(page, "a cat")
    tiles(page).first.focus()
    page.keyboard.press("Enter")
    page.get_by_role("dialog").wait_for()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.get_by_role("dialog").get_by_role("heading", name=names(page)[2]).wait_for()
    leave_image(page)
    assert page.evaluate("document.activeElement.title") == names(page)[2]


def test_results_are_announced(page: Any) -> None:
    search(page, "a cat")
    announced(page, "60 photos, nearest first")
    page.get_by_role("button", name="Filters", exact=True).click()
    page.get_by_label("Path contains").fill("nothing-is-called-this")
    page.keyboard.press("Enter")
    page.get_by_role("status").get_by_text("No photo passes").wait_for()
    page.goto("/#/map")
    page.locator(".cluster").first.click()
    announced(page, page.locator(".cluster-name").first.inner_text())


def test_keys_on_the_map_show_what_they_would_open(page: Any) -> None:
    page.goto("/#/map")
    page.locator(".cluster").first.wait_for()
    page.get_by_role("application").focus()
    page.keyboard.press("ArrowRight")
    name = page.locator(".tip span").inner_text()
    page.keyboard.press("Enter")
    page.get_by_role("dialog").get_by_role("heading", name=name).wait_for()


@pytest.mark.parametrize("motion", ["reduce", "no-preference"])
def test_motion(browser: Any, url: str, motion: str) -> None:
    """With reduced motion the map moves in one step, and nothing moves while it waits."""
    with fresh_page(browser, url, reduced_motion=motion) as page:
        page.route("**/v1/search", lambda route: None)
        page.goto("/#/?q=a+cat")
        page.locator(".ghosts").wait_for()
        assert (page.evaluate("document.getAnimations().length") == 0) == (motion == "reduce")
        page.route("**/v1/map", numbered)
        page.goto("/#/map")
        page.locator(".cluster").first.wait_for()
        steps = page.evaluate(
            """async () => {
                let now = performance.now();
                performance.now = () => now; // frames are 50 ms apart, however slow the machine
                const frame = requestAnimationFrame.bind(window);
                window.requestAnimationFrame = (act) => frame(() => act(now));
                const names = [...document.querySelectorAll(".names button")];
                const places = () => names.map((each) => each.style.transform).join();
                const seen = new Set();
                document.querySelector("[aria-label='Zoom in']").click();
                for (let frames = 0; frames < 12; frames++) {
                    now += 50;
                    await new Promise(frame);
                    seen.add(places());
                }
                return seen.size;
            }"""
        )
        assert (steps <= 2) == (motion == "reduce")
