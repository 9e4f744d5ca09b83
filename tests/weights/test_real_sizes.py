"""The real sizes behind the published models: shapes, parameters, work, and the names that others give them."""

import dataclasses
import re

import pytest

from tandem import weights
from tandem.config import ModelConfig, VisionTransformer, to_dict
from tandem.errors import ConfigError
from tandem.weights import expected_shapes
from tandem.weights.architectures import architecture
from tandem.weights.open_clip_config import config_from, config_to, timm_model_of
from tandem.weights.published import SHIPPED, published_models
from tandem.weights.shapes import parameter_count
from tandem.weights.tokenizer_files import SpecialTokens

# Millions of parameters as open_clip's results list them, or as files have them
COUNTED = {
    "ViT-B/32": 151.28,
    "ViT-L/14@336": 427.94,
    "RN50x64": 623.26,
    "RN50": 102.01,
    "ViT-B-32-256/datacomp_s34b_b86k": 151.29,
    "ViT-H-14/laion2b_s32b_b79k": 986.11,
    "ViT-H-14-378-quickgelu/dfn5b": 986.71,
    "ViT-g-14/laion2b_s34b_b88k": 1366.68,
    "ViT-bigG-14/laion2b_s39b_b160k": 2539.57,
    "ViT-B-16-SigLIP": 203.16,
    "ViT-B-16-SigLIP-256": 203.20,
    "ViT-B-16-SigLIP-384": 203.45,
    "ViT-B-16-SigLIP-512": 203.79,
    "ViT-B-16-SigLIP-i18n-256": 370.63,
    "ViT-L-16-SigLIP-256": 652.15,
    "ViT-L-16-SigLIP-384": 652.48,
    "ViT-SO400M-14-SigLIP": 877.36,
    "ViT-SO400M-14-SigLIP-384": 877.96,
    "ViT-L-14-CLIPA/datacomp1b": 414.21,
    "ViT-H-14-CLIPA/datacomp1b": 968.24,
    "ViT-H-14-CLIPA-336/datacomp1b": 968.64,
    "ViT-bigG-14-CLIPA/datacomp1b": 2517.22,
    "MobileCLIP-S1": 21.5 + 63.4,  # image and text tower, as in its authors' table
    "MobileCLIP2-S0": 11.4 + 63.4,
    "MobileCLIP2-B": 86.3 + 63.4,
    "MobileCLIP2-S3": 125.1 + 123.6,
    "MobileCLIP2-S4": 321.6 + 123.6,
    "MobileCLIP2-L-14": 304.3 + 123.6,
    "PE-Core-T-16-384": 69.57,  # its file has 278,284,008 bytes
    "xlm-roberta-base-ViT-B-32": 366.12,
    "xlm-roberta-large-ViT-H-14": 1193.01,
}


LISTED = {model.name: model for model in published_models()}
ARCHITECTURES = sorted({model.architecture for model in LISTED.values()})


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_table_agrees_with_the_real_sizes(name: str) -> None:
    config = architecture(name)
    for model in published_models():
        if model.architecture == name:
            assert model.parameters == parameter_count(config)
            assert model.embed_dim == config.embed_dim
            assert model.image_size == config.vision.image_size


@pytest.mark.parametrize("name", COUNTED)
def test_parameters_are_as_published(name: str) -> None:
    assert LISTED[name].parameters / 1e6 == pytest.approx(COUNTED[name], rel=1e-3)


@pytest.mark.parametrize(
    ("name", "timm_name"),
    [
        ("ViT-B-16-SigLIP2-256", "vit_base_patch16_siglip_256"),
        ("ViT-SO400M-14-SigLIP2-378", "vit_so400m_patch14_siglip_378"),
        ("ViT-gopt-16-SigLIP2-256", "vit_giantopt_patch16_siglip_256"),
        ("ViT-B-32-SigLIP2-256", "vit_base_patch32_siglip_256"),
        ("ViT-L-16-SigLIP-384", "vit_large_patch16_siglip_384"),
    ],
)
def test_real_sizes_have_timm_s_names(name: str, timm_name: str) -> None:
    assert timm_model_of(architecture(name)) == timm_name


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if "naflex" not in name])  # which it has not
def test_open_clip_s_configuration_of_real_sizes_reads_the_same(name: str) -> None:
    config = architecture(name)
    text = config.text
    shapes = expected_shapes(config)
    tokens = SpecialTokens(text.start_id, text.end_id, text.pad_id) if text.start_id != 49406 else SpecialTokens()
    read = config_from(config_to(config), tokens, "test", shapes)
    # The end of texts is the tokenizer's, and here is none
    read = dataclasses.replace(read, notes={}, timm_model="", text=dataclasses.replace(read.text, end_id=text.end_id))
    assert read == dataclasses.replace(config, name="", licence="", data="")


@pytest.mark.parametrize(
    ("name", "causal", "pad_id"),
    [
        ("ViT-B-32", True, 0),
        ("ViT-B-16-SigLIP", False, 1),
        ("ViT-B-16-SigLIP2", False, 0),
        ("MobileCLIP-B", True, 0),
        ("MobileCLIP2-S0", False, 0),
    ],
)
def test_text_towers_of_real_sizes_see_what_theirs_do(name: str, causal: bool, pad_id: int) -> None:
    text = architecture(name).text
    assert (text.causal, text.pad_id) == (causal, pad_id)


@pytest.mark.parametrize(("name", "after"), [("ViT-L-14-CLIPA", True), ("ViT-H-14-CLIPA", False)])
def test_clipa_s_last_norm_comes_before_the_mean_in_h_alone(name: str, after: bool) -> None:
    vision = architecture(name).vision
    assert isinstance(vision, VisionTransformer)
    assert vision.norm_after_pooling is after


def test_an_unknown_architecture_is_refused() -> None:
    for name in ("ViT-Q-16", "ViT-B-16-SigLIP3", "EVA02-B-16", "RN50", "convnext_base"):
        with pytest.raises(ConfigError, match=re.escape(name)):
            architecture(name)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["ViT-B-32-quickgelu", "ViT-B-16-SigLIP2-256", "RN50-quickgelu", "ViT-L-14-CLIPA", "MobileCLIP2-S0"]
)
def test_work_is_counted_from_the_torch_definition(name: str) -> None:
    listed = next(model.gflops for model in published_models() if model.architecture == name)
    assert gflops(architecture(name)) == pytest.approx(listed, rel=0.01)


@pytest.mark.slow
def test_the_work_of_what_ships_is_that_of_its_tower() -> None:
    (listed,) = SHIPPED.values()
    assert gflops(weights.read("tandem-mini").config) == pytest.approx(listed, abs=0.05)  # one digit is listed


def gflops(config: ModelConfig) -> float:
    """Billions of operations of an image, as torch counts them."""
    torch = pytest.importorskip("torch")
    from torch.utils.flop_counter import FlopCounterMode

    from tandem.towers import tower_part

    size = config.vision.image_size
    with torch.device("meta"):
        tower = tower_part(config.vision, "module").Module(config.vision, config.embed_dim)
        pixels = torch.empty(1, 3, size, size)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        tower(pixels)
    return float(counter.get_total_flops() / 1e9)


def test_to_dict_takes_every_real_configuration() -> None:
    for name in ARCHITECTURES:
        assert to_dict(architecture(name))["format"] == "tandem"
