"""Images are opened, pages fetched, homes found and addresses of stores read by one door each."""

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.imports import dotted_names, modules, parsed, relative

from tandem.search.stores.backends import BACKENDS

# Calls that only these files may make: elsewhere `tandem.image` opens images, within limits and upright, and
# `tandem.fetch` asks the network; `tandem.files` knows where homes are.
CALLS_ONLY_IN: dict[str, tuple[str, ...]] = {
    "Image.open": ("plots/page.py",),  # a drawing it has just made; `tandem.image` itself calls the formats' plugins
    "urllib.request": (),
    "urlopen": (),
    "os.path.expanduser": ("files.py",),  # `user_path` says in one line that a user has no home
    "expanduser": ("files.py",),
    "Path.home": (),
}


def images_are_opened_and_pages_fetched_by_one_door(path: Path) -> Iterator[str]:
    name = relative(path)
    names = dotted_names(parsed(path))
    for call, places in CALLS_ONLY_IN.items():
        if call in names and name not in places:
            yield f"{name} uses {call}: ask tandem.image or tandem.fetch"


def nobody_outside_reads_how_urls_begin(path: Path) -> Iterator[str]:
    if relative(path).startswith("search/stores/"):
        return
    texts = {node.value for node in parsed(path) if isinstance(node, ast.Constant)}
    wrong = texts & {scheme.prefix for scheme in BACKENDS if not scheme.prefix.startswith("http")}
    if wrong:
        yield f"{relative(path)} asks for {sorted(wrong)}: ask tandem.search.stores.backends"


RULES = (images_are_opened_and_pages_fetched_by_one_door, nobody_outside_reads_how_urls_begin)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_every_file_goes_through_the_door(rule: Callable[[Path], Iterator[str]]) -> None:
    wrong = [line for path in modules() for line in rule(path)]
    assert not wrong, "\n".join(wrong)


def test_a_file_that_goes_around_it_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("support.imports.SOURCE", tmp_path)
    scheme = next(scheme.prefix for scheme in BACKENDS if not scheme.prefix.startswith("http"))
    (tmp_path / "bad.py").write_text(f"from PIL import Image\nURL = {scheme!r}\nImage.open(URL)\n")
    for rule in RULES:
        assert list(rule(tmp_path / "bad.py")), f"{rule.__name__} does not see it"


def test_the_door_is_seen_however_it_is_written() -> None:
    for written in ("Image.open(x)", "PIL.Image.open(x)", "from PIL.Image import open", "f = Image.open"):
        assert "Image.open" in dotted_names(ast.walk(ast.parse(written)))
    for written in ("import urllib.request", "urllib.request.urlopen(x)", "from urllib import request"):
        assert "urllib.request" in dotted_names(ast.walk(ast.parse(written)))
    assert "Image.open" not in dotted_names(ast.walk(ast.parse("Image.fromarray(x).open_it()")))
