"""Images are opened, pages fetched, homes found and addresses of stores read by one door each; and third-party packages
are imported in their places alone: torch where training and CUDA are.
"""

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.imports import SOURCE, dotted_names, imports, modules, parsed, relative

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

TORCH_OF_TOWERS = (
    "towers/parts/torch.py",
    *(f"towers/{room.parent.name}/module.py" for room in (SOURCE / "towers").glob("*/module.py")),
)
# Packages that only these places may import.
ONLY_IN: dict[str, tuple[str, ...]] = {
    "torch": (
        *TORCH_OF_TOWERS,
        "nn/",
        "train/",
        "engine/torch.py",
        "engine/torch_batches.py",
        "engine/torch_device.py",
        "engine/torch_streams.py",
        "engine/torch_text.py",
        "engine/onnx.py",
        "guidance/",
        "conditioning/diffusers.py",
        "compat/tensors.py",
    ),
    "av": ("videos/",),
    "mcp": ("mcp_server/",),
    "watchfiles": ("search/watching/",),
    "diffusers": (),
    "sentence_transformers": (),
    "openvino": ("openvino_import.py", "engine/"),
    "matplotlib": ("plots/",),
    "rich": ("cli/", "train/"),
    "argcomplete": ("cli/",),
    "huggingface_hub": ("weights/",),
    "tokenizers": ("tokenizer/", "bpe.py", "train/"),
    "sentencepiece": ("tokenizer/sentencepiece_model.py",),
    "pickle": ("weights/unpickler.py",),
    "transformers": ("train/objective/teacher.py",),
    "tensorboard": ("train/run/reporting.py",),
    "wandb": ("train/run/reporting.py",),
    "sklearn": ("sklearn/",),
    "torchmetrics": (),
    "open_clip": (),
    "sqlite3": ("search/", "datasets/memory.py", "serve/collections/quotas.py"),
    "faiss": ("search/stores/embedded/", "search/exploring/"),
    "pymilvus": ("search/stores/milvus/client.py",),
    "lancedb": ("search/stores/lance/",),
    "ray": ("search/",),
    "fastapi": ("serve/",),
    "starlette": ("serve/",),
    "uvicorn": ("serve/",),
    "pydantic": ("serve/", "mcp_server/server.py"),
    "prometheus_client": ("serve/",),
    "python_multipart": ("serve/",),
    "httpx": ("http_limits.py", "fetch.py", "client/", "serve/encoding/fetching.py"),
    "requests": (),
    "aiohttp": ("train/data/remote.py",),
    "fsspec": ("train/data/remote.py",),
    "urllib3": (),
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


def packages_stay_in_their_places(path: Path) -> Iterator[str]:
    name = relative(path)
    for dotted in imports(path):
        places = ONLY_IN.get(dotted.split(".")[0])
        if places is not None and not name.startswith(places):
            yield f"{name} imports {dotted}, which belongs in {places or 'tests'}"


RULES = (
    images_are_opened_and_pages_fetched_by_one_door,
    nobody_outside_reads_how_urls_begin,
    packages_stay_in_their_places,
)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_every_file_goes_through_the_door(rule: Callable[[Path], Iterator[str]]) -> None:
    wrong = [line for path in modules() for line in rule(path)]
    assert not wrong, "\n".join(wrong)


def test_a_file_that_goes_around_it_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("support.imports.SOURCE", tmp_path)
    scheme = next(scheme.prefix for scheme in BACKENDS if not scheme.prefix.startswith("http"))
    (tmp_path / "bad.py").write_text(f"import faiss\nfrom PIL import Image\nURL = {scheme!r}\nImage.open(URL)\n")
    for rule in RULES:
        assert list(rule(tmp_path / "bad.py")), f"{rule.__name__} does not see it"


def test_the_door_is_seen_however_it_is_written() -> None:
    for written in ("Image.open(x)", "PIL.Image.open(x)", "from PIL.Image import open", "f = Image.open"):
        assert "Image.open" in dotted_names(ast.walk(ast.parse(written)))
    for written in ("import urllib.request", "urllib.request.urlopen(x)", "from urllib import request"):
        assert "urllib.request" in dotted_names(ast.walk(ast.parse(written)))
    assert "Image.open" not in dotted_names(ast.walk(ast.parse("Image.fromarray(x).open_it()")))


def test_the_design_says_where_torch_may_be_imported() -> None:
    """Engines are counted there; the modules of towers are one pattern."""
    said = re.search(r"\(torch in [^;]*;", (SOURCE.parents[1] / "docs/design.md").read_text(encoding="utf-8"))
    assert said
    places = [place for place in ONLY_IN["torch"] if not place.startswith(("engine/", "towers/"))]
    assert not [place for place in places if f"`{place}`" not in said[0]]
