"""The page in a real Chromium, against a real server with the model that ships."""

import base64
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from serving import serving

import tandem
from tandem.cli.demo import sample_photos
from tandem.errors import MissingExtraError

playwright_api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
if CHROMIUM is None:
    pytest.skip("needs Chromium: apt install chromium", allow_module_level=True)

CROPS = 12  # of each photo: more pictures than one page of hits
HOSTILE = "<img src=x onerror=document.title='broken'>"  # a name that a careless page would run
VIEWS = ("#/", "#/?q=a+cat", "#/map", "#/classify")


def crops(folder: Path) -> Path:
    """Cut-outs of the sample photos, named after them."""
    try:
        photos = sample_photos()
    except MissingExtraError as error:
        pytest.skip(str(error))
    folder.mkdir()
    for file in photos:
        photo = Image.open(file).convert("RGB")
        photo.thumbnail((480, 480))
        width, height = photo.size
        for number in range(CROPS):
            across, down = number % 4, number // 4
            box = (across * width // 16, down * height // 16, width - (3 - across) * width // 16, height - down * 6)
            photo.crop(box).save(folder / f"{Path(file).stem}-{number}.png")
    Image.new("RGB", (300, 100), "navy").save(folder / f"{HOSTILE}.png")
    return folder


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    with tandem.open(folder / "photos.tandem") as photos:
        photos.add(crops(folder / "photos"))
    return folder / "photos.tandem"


@pytest.fixture(scope="module")
def url(collection: Path) -> Iterator[str]:
    with serving(collection) as server:
        yield server.url


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Any, url: str) -> Iterator[Any]:
    """A fresh page. Whatever it does, it asks nobody but its server, and nothing of it breaks."""
    context = browser.new_context(base_url=url, viewport={"width": 1200, "height": 800}, reduced_motion="reduce")
    page = context.new_page()
    page.set_default_timeout(15_000)
    asked: list[str] = []
    broken: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: broken.append(str(error)))
    page.on("console", lambda said: broken.append(said.text) if "Content Security Policy" in said.text else None)
    yield page
    context.close()
    assert not [each for each in asked if not each.startswith((url, "data:", f"blob:{url}"))]
    assert not broken


def until(page: Any, expression: str, arg: object = None, within_s: float = 15) -> None:
    """Wait for something to be true in the page. Playwright's own way needs eval, which the page's policy forbids."""
    end = time.monotonic() + within_s
    while not page.evaluate(expression, arg):
        assert time.monotonic() < end, f"still not so: {expression}"
        page.wait_for_timeout(30)


def search(page: Any, words: str) -> None:
    """Type, and wait for the answer to it."""
    page.goto("/")
    with page.expect_response(lambda answer: "/v1/search" in answer.url and words in (answer.request.post_data or "")):
        page.get_by_role("searchbox").press_sequentially(words, delay=5)
    tiles(page).first.wait_for()


def tiles(page: Any) -> Any:
    return page.locator(".grid li > a")


def names(page: Any) -> list[str]:
    return list(tiles(page).evaluate_all("links => links.map((link) => link.title)"))


def hand_over(page: Any, event: str, content: bytes) -> None:
    """Drop or paste a picture's file, as a browser does."""
    page.evaluate(
        """([event, content]) => {
            const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
            const items = new DataTransfer();
            items.items.add(new File([bytes], "mine.png", { type: "image/png" }));
            const given = event === "paste" ? { clipboardData: items } : { dataTransfer: items };
            const Kind = event === "paste" ? ClipboardEvent : DragEvent;
            document.body.dispatchEvent(new Kind(event, { ...given, bubbles: true, cancelable: true }));
        }""",
        [event, base64.b64encode(content).decode()],
    )


def shares(page: Any) -> dict[str, float]:
    """What the bars show: label -> width in percent."""
    rows = page.locator(".bars:visible li").evaluate_all(
        "rows => rows.map((row) => [row.querySelector('input').value, row.querySelector('.fill').style.width])"
    )
    return {label: float(width.rstrip("%")) for label, width in rows if width}


def wait_for_bars(page: Any, count: int) -> None:
    until(
        page,
        """count => {
            const rows = [...document.querySelectorAll(".bars li")].filter((row) => row.offsetParent);
            const sum = rows.reduce((sum, row) => sum + parseFloat(row.querySelector(".fill").style.width || 0), 0);
            const all = rows.every((row) => row.querySelector(".number").textContent);
            return all && rows.length === count && Math.abs(sum - 100) < 0.5;
        }""",
        arg=count,
    )


def test_search_as_you_type(page: Any) -> None:
    search(page, "a cat")
    assert names(page)[0].startswith("chelsea")
    assert "likely to match" in tiles(page).first.get_attribute("aria-label")
    assert "q=a+cat" in page.url
    page.reload()
    tiles(page).first.wait_for()
    assert names(page)[0].startswith("chelsea")
    assert page.get_by_role("searchbox").input_value() == "a cat"


def test_rows_fill_the_width(page: Any) -> None:
    search(page, "a flower")
    rows: dict[int, list[dict[str, float]]] = {}
    for box in (
        page.locator(".grid")
        .first.locator("li")
        .evaluate_all(
            "tiles => tiles.map((tile) => ({ top: tile.offsetTop, left: tile.offsetLeft, width: tile.offsetWidth }))"
        )
    ):
        rows.setdefault(box["top"], []).append(box)
    full = list(rows.values())[:-1]
    if full:
        assert len({row[-1]["left"] + row[-1]["width"] for row in full}) == 1


def test_scrolling_brings_the_rest(page: Any) -> None:
    search(page, "a photo")
    for _ in range(20):
        page.mouse.wheel(0, 4000)
        if page.locator(".end").inner_text():
            break
        page.wait_for_timeout(100)
    assert len(set(names(page))) == len(names(page)) == 6 * CROPS + 1


@pytest.mark.parametrize("event", ["drop", "paste"])
def test_a_picture_of_ones_own(page: Any, collection: Path, event: str) -> None:
    page.goto("/")
    page.locator("#words").wait_for()
    hand_over(page, event, (collection.parent / "photos" / "rocket-5.png").read_bytes())
    tiles(page).first.wait_for()
    assert names(page)[0] == "rocket-5.png"
    with page.expect_request(lambda request: '"text":"flower"' in (request.post_data or "")) as sent:
        page.locator("#words").fill("flower")
    assert sent.value.post_data_json["image"].startswith("data:image/png;base64,")
    assert sent.value.post_data_json["weight"] == 0.5
    with page.expect_request(lambda request: '"weight":1' in (request.post_data or "")):
        page.locator("#balance").fill("100")
    page.get_by_role("button", name="Remove the picture").click()
    until(page, "document.querySelector('.asked-picture').hidden")


def test_what_is_no_picture_is_said(page: Any) -> None:
    page.goto("/")
    page.locator("#words").wait_for()
    hand_over(page, "drop", b"not a picture at all")
    assert "cannot be read" in page.get_by_role("alert").inner_text()


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
    until(page, "document.querySelector('#words').value === 'a flower'")


def test_filters(page: Any) -> None:
    search(page, "a photo")
    page.get_by_role("button", name="Filters", exact=True).click()
    page.get_by_label("Name or folder has").fill("coffee")
    page.keyboard.press("Enter")
    until(page, "document.querySelectorAll('.grid li').length === 12")
    assert {name.split("-")[0] for name in names(page)} == {"coffee"}
    page.get_by_label("Condition").fill("widht > 3")
    page.keyboard.press("Enter")
    page.get_by_role("alert").wait_for()
    assert "widht" in page.get_by_role("alert").inner_text()
    page.get_by_label("Condition").fill("width > 100000")
    page.keyboard.press("Enter")
    page.get_by_text("No picture passes these filters").wait_for()
    page.get_by_role("button", name="Remove filter: width > 100000").click()
    tiles(page).first.wait_for()


def test_nothing_matches_is_said(page: Any) -> None:
    def unsure(route: Any) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, json=answer.json() | {"nothing_matches": True})

    page.route("**/v1/search", unsure)
    search(page, "a zebra")
    page.get_by_role("heading", name="Nothing matches “a zebra” well").wait_for()
    assert page.get_by_text("Here is what is nearest.", exact=True).is_visible()
    assert names(page)


def test_a_picture_and_what_the_model_sees_in_it(page: Any) -> None:
    search(page, "a cat")
    opened = names(page)[0]
    tiles(page).first.click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("heading", name=opened).wait_for()
    assert "PNG" in dialog.locator("dl").inner_text()
    assert "“a cat”" in dialog.locator(".fits").inner_text()
    until(page, "document.querySelector('.shown').src.includes('/original')")
    for label in ("cat", "rocket"):
        dialog.get_by_label("Add a label").fill(label)
        page.keyboard.press("Enter")
    wait_for_bars(page, 10)
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
    dialog.get_by_role("button", name="Next picture").click()
    dialog.get_by_role("heading", name=second).wait_for()
    page.keyboard.press("Escape")
    dialog.wait_for(state="hidden")


def test_an_address_leads_to_a_picture(page: Any) -> None:
    search(page, "a rocket")
    tiles(page).first.click()
    page.goto(page.url.replace("q=a+rocket&", ""))
    page.reload()
    page.get_by_role("dialog").get_by_role("heading", name=re.compile("rocket")).wait_for()
    page.goto("/#/?picture=0000000000000000")
    page.reload()
    page.get_by_text("This picture is not here").wait_for()


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
    page.get_by_label("Sentence around each label").fill("nothing")
    page.get_by_text("needs {}").wait_for()
    page.get_by_label("Sentence around each label").fill("a drawing of a {}")
    wait_for_bars(page, 7)
    hand_over(page, "drop", b"no picture")
    page.get_by_text("cannot be read as a picture").wait_for()


def test_map(page: Any) -> None:
    page.goto("/#/map")
    groups = page.locator(".cluster")
    groups.first.wait_for()
    assert page.locator(".map-count").inner_text().startswith(f"{6 * CROPS + 1} pictures in {groups.count()} groups")
    groups.first.click()
    assert groups.first.get_attribute("aria-expanded") == "true"
    strip = page.locator(".more:visible a")
    strip.first.wait_for()
    assert page.locator(".more:visible .button").get_attribute("href").startswith("#/?q=")
    groups.first.click()

    canvas = page.locator("canvas")
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
    assert "picture=" not in page.url
    canvas.focus()
    page.keyboard.press("0")
    page.keyboard.press("Enter")
    page.get_by_role("dialog").wait_for()


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
    page.keyboard.press("Escape")
    page.get_by_role("dialog").wait_for(state="hidden")
    assert page.evaluate(f"{focused}.title") == names(page)[0]
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("like="))


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
    page.locator("#words").wait_for()
    page.route("**/v1/search", lambda route: route.abort())
    page.locator("#words").fill("a cat")
    alert = page.get_by_role("alert")
    alert.wait_for()
    assert "does not answer" in alert.inner_text()
    page.unroute("**/v1/search")
    page.get_by_role("button", name="Try again").click()
    tiles(page).first.wait_for()
    assert not alert.count()


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


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(page: Any, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python").Axe()
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    found = []
    for view in (*VIEWS, "picture", "filters"):
        if view == "picture":
            page.goto("/#/?q=a+flower")
            page.reload()
            tiles(page).first.click()
            page.get_by_role("dialog").wait_for()
        elif view == "filters":
            page.goto("/#/?q=a+flower&name=flower&where=width>1")
            page.reload()
        else:
            page.goto(f"/{view}")
        page.wait_for_load_state("networkidle")
        for violation in axe.run(page).response["violations"]:
            if violation["impact"] in ("serious", "critical"):
                found.append((view, violation["id"], [node["html"][:120] for node in violation["nodes"]][:3]))
    assert not found


def test_a_key_is_asked_for_once(browser: Any, collection: Path, tmp_path: Path) -> None:
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
