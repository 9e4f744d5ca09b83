"""Screenshots of a site that was built, to measure the policy `screenshots` on (bench/moderation.py --screens FOLDER).

    make docs && python bench/screens.py build/site FOLDER

Each page is taken as a computer and as a phone show it, light and dark, at its top and further down. Names begin with
the page's, so that halves can be drawn by page.
"""

import argparse
import shutil
from pathlib import Path

from playwright.sync_api import sync_playwright

SIZES = {"computer": (1280, 800), "phone": (390, 844)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("site", type=Path)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    pages = sorted(arguments.site.rglob("*.html"))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for size, (width, height) in SIZES.items():
            for scheme in ("light", "dark"):
                context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
                tab = context.new_page()
                for number, page in enumerate(pages):
                    tab.goto(page.resolve().as_uri(), wait_until="domcontentloaded")
                    if scheme == "dark":
                        tab.evaluate("document.body.setAttribute('data-md-color-scheme', 'slate')")
                    tab.mouse.wheel(0, (number % 3) * height)
                    tab.wait_for_timeout(50)
                    name = "-".join(page.relative_to(arguments.site).with_suffix("").parts)
                    tab.screenshot(path=arguments.folder / f"{name}.{size}.{scheme}.png")
                context.close()
        browser.close()
    print(f"{len(pages) * len(SIZES) * 2} screenshots of {len(pages)} pages in {arguments.folder}")


if __name__ == "__main__":
    main()
