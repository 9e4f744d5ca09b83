"""Arrows between the rooms point one way (design.md), and so do those inside of train/ and between kinds of stores."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.imports import SOURCE, imports, modules, relative

# A room and the rooms it may import. A room not named here may not exist.
LAYERS: dict[str, set[str]] = {
    "errors": set(),
    "arrays": set(),
    "defaults": set(),
    "version": set(),
    "lazy_names": set(),
    "files": {"errors"},
    "fields": {"errors"},
    "progress": {"errors"},
    "config": {"towers", "fields", "errors"},
    "openvino_import": {"errors"},
    # One room for each architecture; torch and OpenVINO are imported by its modules of that kind alone.
    "towers": {"openvino_import", "fields", "errors"},
    "bpe": {"config", "errors"},
    "tokenizer": {"bpe", "config", "files", "errors"},
    "long_texts": {"tokenizer", "arrays", "defaults", "errors"},
    "prompt_templates": set(),
    "language_identification": set(),
    "class_vectors": {"class_vector_files", "prompts", "language_identification", "arrays", "defaults"},
    "class_vector_files": {"arrays", "files", "home"},
    "pixels": {"config", "errors"},
    "http_limits": set(),
    "plain_line": {"files"},
    "fetch": {"http_limits", "plain_line", "errors"},
    "prefetch": {"processor"},
    "processor": set(),
    # Below the sources of images, whose limits it knows.
    "decoding": {"processor", "errors"},
    "image_source": {"fetch", "files", "defaults", "errors"},
    "image": {"image_source", "prefetch", "decoding", "pixels", "config", "errors"},
    "prompts": {"prompt_templates", "config", "files", "errors"},
    "tar_files": {"defaults", "errors"},
    "parquet_pages": {"errors"},
    "samples": {"errors", "tar_files", "parquet_pages"},
    "plots": {"files", "progress", "errors"},
    "nn": {"towers", "config", "errors"},
    "weights": {"towers", "tokenizer", "fetch", "config", "home", "fields", "files", "errors"},
    "engine": {"towers", "openvino_import", "processor", "config", "errors"},
    "home": {"files"},
    "sample_photos": {"errors"},
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
LAYERS["encoding"] = {"engine", "arrays", "errors"}
LAYERS["model"] |= {"encoding", "arrays", "class_vectors", "classifying", "defaults", "heads", "long_texts", "progress"}
LAYERS["precisions"] = {"config", "engine", "errors", "fields", "files", "home", "processor", "version", "weights"}
LAYERS["model"] |= {"precisions", "version"}
_MODEL_AND_BELOW = LAYERS["model"] | {"model", "html", "prefetch", "fields", "files", "home"}
# Frames of films, as images with a time.
LAYERS["videos"] = {"errors", "image_source"}
LAYERS["search"] = _MODEL_AND_BELOW | {"decoding", "samples", "tar_files", "plots", "videos"}
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
# Models of eight bits, measured against their source on a user's images.
LAYERS["quantize"] = LAYERS["audit"] | {"audit", "towers", "sample_photos", "precisions"}
# It has its own report of progress, and runs where the bar's package may be missing.
LAYERS["train"] = (LAYERS["evaluate"] | {"evaluate", "plain_line", "nn", "towers", "bpe", "tandem"}) - {"progress"}
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
LAYERS["client"] = {"arrays", "defaults", "answer", "image", "prompts", "search", "errors", "localization"}
LAYERS["client"] |= {"http_limits", "plain_line"}
# Each of these may import exactly what it does: whoever needs more says so here.
EXACT = ("videos", "localization", "conditioning", "clip_score", "guidance", "moderation", "compat", "mcp_server")
_APPLICATIONS = {"localization", "conditioning", "clip_score", "guidance", "moderation", "mcp_server", "videos"}
LAYERS["serve"] = _MODEL_AND_BELOW | {"search", "evaluate", "datasets", "fetch", "plots", "tandem"}
LAYERS["serve"] |= {"localization", "processor", "moderation", "clip_score", "videos"}
LAYERS["cli"] = (
    {"plain_line", "quantize", "sample_photos", "precisions"}
    | LAYERS["serve"]
    | _APPLICATIONS
    | {"serve", "train", "datasets", "audit", "processor", "tandem"}
)
LAYERS["__main__"] = {"cli"}
# The public names are resolved on first use: nothing but names for type checkers.
LAYERS["__init__"] = {"lazy_names", "version", "answer", "client", "model", "search", "tokenizer", "config", "errors"}

# The rooms inside of train/, and what each may import of the others.
_TRAIN_TOP = {"recipe", "recipe_file", "remote_settings", "validation_settings", "model_config", "toml"}
_WISE_FT = {"interpolate", "wise_ft"}
TRAIN: dict[str, set[str]] = {
    "toml": set(),
    "model_config": set(),
    "remote_settings": set(),
    "validation_settings": set(),
    "recipe": {"remote_settings", "validation_settings", "model_config", "toml"},
    "recipe_file": {"recipe", "toml"},
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


def routes_know_no_other_routes(path: Path) -> Iterator[str]:
    """What several of a server's routes share stands below them."""
    name = relative(path)
    if name.startswith("serve/routes/") and name != "serve/routes/__init__.py":
        others = sorted(each for each in imports(path) if each.startswith("tandem.serve.routes"))
        if others:
            yield f"{name} imports {others}: move what is shared below serve/routes"


RULES: tuple[Rule, ...] = (
    arrows_point_one_way,
    arrows_inside_of_train_point_one_way,
    nobody_outside_knows_which_store_it_is,
    routes_know_no_other_routes,
)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
@pytest.mark.slow_if("arrows_point_one_way")
def test_every_file_keeps_the_rule(rule: Rule) -> None:
    assert len(modules()) > 300
    wrong = [line for path in modules() for line in rule(path)]
    assert not wrong, "\n".join(wrong)


def test_each_rule_can_fail(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One file that breaks them all is found by each."""
    bad = tmp_path / "train" / "data" / "bad.py"
    bad.parent.mkdir(parents=True)
    bad.write_text(
        "from tandem.cli import main\nfrom tandem.train.run import loop\nfrom tandem.search.stores.embedded import x\n"
    )
    for module in (__name__, "support.imports"):
        monkeypatch.setattr(f"{module}.SOURCE", tmp_path)
    (tmp_path / "search" / "stores").mkdir(parents=True)
    for kind in ("embedded", "milvus", "lance"):
        (tmp_path / "search" / "stores" / kind).mkdir()
        (tmp_path / "search" / "stores" / kind / "__init__.py").write_text("")
    for name in ("cli", "search", "train"):
        (tmp_path / name).mkdir(exist_ok=True)
    bad_route = tmp_path / "serve" / "routes" / "bad.py"
    bad_route.parent.mkdir(parents=True)
    bad_route.write_text("from tandem.serve.routes import images\n")
    for rule in RULES:
        assert list(rule(bad_route if rule is routes_know_no_other_routes else bad)), f"{rule.__name__} does not see it"
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


def test_the_rule_sees_what_it_forbids(tmp_path: Path) -> None:
    bad = tmp_path / "bad.py"
    bad.write_text("def f():\n    import torch.nn\n    from tandem.cli import main\n")
    assert imports(bad) == {"torch.nn", "tandem.cli.main"}
    assert room("tandem.cli.main") == "cli"
    assert "cli" not in LAYERS["model"]
