"""Pictures of the page for README and docs: `python docs/screenshots.py`, with playwright and Chromium installed.

Photos are those that come inside scikit-image and scikit-learn, and cut-outs of them; the model is the one that ships.
"""

import io
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from PIL import Image

import tandem
import tandem.cli.commands.demo
from tandem.audit import audit

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))
# Servers are processes of their own, which find what tests share there, too.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT / "tests"), os.environ.get("PYTHONPATH"))))

PHOTOS = {
    "skimage": (
        "data/chelsea.png", "data/astronaut.png", "data/coffee.png", "data/rocket.jpg", "data/motorcycle_left.png",
    ),
    "sklearn": ("datasets/images/china.jpg", "datasets/images/flower.jpg"),
}  # fmt: skip
CUTS = 20  # of each photo, in shapes as people's photos have them
WIDTH, HEIGHT = 1200, 780
QUALITY = 82  # every clone carries the screenshots: 30 to 100 kB each


def photos(folder: Path) -> None:
    """The photos and their cut-outs."""
    for package, files in PHOTOS.items():
        spec = find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            raise SystemExit(f"{package} is not installed: pip install '.[demo]'")
        for file in files:
            source = Path(spec.submodule_search_locations[0]) / file
            if not source.is_file():
                continue
            photo = Image.open(source).convert("RGB")
            photo.save(folder / f"{source.stem}.jpg", quality=92)
            chance = random.Random(source.stem)
            for number in range(1, CUTS):
                share, shape = chance.uniform(0.5, 0.9), chance.choice((1.5, 1.33, 1.0, 0.75, 1.78))
                height = share * min(photo.height, photo.width / shape)
                width = height * shape
                left, top = chance.uniform(0, photo.width - width), chance.uniform(0, photo.height - height)
                box = tuple(map(round, (left, top, left + width, top + height)))
                photo.crop(box).save(folder / f"{source.stem}-{number}.jpg", quality=92)


def shoot(page: Any, name: str) -> None:
    """The page as it is now, small enough to be carried around."""
    page.wait_for_load_state("networkidle")
    # Where the photos lie here is nobody's business.
    page.evaluate(
        """() => {
            for (const each of document.querySelectorAll("dd"))
                each.textContent = each.textContent.replace(/^.*\\/Pictures\\//, "Pictures/");
        }"""
    )
    page.wait_for_timeout(700)  # bars and pictures have come to rest
    shot = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    target = ROOT / "docs" / "images" / f"page-{name}.webp"
    shot.save(target, quality=QUALITY, method=6)  # a palette that makes a PNG as small spoils the photos
    print(f"{target.relative_to(ROOT)}: {target.stat().st_size // 1000} kB")


def search(page: Any) -> None:
    page.goto("/#/?q=something+bright+red")


def dark(page: Any) -> None:
    page.goto("/#/?q=a+rocket+launch+at+night")


def welcome(page: Any) -> None:
    page.goto("/")
    page.locator(".group img.there").first.wait_for()


def image(page: Any) -> None:
    page.goto("/#/?q=a+cup+of+coffee")
    page.locator(".grid a").first.click()
    page.locator("img.shown:not(.small)").wait_for()


def combined(page: Any) -> None:
    page.goto("/#/?q=something+to+drink")
    page.locator(".grid li").first.hover()
    page.locator(".grid li .alike").first.click()
    page.locator("#text").fill("a red thing")


def classify(page: Any) -> None:
    page.goto("/#/classify")
    page.locator("#classify-file").set_input_files(tandem.sample_photos.sample_photos("a screenshot")[0])
    page.locator(".bars:visible .best").wait_for()


def collection_map(page: Any) -> None:
    page.goto("/#/map")
    page.locator(".cluster").first.wait_for()


def relevance(page: Any) -> None:
    page.goto("/#/?q=a+cup+of+coffee")
    page.locator(".grid li").first.hover()
    page.locator(".grid li .alike").first.click()
    page.get_by_label("Show relevance").check()


# Name -> what leads there, light or dark, and how wide and high the window is.
SHOTS: dict[str, tuple[Callable[[Any], None], str, int, int]] = {
    "welcome": (welcome, "light", WIDTH, HEIGHT),
    "search": (search, "light", WIDTH, HEIGHT),
    "dark": (dark, "dark", WIDTH, HEIGHT),
    "combined": (combined, "light", WIDTH, HEIGHT),
    "image": (image, "light", WIDTH, HEIGHT),
    "classify": (classify, "light", WIDTH, HEIGHT),
    "map": (collection_map, "light", WIDTH, HEIGHT),
    "relevance": (relevance, "light", WIDTH, HEIGHT),
    "phone": (search, "light", 400, 800),
}


FILM = "film"  # a collection of its own
AUDIT = "audit"  # no page of the server: the report of the model that ships


def shoot_audit(browser: Any, folder: Path) -> None:
    """A report's test of binding, with its scenes."""
    report = audit(tandem.load(), only=["binding"], progress=False).save(folder / "report")
    page = browser.new_page(viewport={"width": 1000, "height": 850})
    page.goto((report / "audit.html").as_uri())
    page.locator("h2").first.scroll_into_view_if_needed()
    page.evaluate("document.querySelector('h2').scrollIntoView()")
    shot = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    target = ROOT / "docs" / "images" / "audit-report.webp"
    shot.save(target, quality=60, method=6)
    print(f"{target.relative_to(ROOT)}: {target.stat().st_size // 1000} kB")


def shoot_film(browser: Any, folder: Path) -> None:
    """A moment of a film, found by words: slow pans over the photos, in a codec that every browser plays."""
    import av
    import numpy as np
    from support.serving import serving

    films = folder / "Films" / "Pictures"
    films.mkdir(parents=True)
    with av.open(str(films / "holiday.webm"), "w") as out:
        stream = out.add_stream("libvpx", rate=10, options={"deadline": "realtime", "cpu-used": "8", "b": "3M"})
        stream.width, stream.height = 960, 540
        stream.pix_fmt = "yuv420p"
        for name in ("china", "rocket", "coffee", "astronaut", "chelsea", "flower"):
            with Image.open(folder / "Pictures" / f"{name}.jpg") as photo:
                scale = 1.25 * max(960 / photo.width, 540 / photo.height)
                large = np.asarray(photo.resize((round(photo.width * scale), round(photo.height * scale))))
            for step in range(80):
                top, left = (
                    round((side - most) * step / 80) for side, most in zip(large.shape, (540, 960), strict=False)
                )
                part = np.ascontiguousarray(large[top : top + 540, left : left + 960])
                out.mux(stream.encode(av.VideoFrame.from_ndarray(part, format="rgb24")))
        out.mux(stream.encode())
    with tandem.open(folder / "films.tandem") as collection:
        collection.add(films)
    with serving(folder / "films.tandem") as server:
        page = browser.new_page(base_url=server.url, viewport={"width": WIDTH, "height": HEIGHT})
        page.goto("/")
        page.get_by_role("searchbox").fill("a cat")
        page.locator("a:has(.film-time)").first.press("Enter")
        page.locator("video:not([hidden])").wait_for()
        shoot(page, FILM)
        page.close()


def main() -> None:
    from playwright.sync_api import sync_playwright
    from support.serving import serving

    wanted = sys.argv[1:] or [*SHOTS, FILM, AUDIT]
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        raise SystemExit("Chromium is not installed: apt install chromium")
    with tempfile.TemporaryDirectory() as temporary, sync_playwright() as playwright:
        folder = Path(temporary) / "Pictures"
        folder.mkdir()
        photos(folder)
        with tandem.open(Path(temporary) / "photos.tandem") as collection:
            collection.add(folder)
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--hide-scrollbars"])
        with serving(Path(temporary) / "photos.tandem") as server:
            for name in wanted:
                if name == AUDIT:
                    shoot_audit(browser, Path(temporary))
                    continue
                if name == FILM:
                    shoot_film(browser, Path(temporary))
                    continue
                lead, scheme, width, height = SHOTS[name]
                context = browser.new_context(
                    base_url=server.url, viewport={"width": width, "height": height}, color_scheme=scheme
                )
                page = context.new_page()
                lead(page)
                shoot(page, name)
                context.close()
        browser.close()


if __name__ == "__main__":
    main()
