"""The page in a real Chromium, against a real server with the model that ships: fixtures, and what hands do in it.

tests/serve/conftest.py brings the fixtures, so that all test files share one server.
"""

import base64
import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import tandem
from support.calibrations import save_telling
from support.serving import serving
from tandem.errors import MissingExtraError
from tandem.heads.head import Head
from tandem.heads.head_file import write_head
from tandem.sample_photos import sample_photos

CROPS = 12  # of each photo: more images than one page of hits
HOSTILE = "<img src=x onerror=document.title='broken'>"  # a name that a careless page would run
PETS = ("cat", "dog", "rabbit")
VIEWS = ("#/", "#/?q=a+cat", "#/map", "#/classify")


def crops(folder: Path) -> Path:
    """Cut-outs of the sample photos, named after them."""
    try:
        photos = sample_photos("this test")
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
    (folder / "zz-elsewhere").mkdir()
    shutil.copy(folder / "flower-3.png", folder / "zz-elsewhere" / "again.png")  # one photo, two places
    return folder


@pytest.fixture(scope="session")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    with tandem.open(folder / "photos.tandem") as photos:
        photos.add(crops(folder / "photos"))
    return folder / "photos.tandem"


@pytest.fixture(scope="session")
def url(collection: Path) -> Iterator[str]:
    """A server that offers a head, "pets", and keeps corrections beside the collection.

    It can tell what resembles a photo, and of short texts and of labels by themselves it cannot, in every edition of
    the model that ships.
    """
    model = tandem.load()
    weights = model.class_vectors(PETS) * model.logit_scale
    card = {"model": model.name, "accuracy": {"value": 0.9, "interval": [0.75, 0.99], "n": 20, "chance": 1 / 3}}
    head = Head(PETS, weights, np.zeros(len(PETS), np.float32), model.fingerprint, "clap", card)
    file = write_head(head, collection.parent / "pets.tandem-head")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TANDEM_HOME", str(collection.parent / "home"))
        save_telling("images")
        environment = dict(os.environ)
    corrections = collection.parent / "corrections"
    with serving(collection, environment=environment, heads=[str(file)], corrections=corrections) as server:
        yield server.url


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Ended with its module: while it runs, so does a loop of asyncio in this thread, and no other can."""
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("needs Chromium: apt install chromium")
    with api.sync_playwright() as playwright:
        # No process for graphics, and none that waits for a page to come: a tenth of what these tests cost.
        arguments = ["--no-sandbox", "--disable-gpu", "--renderer-process-limit=1"]
        browser = playwright.chromium.launch(executable_path=chromium, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Any, url: str) -> Iterator[Any]:
    """A fresh page."""
    with fresh_page(browser, url) as page:
        yield page


@contextlib.contextmanager
def fresh_page(browser: Any, url: str, **options: Any) -> Iterator[Any]:
    """Whatever the page does, it asks nobody but its server, and nothing of it breaks."""
    options = {"viewport": {"width": 1200, "height": 800}, "reduced_motion": "reduce", **options}
    context = browser.new_context(base_url=url, **options)
    page = context.new_page()
    page.set_default_timeout(15_000)
    requests: list[str] = []
    broken: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("pageerror", lambda error: broken.append(str(error)))
    page.on(
        "console", lambda message: broken.append(message.text) if "Content Security Policy" in message.text else None
    )
    yield page
    context.close()
    assert not [each for each in requests if not each.startswith((url, "data:", f"blob:{url}"))]
    assert not broken


def until(page: Any, expression: str, arg: object = None, within_s: float = 15) -> None:
    """Wait for something to be true in the page. Playwright's own way needs eval, which the page's policy forbids."""
    end = time.monotonic() + within_s
    while not page.evaluate(expression, arg):
        assert time.monotonic() < end, f"still not so: {expression}"
        page.wait_for_timeout(30)


def with_names(words: Callable[[int], list[str]]) -> Callable[[Any], None]:
    """Answers with the map as it is, but for the words of each group, by its place, the name first; none: no name."""

    def answer(route: Any) -> None:
        found = route.fetch()
        if found.status != 200:  # it is being made
            return route.fulfill(response=found)
        document = found.json()
        for place, cluster in enumerate(document["clusters"]):
            chosen = words(place)
            cluster.update(name=next(iter(chosen), None), words=chosen)
        return route.fulfill(response=found, json=document)

    return answer


numbered = with_names(lambda place: [str(place)])  # short, so that names are seen near the edge, too


def frames(page: Any, count: int = 4) -> None:
    """Wait until the page has been drawn so many times: what was begun before is seen then, on any machine."""
    page.evaluate(
        """async (count) => {
            for (let drawn = 0; drawn < count; drawn++) await new Promise(requestAnimationFrame);
        }""",
        count,
    )


def search(page: Any, words: str) -> None:
    """Type, and wait for the answer to it."""
    page.goto("/")
    with page.expect_response(lambda answer: "/v1/search" in answer.url and words in (answer.request.post_data or "")):
        page.get_by_role("searchbox").press_sequentially(words, delay=5)
    answered(page)


def answered(page: Any) -> None:
    """Wait until the hits of the search that was asked last are shown: those of one before stay until then."""
    until(page, "!document.querySelector('.busy')")
    tiles(page).first.wait_for()


def leave_image(page: Any) -> None:
    """Close the image that is open. That is a step back, which the browser takes when it has time."""
    page.keyboard.press("Escape")
    page.get_by_role("dialog").wait_for(state="hidden")


def scroll_to_the_end(page: Any, within_s: float = 60) -> None:
    """Scroll until no more hits come."""
    end = time.monotonic() + within_s
    page.mouse.move(600, 400)
    while not page.get_by_text("That is all").count():
        assert time.monotonic() < end, "there is no end"
        page.mouse.wheel(0, 40_000)
        frames(page)


def tiles(page: Any) -> Any:
    return page.locator(".grid li > a")


def names(page: Any) -> list[str]:
    return list(tiles(page).evaluate_all("links => links.map((link) => link.title)"))


def announced(page: Any, text: str) -> None:
    """Wait until it is announced to screen readers."""
    until(page, "text => document.getElementById('announcer').textContent.includes(text)", text)


def hand_over(page: Any, event: str, content: bytes, name: str = "mine.png", kind: str = "image/png") -> None:
    """Drop or paste an image's file, as a browser does."""
    hand_over_all(page, event, [(name, kind, content)])


def hand_over_all(page: Any, event: str, files: list[tuple[str, str, bytes]], address: str = "") -> None:
    """Several files, or an address, or nothing of that."""
    page.evaluate(
        """([event, files, address]) => {
            const items = new DataTransfer();
            for (const [name, type, content] of files) {
                const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
                items.items.add(new File([bytes], name, { type }));
            }
            if (address) items.setData("text/uri-list", address);
            const given = event === "paste" ? { clipboardData: items } : { dataTransfer: items };
            const Kind = event === "paste" ? ClipboardEvent : DragEvent;
            document.body.dispatchEvent(new Kind(event, { ...given, bubbles: true, cancelable: true }));
        }""",
        [event, [(name, kind, base64.b64encode(content).decode()) for name, kind, content in files], address],
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
