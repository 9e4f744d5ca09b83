"""Published checkpoints: the table, and names to repositories and files."""

import dataclasses
import hashlib
import re
from collections import Counter
from typing import Any

import pytest
from support import weights_toys as toys
from support.hub_server import Server, endpoint, publish, server

from tandem import weights
from tandem.config import PUBLISHED
from tandem.errors import HubError
from tandem.weights import openai, published
from tandem.weights.choosing import PURPOSES, ordered_for
from tandem.weights.published import KnownModel, candidates, find, known_name, published_models
from tandem.weights.shapes import parameter_count

__all__ = ["endpoint", "server"]  # fixtures


def by_name() -> dict[str, KnownModel]:
    return {model.name: model for model in published_models()}


# --- the table -----------------------------------------------------------------------------------------------------


def test_the_table_is_whole() -> None:
    models = published_models()
    assert len(models) >= 40
    assert len({model.name for model in models}) == len(models)
    for model in models:
        assert model.family
        assert model.parameters > 1e6
        assert min(model.embed_dim, model.image_size) > 0
        assert model.gflops > 0
        assert model.licence
        assert model.data
        assert model.architecture
        assert model.hub or model.file
        assert model.languages == "English" or re.fullmatch(r"\d+\+?", model.languages)
        for repository in filter(None, (model.hub, *model.repositories)):
            assert re.fullmatch(r"[\w.-]+/[\w.-]+", repository)


def test_every_figure_has_a_source_and_every_source_a_figure() -> None:
    for model in published_models():
        for figure, source in ((model.imagenet, model.imagenet_source), (model.xm3600, model.xm3600_source)):
            assert (figure is None) == (not source)
            assert figure is None or 0 < figure < 100


def test_openai_s_files_are_the_published_configurations() -> None:
    files = {model.name: model for model in published_models() if model.file}
    assert set(files) == set(PUBLISHED)
    for name, model in files.items():
        assert parameter_count(PUBLISHED[name]) == model.parameters
        assert re.fullmatch(r"[0-9a-f]{64}", model.sha256)
    size = files["ViT-B/32"].download_bytes
    assert size is not None
    assert abs(size / 353_976_522 - 1) < 0.003


def test_what_ships_is_listed_first() -> None:
    first, *rest = weights.known_models()
    assert first.name == "tandem-mini"
    assert first.cached
    assert first.parameters == parameter_count(weights.read("tandem-mini").config)
    assert rest == list(published_models())


# --- real sizes ----------------------------------------------------------------------------------------------------

# --- names ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "name", "repository"),
    [
        ("ViT-L/14@336", "ViT-L/14@336", ""),
        ("ViT-L/14@336px", "ViT-L/14@336", ""),
        ("ViT-L-14-336", "ViT-L/14@336", ""),
        ("vit-l-14-336px", "ViT-L/14@336", ""),
        ("rn50X64", "RN50x64", ""),
        ("ViT-B-32/openai", "ViT-B/32", ""),
        ("openai/clip-vit-base-patch32", "ViT-B/32", "openai/clip-vit-base-patch32"),
        ("ViT-B-16-SigLIP2-256", "ViT-B-16-SigLIP2-256", "timm/ViT-B-16-SigLIP2-256"),
        ("vit_b_16_siglip2_256", "ViT-B-16-SigLIP2-256", "timm/ViT-B-16-SigLIP2-256"),
        ("ViT-B-16-SigLIP2-256/webli", "ViT-B-16-SigLIP2-256", "timm/ViT-B-16-SigLIP2-256"),
        ("hf-hub:timm/ViT-B-16-SigLIP2-256", "ViT-B-16-SigLIP2-256", "timm/ViT-B-16-SigLIP2-256"),
        ("google/siglip2-base-patch16-256", "ViT-B-16-SigLIP2-256", "google/siglip2-base-patch16-256"),
        ("Google/SigLIP2-base-patch16-256", "ViT-B-16-SigLIP2-256", "google/siglip2-base-patch16-256"),
        ("siglip2-base-patch16-256", "ViT-B-16-SigLIP2-256", "google/siglip2-base-patch16-256"),
        (
            "ViT-B-32/laion2b_s34b_b79k",
            "ViT-B-32/laion2b_s34b_b79k",
            "laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
        ),
        ("CLIP-ViT-B-32-laion2B-s34B-b79K", "ViT-B-32/laion2b_s34b_b79k", "laion/CLIP-ViT-B-32-laion2B-s34B-b79K"),
        ("ViT-bigG-14", "ViT-bigG-14/laion2b_s39b_b160k", "laion/CLIP-ViT-bigG-14-laion2B-39B-b160k"),
        (
            "siglip2-base-patch16-naflex",
            "siglip2-base-patch16-naflex",
            "google/siglip2-base-patch16-naflex",
        ),
        ("PE-Core-B-16", "PE-Core-B-16", "timm/PE-Core-B-16"),
        ("facebook/PE-Core-B16-224", "PE-Core-B-16", "timm/PE-Core-B-16"),
        ("MobileCLIP2-S0", "MobileCLIP2-S0", "timm/MobileCLIP2-S0-OpenCLIP"),
        ("apple/MobileCLIP2-S0", "MobileCLIP2-S0", "timm/MobileCLIP2-S0-OpenCLIP"),
        ("MobileCLIP-B/datacompdr_lt", "MobileCLIP-B-LT", "apple/MobileCLIP-B-LT-OpenCLIP"),
        (
            "metaclip-2-worldwide-huge-quickgelu",
            "metaclip-2-worldwide-huge-quickgelu",
            "facebook/metaclip-2-worldwide-huge-quickgelu",
        ),
        (
            "ViT-H-14-quickgelu-worldwide",
            "metaclip-2-worldwide-huge-quickgelu",
            "facebook/metaclip-2-worldwide-huge-quickgelu",
        ),
        (
            "xlm-roberta-base-ViT-B-32/laion5b_s13b_b90k",
            "xlm-roberta-base-ViT-B-32",
            "laion/CLIP-ViT-B-32-xlm-roberta-base-laion5B-s13B-b90k",
        ),
    ],
)
def test_names_and_their_spellings(typed: str, name: str, repository: str) -> None:
    found = find(typed)
    assert found is not None
    assert (found[0].name, found[1]) == (name, repository)
    assert known_name(typed) == name


@pytest.mark.parametrize("typed", ["", "ViT-B/33", "SigLIP2", "ViT-g-14", "someone/else", "ViT-L-14-quickgelu"])
def test_what_means_nothing_or_too_much_is_not_found(typed: str) -> None:
    assert find(typed) is None
    assert known_name(typed) is None


def test_every_listed_name_means_its_own_model() -> None:
    for model in published_models():
        for name in (model.name, *model.aliases, model.hub, *model.repositories):
            assert not name or known_name(name) == model.name, name
    names = Counter(published.folded(name) for name in published.all_names())
    assert names.most_common(1)[0][1] == 1


def test_a_family_or_an_architecture_lists_its_models() -> None:
    assert {"ViT-B-16-SigLIP2-256", "ViT-gopt-16-SigLIP2-384"} <= set(candidates("SigLIP2"))
    assert not any("SigLIP2" in name for name in candidates("SigLIP"))
    assert candidates("siglip 2") == candidates("SigLIP2")
    assert candidates("ViT-g-14") == ["ViT-g-14/laion2b_s12b_b42k", "ViT-g-14/laion2b_s34b_b88k"]
    assert candidates("so400m-16") == [model.name for model in published_models() if "SO400M-16" in model.name]
    assert candidates("") == candidates("-") == []


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("SigLIP2", r"'SigLIP2' means \d+ models; give one of them: ViT-B-32-SigLIP2-256, ViT-B-16-SigLIP2, "),
        ("ViT-g-14", r"means 2 models; give one of them: ViT-g-14/laion2b_s12b_b42k, ViT-g-14/laion2b_s34b_b88k"),
        ("ViT-B-16-SigLIP2-265", "near: .*ViT-B-16-SigLIP2-256"),
        ("MobilCLIP2-S0", "near: MobileCLIP2-S0"),
        ("PE-Kore-B-16", "near: .*PE-Core-B-16"),
        ("zzz", "names are ViT-B/32"),
    ],
)
def test_other_names_are_refused_with_what_is_near(endpoint: Server, typed: str, says: str) -> None:
    with pytest.raises(HubError, match=says) as refused:
        weights.read(typed)
    assert "\n" not in str(refused.value)
    assert endpoint.requests == []


# --- names to files, from a stand-in hub ---------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("typed", "repository", "layout"),
    [
        ("ViT-B-16-SigLIP2-256", "timm/ViT-B-16-SigLIP2-256", "open_clip"),
        ("hf-hub:timm/ViT-B-16-SigLIP2-256", "timm/ViT-B-16-SigLIP2-256", "open_clip"),
        ("google/siglip2-base-patch16-256", "google/siglip2-base-patch16-256", "transformers"),
        ("Google/SigLIP2-base-patch16-256", "google/siglip2-base-patch16-256", "transformers"),
        ("ViT-B-32/laion2b_s34b_b79k", "laion/CLIP-ViT-B-32-laion2B-s34B-b79K", "open_clip"),
        ("ViT-H-14-quickgelu/dfn5b", "apple/DFN5B-CLIP-ViT-H-14", "open_clip"),
        ("MobileCLIP2-S0", "timm/MobileCLIP2-S0-OpenCLIP", "open_clip"),
        ("PE-Core-B-16", "timm/PE-Core-B-16", "open_clip"),
        ("metaclip-2-worldwide-huge-quickgelu", "facebook/metaclip-2-worldwide-huge-quickgelu", "transformers"),
        ("ViT-L-14-CLIPA/datacomp1b", "UCSC-VLAA/ViT-L-14-CLIPA-datacomp1B", "open_clip"),
        ("xlm-roberta-base-ViT-B-32", "laion/CLIP-ViT-B-32-xlm-roberta-base-laion5B-s13B-b90k", "open_clip"),
    ],
)
def test_a_name_asks_for_the_repository_and_the_files_of_its_layout(
    endpoint: Server, typed: str, repository: str, layout: Any
) -> None:
    checkpoint = publish(endpoint, repository, layout)
    read = weights.read(typed)
    toys.same(read.tensors, checkpoint.tensors)
    assert read.config.name == repository
    model = next(model for model in published_models() if repository in (model.hub, *model.repositories))
    assert (read.config.licence, read.config.data) == (model.licence, model.data)
    asked = {path.split("/resolve/")[0].strip("/") for _, path in endpoint.requests if "/resolve/" in path}
    assert asked == {repository}
    config, file = {
        "open_clip": ("open_clip_config.json", "open_clip_model.safetensors"),
        "transformers": ("config.json", "model.safetensors"),
    }[layout]
    downloaded = endpoint.downloaded()
    assert {config, file, "tokenizer.json"} <= set(downloaded)
    assert [name for name in downloaded if name.endswith((".safetensors", ".bin"))] == [file]
    assert ("preprocessor_config.json" in downloaded) == (layout == "transformers")
    assert {model.name for model in weights.known_models() if model.cached} == {"tandem-mini", model.name}


@pytest.mark.slow
def test_a_revision_of_a_known_repository(endpoint: Server) -> None:
    publish(endpoint, "timm/PE-Core-B-16", "open_clip")
    assert weights.read("Timm/pe-core-b-16@v2").config.name == "timm/PE-Core-B-16"
    assert all("/resolve/main/" not in path for _, path in endpoint.requests)
    with pytest.raises(HubError, match="ViT-B/32@v2: ViT-B/32 is one file of OpenAI's, without revisions"):
        weights.read("ViT-B/32@v2")


# --- OpenAI's files ------------------------------------------------------------------------------------------------


@pytest.fixture
def openai_server(endpoint: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """OpenAI's address leads to the stand-in, which serves a toy archive under ViT-B/32's name."""
    config = toys.vit()
    path = endpoint.root / "ViT-B-32.pt"
    with pytest.warns(DeprecationWarning, match="torch.jit"):
        toys.save_torchscript(
            path,
            toys.to_torch(toys.tensors(config, "float16")),
            {"input_resolution": 32, "context_length": 16, "vocab_size": toys.VOCABULARY},
        )
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    (endpoint.root / digest).mkdir()
    path.rename(endpoint.root / digest / path.name)
    monkeypatch.setattr(openai, "OPENAI_ROOT", endpoint.url)
    changed = dataclasses.replace(by_name()["ViT-B/32"], sha256=digest)
    index = dict(published._index())
    for key, (model, repository) in index.items():
        if model.name == "ViT-B/32":
            index[key] = changed, repository
    monkeypatch.setattr(published, "_index", lambda: index)
    return endpoint


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ViT-B/32", "ViT-B-32", "vit-b/32"])
def test_a_published_name_is_downloaded_once_and_read(
    openai_server: Server, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = toys.tokenizer(toys.vit())
    read = weights.read(name, tokenizer=words)
    toys.same(read.tensors, toys.tensors(toys.vit(), "float16"))
    assert (read.config.name, read.config.licence) == ("ViT-B/32", "MIT")
    assert read.config.notes == {}
    assert "ViT-B-32.pt: " in capsys.readouterr().err
    openai_server.requests.clear()
    weights.read(name, tokenizer=words)
    assert openai_server.requests == []
    known = {model.name: model for model in weights.known_models()}
    assert known["ViT-B/32"].cached
    assert not known["RN50"].cached


@pytest.mark.slow
def test_a_published_name_in_hugging_faces_cache_is_used_aloud(openai_server: Server) -> None:
    repository = by_name()["ViT-B/32"].hub
    checkpoint = publish(openai_server, repository, "transformers")
    weights.read(repository)
    openai_server.requests.clear()
    read = weights.read("ViT-B/32")
    toys.same(read.tensors, checkpoint.tensors)
    assert "Hugging Face's cache" in read.config.notes["source"]
    assert openai_server.requests == []
    assert by_name()["ViT-B/32"].cached


# --- orders --------------------------------------------------------------------------------------------------------


def model(name: str, **facts: Any) -> KnownModel:
    values: dict[str, Any] = {"parameters": 1, "embed_dim": 1, "image_size": 1, "licence": "", "data": ""}
    return KnownModel(name, "f", **{"gflops": 1.0, "languages": "English", **values, **facts})


def test_for_cpu_the_unbeaten_come_first() -> None:
    models = [
        model("slow", gflops=100.0, imagenet=85.0),
        model("beaten", gflops=9.0, imagenet=63.0),
        model("unknown", gflops=0.1),
        model("small", gflops=2.0, imagenet=71.0),
        model("middle", gflops=8.0, imagenet=80.0),
        model("beaten too", gflops=8.5, imagenet=80.0),
    ]
    order = [each.name for each in ordered_for("cpu", models)]
    assert order == ["small", "middle", "slow", "beaten too", "beaten", "unknown"]


def test_for_languages_figures_come_first_and_english_last() -> None:
    models = [
        model("english", imagenet=85.0),
        model("english, measured", imagenet=80.0, xm3600=22.0),
        model("many", languages="100", imagenet=62.0),
        model("good", languages="109", xm3600=40.0),
        model("best", languages="300+", xm3600=51.0),
    ]
    order = [each.name for each in ordered_for("languages", models)]
    assert order == ["best", "good", "many", "english, measured", "english"]


def test_for_quality_the_most_accurate_comes_first() -> None:
    models = [
        model("none"),
        model("a", imagenet=70.0),
        model("b", imagenet=80.0, gflops=2.0),
        model("c", imagenet=80.0),
    ]
    assert [each.name for each in ordered_for("quality", models)] == ["c", "b", "a", "none"]


@pytest.mark.parametrize("purpose", PURPOSES)
def test_every_order_holds_every_model(purpose: str) -> None:
    ordered = ordered_for(purpose, weights.known_models())
    assert Counter(ordered) == Counter(weights.known_models())
