"""Pictures of the page for README and docs: `python docs/screenshots.py`, with playwright and Chromium installed.

Photos are those that come inside scikit-image and scikit-learn, and cut-outs of them; the model is the one that ships.
"""

import io
import shutil
import sys
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from PIL import Image

import tandem.cli.demo

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

PHOTOS = {
    "skimage": (
        "data/chelsea.png", "data/astronaut.png", "data/coffee.png", "data/rocket.jpg", "data/hubble_deep_field.jpg",
        "data/motorcycle_left.png", "data/retina.jpg", "data/ihc.png",
    ),
    "sklearn": ("datasets/images/china.jpg", "datasets/images/flower.jpg"),
}  # fmt: skip
# Cut-outs: left, top, right, bottom as shares of the photo; shapes differ, as those of people's photos do.
CUTS = (
    (0, 0, 1, 1), (0, 0, 0.7, 0.8), (0.25, 0, 1, 0.85), (0.1, 0.2, 0.95, 1), (0.2, 0.05, 0.75, 0.95),
    (0, 0.3, 1, 0.9), (0.3, 0.3, 0.9, 0.9), (0.05, 0.05, 0.6, 0.7),
)  # fmt: skip
WIDTH, HEIGHT = 1200, 780
COLORS = 200  # of the palette: every clone carries the pictures
MOST_BYTES = 150_000


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
            for number, (left, top, right, bottom) in enumerate(CUTS):
                box = (left * photo.width, top * photo.height, right * photo.width, bottom * photo.height)
                name = source.stem if number == 0 else f"{source.stem}-{number}"
                photo.crop(tuple(map(round, box))).save(folder / f"{name}.jpg", quality=90)


def shoot(page: Any, name: str) -> None:
    """The page as it is now, small enough to be carried around."""
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(700)  # bars and pictures have come to rest
    shot = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    target = ROOT / "docs" / "images" / f"page-{name}.png"
    for colors in (COLORS, 96, 48, 24):
        shot.quantize(colors, dither=Image.Dither.NONE).save(target, optimize=True)
        if target.stat().st_size < MOST_BYTES:
            break
    print(f"{target.relative_to(ROOT)}: {target.stat().st_size // 1000} kB")


def search(page: Any) -> None:
    page.goto("/#/?q=a+flower")


def welcome(page: Any) -> None:
    page.goto("/")
    page.locator(".group img.there").first.wait_for()


def picture(page: Any) -> None:
    page.goto("/#/?q=a+cup+of+coffee")
    page.locator(".grid a").first.click()
    page.locator(".shown:not(.small)").wait_for()


def combined(page: Any) -> None:
    page.goto("/#/?q=something+to+drink")
    page.locator(".grid li").first.hover()
    page.locator(".grid li .alike").first.click()
    page.locator("#words").fill("a red thing")


def classify(page: Any) -> None:
    page.goto("/#/classify")
    page.locator("#classify-file").set_input_files(tandem.cli.demo.sample_photos()[0])
    page.locator(".bars:visible .best").wait_for()


def collection_map(page: Any) -> None:
    page.goto("/#/map")
    page.locator(".cluster").first.wait_for()


def nothing(page: Any) -> None:
    page.goto("/#/?q=a+page+of+a+tax+form")


# Name -> what leads there, light or dark, and how wide and high the window is.
SHOTS: dict[str, tuple[Callable[[Any], None], str, int, int]] = {
    "welcome": (welcome, "light", WIDTH, HEIGHT),
    "search": (search, "light", WIDTH, HEIGHT),
    "dark": (search, "dark", WIDTH, HEIGHT),
    "combined": (combined, "light", WIDTH, HEIGHT),
    "picture": (picture, "light", WIDTH, HEIGHT),
    "classify": (classify, "light", WIDTH, HEIGHT),
    "map": (collection_map, "light", WIDTH, HEIGHT),
    "nothing": (nothing, "light", WIDTH, HEIGHT),
    "phone": (search, "light", 400, 800),
}


def main() -> None:
    from playwright.sync_api import sync_playwright
    from serving import serving

    wanted = sys.argv[1:] or list(SHOTS)
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
