"""Models that can be loaded by name: facts about published checkpoints, and which of them a name means. No network.

The facts are the table `assets/published.json`, read when they are first asked for. Every figure in it has a source,
and one that could not be verified is left out.
"""

import functools
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tandem.files import user_path
from tandem.home import cache_folder

_ASSETS = Path(__file__).resolve().parents[1] / "assets"
SHIPPED = {"tandem-mini": 0.6}  # and the billions of operations that an image takes


@dataclass(frozen=True)
class KnownModel:
    """A published checkpoint: a line of `tandem models`. Figures that are not known are None."""

    name: str  # what `load` takes; so are the hub names and `aliases`
    family: str
    parameters: int
    embed_dim: int
    image_size: int  # pixels, square
    gflops: float  # floating-point operations that an image takes, in billions
    languages: str  # "English", or how many
    licence: str
    data: str
    hub: str = ""  # the repository that the name means; empty for files that OpenAI serves, and for what ships
    architecture: str = ""  # open_clip's name for its shapes: checkpoints that share it are equally fast
    imagenet: float | None = None  # zero-shot top-1 accuracy on ImageNet-1k, in percent
    imagenet_source: str = ""
    xm3600: float | None = None  # text-to-image recall@1 on Crossmodal-3600, the mean of 36 languages, in percent
    xm3600_source: str = ""
    repositories: tuple[str, ...] = ()  # further repositories of the same weights, in other layouts
    aliases: tuple[str, ...] = field(default=(), repr=False)
    file: str = ""  # OpenAI's, which its SHA-256 is part of the address of
    sha256: str = field(default="", repr=False)
    download_bytes: int | None = None  # None: not known without asking the hub

    @property
    def cached(self) -> bool:
        """Whether it is on this machine."""
        if self.name in SHIPPED or (self.file and (cache_folder() / self.file).is_file()):
            return True
        return any(map(_on_disk, filter(None, (self.hub, *self.repositories))))


def known_models() -> list[KnownModel]:
    """What can be loaded by name: the model that ships, and published checkpoints, family by family."""
    return [*_shipped(), *published_models()]


@functools.cache
def published_models() -> tuple[KnownModel, ...]:
    """The table of published checkpoints."""
    table = json.loads((_ASSETS / "published.json").read_text(encoding="utf-8"))
    sources: dict[str, str] = table["sources"]
    found = []
    for family in table["families"]:
        shared = {key: value for key, value in family.items() if key != "models"}
        for model in family["models"]:
            values: dict[str, Any] = shared | model
            for figure in ("imagenet", "xm3600"):
                source = values.pop(f"{figure}_source", "")
                values[f"{figure}_source"] = sources[source] if figure in values else ""
            for names in ("repositories", "aliases"):
                values[names] = tuple(values.get(names, ()))
            found.append(KnownModel(**values))
    return tuple(found)


# --- names -----------------------------------------------------------------------------------------------------------


def find(text: str) -> tuple[KnownModel, str] | None:
    """The published model that `text` means, and the hub repository it asks for; "" for a file of OpenAI's.

    Names are open_clip's ("ViT-B-16-SigLIP2-256", "ViT-B-32/laion2b_s34b_b79k"), hub names with or without their
    organisation, and OpenAI's; case and the kind of separators do not matter. None where nothing, or more than one
    model, is meant: see `candidates`.
    """
    return _index().get(folded(_without_prefix(text)))


def reads_english_only(text: str) -> bool | None:
    """Whether the model that `text` means was trained on English alone; None for an unknown one."""
    if text in SHIPPED:
        return True
    known = find(text)
    return known[0].languages == "English" if known else None


def candidates(text: str) -> list[str]:
    """The names of the models that `text` may mean: a family ("SigLIP2"), an architecture, or part of names."""
    plain = _squeezed(_without_prefix(text))
    if not plain:
        return []
    models = published_models()
    for exact in (
        [model.name for model in models if _squeezed(model.name) == plain],
        [model.name for model in models if _squeezed(model.family) == plain],
        [model.name for model in models if _squeezed(model.architecture) == plain],
    ):
        if exact:
            return exact
    return [model.name for model in models if len(plain) >= 4 and plain in _squeezed(model.name)]


def known_name(text: str) -> str | None:
    """The one name of a model in the table, whatever it was asked by; None for what is not in it.

    Two such names are two models, which can be told apart without their files.
    """
    if text in SHIPPED:
        return text
    found = find(text)
    return found[0].name if found else None


def all_names() -> Iterator[str]:
    """Every name that is listed: of models, and of hub repositories."""
    yield from SHIPPED
    for model in published_models():
        yield from filter(None, dict.fromkeys((model.name, model.hub, *model.repositories)))


def near_names(text: str, count: int = 3, *, cutoff: float = 0.5) -> list[str]:
    """Listed names that are spelt like `text`, the nearest first; `cutoff` is how alike at least, of 0..1."""
    from difflib import get_close_matches

    plain = {folded(name): name for name in all_names()}
    return [plain[each] for each in get_close_matches(folded(_without_prefix(text)), plain, n=count, cutoff=cutoff)]


@functools.cache
def _index() -> dict[str, tuple[KnownModel, str]]:
    index: dict[str, tuple[KnownModel, str]] = {}
    bare: dict[str, list[tuple[KnownModel, str]]] = {}
    for model in published_models():
        usual = "" if model.file else model.hub
        for name in (model.name, *model.aliases):
            index[folded(name)] = model, usual
        for repository in filter(None, (model.hub, *model.repositories)):
            index[folded(repository)] = model, repository
            bare.setdefault(folded(repository.partition("/")[2]), []).append((model, repository))
        bare.setdefault(folded(model.architecture), []).append((model, usual))
    for name, meant in bare.items():
        if len(meant) == 1:
            index.setdefault(name, meant[0])
    return index


def folded(name: str) -> str:
    """A model's name in lower case, and `/`, `@`, `_` and spaces as `-`: people write them in many ways."""
    return re.sub(r"[/@_ ]", "-", name.lower())


def _squeezed(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _without_prefix(text: str) -> str:
    return text.removeprefix("hf-hub:").removeprefix("hf://")


# --- what is on this machine -----------------------------------------------------------------------------------------


def shipped_folder(name: str) -> Path | None:
    """The folder of a model that ships inside the package under this name."""
    folder = _ASSETS / name
    return folder if name in SHIPPED and (folder / "config.json").is_file() else None


def _shipped() -> Iterator[KnownModel]:
    from tandem.config import from_dict
    from tandem.weights.shapes import parameter_count

    for name, gflops in SHIPPED.items():
        if folder := shipped_folder(name):
            config = from_dict(json.loads((folder / "config.json").read_text(encoding="utf-8")))
            yield KnownModel(
                name,
                "Tandem",
                parameter_count(config),
                config.embed_dim,
                config.vision.image_size,
                gflops,
                "English",
                config.licence,
                config.data,
                download_bytes=0,
            )


def hub_cache_folder() -> Path:
    """Where huggingface_hub keeps repositories, by the variables it reads itself."""
    if folder := os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE"):
        return user_path(os.path.expandvars(folder))
    home = os.environ.get("HF_HOME")
    if not home:
        home = os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface")
    return user_path(os.path.expandvars(home)) / "hub"


def _on_disk(repository: str) -> bool:
    """Whether the hub's cache holds a snapshot with weights in it."""
    snapshots = hub_cache_folder() / f"models--{repository.replace('/', '--')}" / "snapshots"
    return any(file.is_file() for suffix in ("safetensors", "bin") for file in snapshots.glob(f"*/*.{suffix}"))
