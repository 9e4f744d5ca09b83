"""`tandem demo`: what it prints, draws and leaves."""

from pathlib import Path

import pytest
from support.commands import Run


def test_demo_as_json(tandem: Run, model_folder: str, tmp_path: Path) -> None:
    for package in ("skimage", "sklearn", "matplotlib"):
        pytest.importorskip(package)
    out = tmp_path / "new" / "answer.png"
    outcome = tandem("demo", "--json", "--model", model_folder, "--out", out)
    assert outcome.code == 0
    document = outcome.json
    assert len(document["results"]) == 6
    for search in document["searches"]:
        scores = [hit["score"] for hit in search["hits"]]
        assert scores == sorted(scores, reverse=True)
    assert out.stat().st_size > 10_000
    assert out.with_name("search.png").stat().st_size > 10_000
