"""Arrows between the rooms point one way (design.md), and torch stays where training and CUDA are."""

import ast
import functools
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from tandem.search.stores.backends import BACKENDS

SOURCE = Path(__file__).resolve().parents[1] / "src" / "tandem"

# A room and the rooms it may import. A room not named here may not exist.
LAYERS: dict[str, set[str]] = {
    "errors": set(),
    "arrays": set(),
    "defaults": set(),
    "lazy_names": set(),
    "files": {"errors"},
    "fields": {"errors"},
    "progress": {"errors"},
    "config": {"towers", "fields", "errors"},
    "openvino_import": set(),
    # One room for each architecture; torch and OpenVINO are imported by its modules of that kind alone.
    "towers": {"openvino_import", "fields", "errors"},
    "bpe": {"config", "errors"},
    "tokenizer": {"bpe", "config", "files", "errors"},
    "long_texts": {"tokenizer", "arrays", "defaults", "errors"},
    "prompt_templates": set(),
    "class_vectors": {"prompts", "arrays", "defaults"},
    "pixels": {"config", "errors"},
    "fetch": {"errors"},
    "prefetch": set(),
    "processor": set(),
    "decompression_bombs": set(),
    "image_source": {"fetch", "files", "errors"},
    "image": {"image_source", "prefetch", "decompression_bombs", "pixels", "config", "errors"},
    "prompts": {"prompt_templates", "config", "files", "errors"},
    "tar_files": {"errors"},
    "samples": {"errors", "tar_files"},
    "plots": {"files", "progress", "errors"},
    "nn": {"towers", "config", "errors"},
    "weights": {"towers", "tokenizer", "fetch", "config", "home", "fields", "files", "errors"},
    "engine": {"towers", "openvino_import", "config", "errors"},
    "home": {"files"},
    # What cosines mean; what a model or a collection is, it asks of whoever has one.
    "scores": {"home", "arrays", "fields", "files", "errors"},
    "html": {"files", "image", "fetch", "pixels", "errors"},
    "answer": {"files", "plots", "html", "image", "scores", "config", "errors"},
    # Labelled vectors to heads, and their files.
    "heads": {"lazy_names", "weights", "scores", "arrays", "fields", "files", "errors"},
    "image_states": {"engine", "image", "config", "arrays", "defaults", "errors"},
    "classifying": {"answer", "heads", "weights", "image", "prompts", "progress", "scores"}
    | {"arrays", "defaults", "config", "errors"},
    "model": {
        "answer",
        "image_states",
        "scores",
        "engine",
        "weights",
        "tokenizer",
        "image",
        "pixels",
        "prompts",
        "prefetch",
        "progress",
        "config",
        "errors",
    },
}
LAYERS["model"] |= {"arrays", "class_vectors", "classifying", "defaults", "heads", "long_texts", "progress"}
_MODEL_AND_BELOW = LAYERS["model"] | {"model", "html", "prefetch", "fields", "files", "home"}
# Frames of films, as images with a time.
LAYERS["videos"] = {"errors", "image_source"}
LAYERS["search"] = _MODEL_AND_BELOW | {"samples", "tar_files", "plots", "videos"}
# Layouts to images with labels; a collection with a column of labels is one of them.
LAYERS["datasets"] = {"samples", "tar_files", "search", "image", "image_source", "prompts", "progress", "home"}
LAYERS["datasets"] |= {"arrays", "fields", "files", "prefetch", "errors"}
LAYERS["evaluate"] = _MODEL_AND_BELOW | {
    "lazy_names",
    "datasets",
    "processor",
    "samples",
    "tar_files",
    "plots",
    "tandem",
}
# What a model gets wrong: scenes and corruptions drawn here, measured as `evaluate` measures.
LAYERS["audit"] = LAYERS["evaluate"] | {"evaluate", "search"}  # the list of everyday words
# It has its own report of progress, and runs where the bar's package may be missing.
LAYERS["train"] = (LAYERS["evaluate"] | {"evaluate", "nn", "towers", "bpe", "tandem"}) - {"progress"}
# Where in an image: below `model`, which has `locate` from here.
LAYERS["localization"] = {
    "answer",
    "arrays",
    "config",
    "errors",
    "fields",
    "files",
    "html",
    "image",
    "lazy_names",
    "pixels",
    "plots",
    "prompts",
    "scores",
}
LAYERS["model"] |= {"localization"}
# What other programs take from a model: the states of texts, the scores of generated images, a gradient.
LAYERS["conditioning"] = {"arrays", "bpe", "engine", "errors", "files", "lazy_names", "tokenizer", "towers", "weights"}
LAYERS["clip_score"] = {
    "answer",
    "arrays",
    "datasets",
    "defaults",
    "errors",
    "evaluate",
    "files",
    "html",
    "image",
    "lazy_names",
    "long_texts",
    "model",
    "plots",
    "progress",
    "samples",
    "tokenizer",
}
LAYERS["guidance"] = {"arrays", "errors", "files", "image", "lazy_names", "model", "nn", "pixels", "weights"}
LAYERS["moderation"] = {
    "arrays",
    "datasets",
    "defaults",
    "errors",
    "evaluate",
    "fields",
    "files",
    "heads",
    "home",
    "image",
    "lazy_names",
    "model",
    "prefetch",
    "prompts",
    "scores",
    "search",
    "tandem",
}
# The interfaces of other libraries over a model of ours.
LAYERS["compat"] = {
    "arrays",
    "config",
    "engine",
    "errors",
    "files",
    "image",
    "model",
    "pixels",
    "prefetch",
    "progress",
    "scores",
    "tokenizer",
    "weights",
}
LAYERS["mcp_server"] = {"defaults", "errors", "files", "image", "model", "pixels", "search", "tandem", "videos"}
# Estimators for scikit-learn.
LAYERS["sklearn"] = LAYERS["evaluate"] | {"evaluate"}
# The answers' own types, and how an image becomes bytes; what a model or a store is, it cannot know.
LAYERS["client"] = {"arrays", "defaults", "answer", "image", "prompts", "search", "errors"}
# Each of these may import exactly what it does: whoever needs more says so here.
EXACT = ("videos", "localization", "conditioning", "clip_score", "guidance", "moderation", "compat", "mcp_server")
_APPLICATIONS = {"localization", "conditioning", "clip_score", "guidance", "moderation", "mcp_server", "videos"}
LAYERS["serve"] = _MODEL_AND_BELOW | {"search", "evaluate", "datasets", "fetch", "plots", "tandem"}
LAYERS["serve"] |= {"localization", "moderation", "clip_score", "videos"}
LAYERS["cli"] = LAYERS["serve"] | _APPLICATIONS | {"serve", "train", "datasets", "audit", "processor", "tandem"}
LAYERS["__main__"] = {"cli"}
# The public names are resolved on first use: nothing but names for type checkers.
LAYERS["__init__"] = {"lazy_names", "answer", "client", "model", "search", "tokenizer", "config", "errors"}

# The rooms inside of train/, and what each may import of the others.
_TRAIN_TOP = {"recipe", "model_config", "toml"}
_WISE_FT = {"interpolate", "wise_ft"}
TRAIN: dict[str, set[str]] = {
    "toml": set(),
    "model_config": set(),
    "recipe": {"model_config", "toml"},
    "interpolate": set(),
    "wise_ft": {"interpolate"},
    "parallel": _TRAIN_TOP,
    "data": _TRAIN_TOP | {"parallel"},
    "model": _TRAIN_TOP | {"parallel"},
    "objective": _TRAIN_TOP | {"parallel", "data", "model"},
    "step": _TRAIN_TOP | {"parallel", "model", "objective"},
    "run": _TRAIN_TOP | _WISE_FT | {"parallel", "data", "model", "objective", "step"},
    "measuring": _WISE_FT,
    "fine_tune": _TRAIN_TOP | _WISE_FT | {"measuring", "run"},
    "__init__": set(),
}

# What has arrows of its own inside a room.
EXTRA_ARROWS = {"engine/torch.py": {"nn"}, "engine/onnx.py": {"nn"}}
# What implements the store knows vectors, ids and metadata; it has never heard of models.
STORES = ("search/stores/",)
OF_ALL_STORES = ("protocol", "backends", "filters", "filter_parser")  # no kind of store

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
    "httpx": ("fetch.py", "client/", "serve/encoding/fetching.py"),
    "requests": (),
    "aiohttp": (),
    "urllib3": (),
}


def modules() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


@functools.cache
def parsed(path: Path) -> tuple[ast.AST, ...]:
    """Every node of a file: each rule asks all of them."""
    return tuple(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


@functools.cache
def imports(path: Path) -> set[str]:
    """Dotted names that a module imports, anywhere in it: inside functions too."""
    names = set()
    for node in parsed(path):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: relative imports hide the arrow; write from tandem... import ..."
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def room(dotted: str) -> str | None:
    """`tandem.weights.names.rename` -> `weights`; None for what is not ours."""
    parts = dotted.split(".")
    if parts[0] != "tandem":
        return None
    if len(parts) == 1 or not ((SOURCE / parts[1]).is_dir() or (SOURCE / f"{parts[1]}.py").is_file()):
        return "tandem"  # the package itself: `from tandem import __version__`
    return parts[1]


def is_store(dotted: str) -> bool:
    """`tandem.search.stores.filters.parse`, say: a module of `STORES`, or a name in one."""
    place = dotted.removeprefix("tandem.").replace(".", "/")
    return f"{place}/".startswith(STORES)


def relative(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix()


Rule = Callable[[Path], Iterator[str]]  # what is wrong with a file, in a line each


def arrows_point_one_way(path: Path) -> Iterator[str]:
    name = relative(path)
    own = name.split("/")[0].removesuffix(".py")
    if own not in LAYERS:
        yield f"{name}: a room without a rule; add it to LAYERS, with what it may import"
        return
    allowed = (
        {"arrays", "defaults", "config", "files", "errors"}
        if name.startswith(STORES)
        else LAYERS[own] | {own} | EXTRA_ARROWS.get(name, set())
    )
    wrong = {dotted for dotted in imports(path) if (to := room(dotted)) is not None and to not in allowed}
    if name.startswith(STORES):
        wrong = {dotted for dotted in wrong if not is_store(dotted)}
    if wrong:
        yield f"{name} imports {sorted(wrong)}; it may import {sorted(allowed)}"


def arrows_inside_of_train_point_one_way(path: Path) -> Iterator[str]:
    name = relative(path)
    if not name.startswith("train/"):
        return
    own = name.split("/")[1].removesuffix(".py")
    to = {dotted.split(".")[2] for dotted in imports(path) if dotted.startswith("tandem.train.")} & TRAIN.keys()
    if not to <= TRAIN[own] | {own}:
        yield f"{name} imports {sorted(to)}; it may import {sorted(TRAIN[own])}"


def nobody_outside_knows_which_store_it_is(path: Path) -> Iterator[str]:
    """A kind of store is a folder of its own: outside only what all of them share is known."""
    name = relative(path)
    stores = {dotted.removeprefix("tandem.search.stores.") for dotted in imports(path) if is_store(dotted)}
    own = name.removeprefix("search/stores/").split("/")[0] if name.startswith(STORES) else None
    kinds = {folder.name for folder in (SOURCE / "search" / "stores").iterdir() if (folder / "__init__.py").is_file()}
    assert {"embedded", "milvus", "lance"} <= kinds
    if own is None:
        wrong = {each for each in stores if each.split(".")[0] not in OF_ALL_STORES}
    elif own == "backends.py":
        wrong = set()
    else:
        wrong = {each for each in stores if each.split(".")[0] in kinds - {own}}
    if wrong:
        yield f"{name} imports {sorted(wrong)} of tandem.search.stores: ask `backends.backend(url)`"


def nobody_outside_reads_how_urls_begin(path: Path) -> Iterator[str]:
    if relative(path).startswith(STORES):
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


def attributes(node: ast.expr) -> list[str]:
    """`PIL.Image.open` -> PIL, Image, open; what is no name at the beginning is empty."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return [node.id if isinstance(node, ast.Name) else "", *reversed(parts)]


def dotted_names(nodes: Iterable[ast.AST]) -> set[str]:
    """The attributes a module reaches for, as written: `PIL.Image.open` gives `Image.open` too; and what it imports."""
    names = set()
    for node in nodes:
        if isinstance(node, ast.Attribute):
            parts = attributes(node)
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{(node.module or '').rpartition('.')[2]}.{alias.name}" for alias in node.names}
            parts = (node.module or "").split(".")
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
            continue
        elif isinstance(node, ast.Name):
            parts = [node.id]
        else:
            continue
        names |= {".".join(parts[start:]) for start in range(len(parts))}
    return names


def images_are_opened_and_pages_fetched_by_one_door(path: Path) -> Iterator[str]:
    name = relative(path)
    names = dotted_names(parsed(path))
    for call, places in CALLS_ONLY_IN.items():
        if call in names and name not in places:
            yield f"{name} uses {call}: ask tandem.image or tandem.fetch"


RULES: tuple[Rule, ...] = (
    arrows_point_one_way,
    arrows_inside_of_train_point_one_way,
    nobody_outside_knows_which_store_it_is,
    nobody_outside_reads_how_urls_begin,
    packages_stay_in_their_places,
    images_are_opened_and_pages_fetched_by_one_door,
)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_every_file_keeps_the_rule(rule: Rule) -> None:
    assert len(modules()) > 300
    wrong = [line for path in modules() for line in rule(path)]
    assert not wrong, "\n".join(wrong)


def test_each_rule_can_fail(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One file that breaks them all is found by each."""
    bad = tmp_path / "train" / "data" / "bad.py"
    bad.parent.mkdir(parents=True)
    scheme = next(scheme.prefix for scheme in BACKENDS if not scheme.prefix.startswith("http"))
    bad.write_text(
        "from tandem.cli import main\nfrom tandem.train.run import loop\nfrom tandem.search.stores.embedded import x\n"
        f"import faiss\nfrom PIL import Image\nURL = {scheme!r}\nImage.open(URL)\n"
    )
    monkeypatch.setattr(f"{__name__}.SOURCE", tmp_path)
    (tmp_path / "search" / "stores").mkdir(parents=True)
    for kind in ("embedded", "milvus", "lance"):
        (tmp_path / "search" / "stores" / kind).mkdir()
        (tmp_path / "search" / "stores" / kind / "__init__.py").write_text("")
    for name in ("cli", "search", "train"):
        (tmp_path / name).mkdir(exist_ok=True)
    for rule in RULES:
        assert list(rule(bad)), f"{rule.__name__} does not see it"
    (tmp_path / "nobody.py").write_text("")
    assert "a room without a rule" in next(arrows_point_one_way(tmp_path / "nobody.py"))


def unused(own: str) -> set[str]:
    """What a room may import and does not."""
    files = [path for path in modules() if relative(path).split("/")[0] == own]
    return LAYERS[own] - {to for path in files for dotted in imports(path) if (to := room(dotted)) is not None}


@pytest.mark.parametrize("own", EXACT)
def test_rooms_of_applications_may_import_what_they_do_alone(own: str) -> None:
    assert not unused(own), f"{own} imports none of {sorted(unused(own))}: take them from LAYERS"


def test_a_permission_that_nobody_needs_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LAYERS, "videos", LAYERS["videos"] | {"search"})
    assert unused("videos") == {"search"}


def test_the_door_is_seen_however_it_is_written() -> None:
    for written in ("Image.open(x)", "PIL.Image.open(x)", "from PIL.Image import open", "f = Image.open"):
        assert "Image.open" in dotted_names(ast.walk(ast.parse(written)))
    for written in ("import urllib.request", "urllib.request.urlopen(x)", "from urllib import request"):
        assert "urllib.request" in dotted_names(ast.walk(ast.parse(written)))
    assert "Image.open" not in dotted_names(ast.walk(ast.parse("Image.fromarray(x).open_it()")))


def target(dotted: str, source: Path = SOURCE) -> Path | None:
    """The file that a name leads to: `tandem.weights.names.rename` -> `weights/names.py`; None if not ours."""
    package, *parts = dotted.split(".")
    if package != "tandem":
        return None
    for length in range(len(parts), -1, -1):
        place = source.joinpath(*parts[:length])
        for file in (place.with_suffix(".py"), place / "__init__.py"):
            if file.is_file():
                return file
    return None


def arrows(source: Path = SOURCE) -> dict[Path, set[Path]]:
    """Each file and the files it imports, inside functions too."""
    return {
        path: {to for dotted in imports(path) if (to := target(dotted, source)) is not None and to != path}
        for path in sorted(source.rglob("*.py"))
    }


def circles(graph: dict[Path, set[Path]]) -> list[list[Path]]:
    """Files that lead back to themselves, with what they share a circle with (Tarjan 1972)."""
    number: dict[Path, int] = {}
    lowest: dict[Path, int] = {}
    stack: list[Path] = []
    found: list[list[Path]] = []

    def visit(file: Path) -> None:
        number[file] = lowest[file] = len(number)
        stack.append(file)
        for other in graph.get(file, ()):
            if other not in number:
                visit(other)
                lowest[file] = min(lowest[file], lowest[other])
            elif other in stack:
                lowest[file] = min(lowest[file], number[other])
        if lowest[file] == number[file]:
            circle = stack[stack.index(file) :]
            del stack[stack.index(file) :]
            if len(circle) > 1:
                found.append(sorted(circle))

    for file in graph:
        if file not in number:
            visit(file)
    return found


def test_no_file_imports_itself_through_others() -> None:
    found = [", ".join(relative(path) for path in circle) for circle in circles(arrows())]
    assert not found, "circles of imports: " + "; ".join(found)


def test_a_circle_is_found(tmp_path: Path) -> None:
    (tmp_path / "room").mkdir()
    (tmp_path / "room" / "__init__.py").write_text("")
    (tmp_path / "room" / "a.py").write_text("def f():\n    from tandem.room import b\n")
    (tmp_path / "room" / "b.py").write_text("from tandem.room.c import x\n")
    (tmp_path / "room" / "c.py").write_text("from tandem.room.a import f\n")
    (tmp_path / "d.py").write_text("from tandem.room import a\n")
    (circle,) = circles(arrows(tmp_path))
    assert [path.name for path in circle] == ["a.py", "b.py", "c.py"]


def test_the_rule_sees_what_it_forbids(tmp_path: Path) -> None:
    bad = tmp_path / "bad.py"
    bad.write_text("def f():\n    import torch.nn\n    from tandem.cli import main\n")
    assert imports(bad) == {"torch.nn", "tandem.cli.main"}
    assert room("tandem.cli.main") == "cli"
    assert "cli" not in LAYERS["model"]


def test_no_two_files_of_tests_have_one_name() -> None:
    """pytest would import the first for both, and stop."""
    names = Counter(path.name for path in Path(__file__).parent.rglob("test_*.py"))
    assert [name for name, count in names.items() if count > 1] == []


def test_the_design_says_where_torch_may_be_imported() -> None:
    """Engines are counted there; the modules of towers are one pattern."""
    said = re.search(r"\(torch in [^;]*;", (SOURCE.parents[1] / "docs/design.md").read_text(encoding="utf-8"))
    assert said
    places = [place for place in ONLY_IN["torch"] if not place.startswith(("engine/", "towers/"))]
    assert not [place for place in places if f"`{place}`" not in said[0]]
