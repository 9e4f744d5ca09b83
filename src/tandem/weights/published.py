"""Models that can be loaded by name: OpenAI's nine files, and well-known hub repositories. Facts only, no network.

Parameter counts follow from the configurations; download sizes are known for OpenAI's files only, from what they store.
"""

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path

from tandem.config import PUBLISHED, ModelConfig, from_dict
from tandem.files import user_path
from tandem.weights.shapes import expected_shapes, parameter_count

OPENAI_ROOT = "https://openaipublic.azureedge.net/clip/models"
# name -> file name and its SHA-256, which is also part of its address
OPENAI_FILES: dict[str, tuple[str, str]] = {
    "RN50": ("RN50.pt", "afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762"),
    "RN101": ("RN101.pt", "8fa8567bab74a42d41c5915025a8e4538c3bdbe8804a470a72f30b0d94fab599"),
    "RN50x4": ("RN50x4.pt", "7e526bd135e493cef0776de27d5f42653e6b4c8bf9e0f653bb11773263205fdd"),
    "RN50x16": ("RN50x16.pt", "52378b407f34354e150460fe41077663dd5b39c54cd0bfd2b27167a4a06ec9aa"),
    "RN50x64": ("RN50x64.pt", "be1cfb55d75a9666199fb2206c106743da0f6468c9d327f3e0d0a543a9919d9c"),
    "ViT-B/32": ("ViT-B-32.pt", "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af"),
    "ViT-B/16": ("ViT-B-16.pt", "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f"),
    "ViT-L/14": ("ViT-L-14.pt", "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836"),
    "ViT-L/14@336": ("ViT-L-14-336px.pt", "3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02"),
}
# The same weights in transformers' layout, in float32.
OPENAI_ON_HUB = {
    "ViT-B/32": "openai/clip-vit-base-patch32",
    "ViT-B/16": "openai/clip-vit-base-patch16",
    "ViT-L/14": "openai/clip-vit-large-patch14",
    "ViT-L/14@336": "openai/clip-vit-large-patch14-336",
}
_ASSETS = Path(__file__).resolve().parents[1] / "assets"


SHIPPED = ("tandem-mini",)


@dataclass(frozen=True)
class KnownModel:
    """A line of `tandem models`."""

    name: str  # what `load` takes
    parameters: int
    image_size: int  # pixels
    embed_dim: int
    licence: str
    data: str
    download_bytes: int | None  # None: not known without asking the hub
    cached: bool = False


@dataclass(frozen=True)
class _OnHub:
    name: str
    parameters: int
    embed_dim: int
    data: str
    image_size: int = 224
    licence: str = "MIT"


_LAION_2B = "LAION-2B (English)"
_DATACOMP = "DataComp-1B"
_HUB = (
    _OnHub("laion/CLIP-ViT-B-32-laion2B-s34B-b79K", 151_277_313, 512, _LAION_2B),
    _OnHub("laion/CLIP-ViT-B-32-DataComp.XL-s13B-b90K", 151_277_313, 512, _DATACOMP),
    _OnHub("laion/CLIP-ViT-B-32-256x256-DataComp-s34B-b86K", 151_288_833, 512, _DATACOMP, 256),
    _OnHub("laion/CLIP-ViT-B-16-laion2B-s34B-b88K", 149_620_737, 512, _LAION_2B),
    _OnHub("laion/CLIP-ViT-B-16-DataComp.XL-s13B-b90K", 149_620_737, 512, _DATACOMP),
    _OnHub("laion/CLIP-ViT-L-14-laion2B-s32B-b82K", 427_616_513, 768, _LAION_2B),
    _OnHub("laion/CLIP-ViT-L-14-DataComp.XL-s13B-b90K", 427_616_513, 768, _DATACOMP),
    _OnHub("laion/CLIP-ViT-H-14-laion2B-s32B-b79K", 986_109_441, 1024, _LAION_2B),
    _OnHub("laion/CLIP-ViT-g-14-laion2B-s34B-b88K", 1_366_678_273, 1024, _LAION_2B),
    _OnHub("laion/CLIP-ViT-bigG-14-laion2B-39B-b160k", 2_539_567_105, 1280, _LAION_2B),
)
NAMES = (*SHIPPED, *OPENAI_FILES, *OPENAI_ON_HUB.values(), *(model.name for model in _HUB))


def published_name(text: str) -> str | None:
    """The published model that `text` means: "ViT-B/32", "ViT-B-32", "vit-l-14-336", "ViT-L/14@336px"; else None."""
    return {folded(name): name for name in OPENAI_FILES}.get(folded(text).removesuffix("px"))


def known_name(text: str) -> str | None:
    """The one name of a model in the lists above, whatever it was asked by; None for what is not in them.

    Two such names are two models, which can be told apart without their files.
    """
    on_hub = {repository: name for name, repository in OPENAI_ON_HUB.items()}
    return published_name(text) or on_hub.get(text) or (text if text in NAMES else None)


def shipped_folder(name: str) -> Path | None:
    """The folder of a model that ships inside the package under this name."""
    folder = _ASSETS / name
    return folder if name in SHIPPED and (folder / "config.json").is_file() else None


def folded(name: str) -> str:
    """A model's name in lower case, `/` and `@` as `-`: people write them in many ways."""
    return name.lower().replace("/", "-").replace("@", "-")


def cache_folder() -> Path:
    """Where OpenAI's files are kept: TANDEM_CACHE, or ~/.cache/tandem."""
    return user_path(os.environ.get("TANDEM_CACHE") or "~/.cache/tandem")


def hub_cache_folder() -> Path:
    """Where huggingface_hub keeps repositories, by the variables it reads itself."""
    if folder := os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE"):
        return user_path(os.path.expandvars(folder))
    home = os.environ.get("HF_HOME")
    if not home:
        home = os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface")
    return user_path(os.path.expandvars(home)) / "hub"


def known_models() -> list[KnownModel]:
    """What can be loaded by name: the model that ships, OpenAI's nine, and well-known hub repositories."""
    models = []
    for name in SHIPPED:
        if folder := shipped_folder(name):
            plain = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            models.append(_described(name, from_dict(plain), 0, cached=True))
    models += [
        _described(
            name, PUBLISHED[name], openai_download_bytes(PUBLISHED[name]), cached=(cache_folder() / file).is_file()
        )
        for name, (file, _) in OPENAI_FILES.items()
    ]
    models += [
        _described(repository, PUBLISHED[name], None, cached=_on_disk(repository))
        for name, repository in OPENAI_ON_HUB.items()
    ]
    models += [
        KnownModel(
            model.name,
            model.parameters,
            model.image_size,
            model.embed_dim,
            model.licence,
            model.data,
            None,
            _on_disk(model.name),
        )
        for model in _HUB
    ]
    return models


def _described(name: str, config: ModelConfig, download_bytes: int | None, *, cached: bool) -> KnownModel:
    return KnownModel(
        name,
        parameter_count(config),
        config.vision.image_size,
        config.embed_dim,
        config.licence,
        config.data,
        download_bytes,
        cached,
    )


def _on_disk(repository: str) -> bool:
    """Whether the hub's cache holds a snapshot with weights in it."""
    snapshots = hub_cache_folder() / f"models--{repository.replace('/', '--')}" / "snapshots"
    return any(file.is_file() for suffix in ("safetensors", "bin") for file in snapshots.glob(f"*/*.{suffix}"))


def openai_download_bytes(config: ModelConfig) -> int:
    """About what OpenAI's file weighs: convolutions, linear layers and projections in half precision, the rest single.

    Within 0.3% for ViT-B/32 (353,976,522 bytes): the code inside the archive is not counted.
    """
    total = 0
    for name, shape in expected_shapes(config).items():
        kept_whole = "embedding" in name or "ln_" in name or "bn" in name or "downsample.1" in name
        total += math.prod(shape) * (4 if kept_whole else 2)
    return total
