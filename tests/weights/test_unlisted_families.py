"""Names of families that no table lists: the answer of docs/families.md in place of names that are spelt alike."""

from pathlib import Path

import pytest

from tandem import weights
from tandem.errors import HubError
from tandem.weights import published, unlisted_families

PAGE = Path(__file__).resolve().parents[2] / "docs" / "families.md"


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("EVA02-B-16", "PE-Core, DFN"),
        ("EVA01-g-14", "PE-Core, DFN"),
        ("coca_ViT-B-32", "LAION-2B"),
        ("jina-clip-v2", "SigLIP 2"),
        ("nomic-embed-vision-v1.5", "SigLIP 2"),
        ("convnext_base_w", "LAION-2B, DataComp"),
        ("nllb-clip-base", "XLM-R towers, MetaCLIP 2 or SigLIP 2"),
    ],
)
def test_a_refused_family_is_answered_by_name(name: str, instead: str) -> None:
    with pytest.raises(HubError) as caught:
        weights.read(name)
    assert str(caught.value) == f"{name!r}: not supported; instead: {instead}; see Model families (docs/families.md)"
    assert f"| {instead}" in PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["EVA02-B-16/merged2b_s8b_b131k", "jinaai/jina-clip-v2"])
def test_a_refused_hub_name_that_cannot_be_fetched_says_so(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(HubError, match="not supported; instead: ") as caught:
        weights.read(name)
    assert "near:" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "loads"), [("LongCLIP-L", "BeichenZhang/LongCLIP-L"), ("bioclip", "imageomics/bioclip,")]
)
def test_a_family_that_loads_by_another_name_says_which(name: str, loads: str) -> None:
    with pytest.raises(HubError) as caught:
        weights.read(name)
    assert loads in str(caught.value)
    assert "near:" not in str(caught.value)


def test_no_listed_name_is_answered_so() -> None:
    refused = [name for name in published.all_names() if unlisted_families.answer(name).startswith("not supported")]
    assert refused == []
