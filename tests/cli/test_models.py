"""`tandem models`: the table of published checkpoints, its orders, and speeds measured here."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.commands import Run, one_line, run_in_terminal, widest

from tandem import weights
from tandem.cli import speeds
from tandem.cli.commands.models import COLUMNS
from tandem.config import ModelConfig, ResNet
from tandem.processor import processor
from tandem.weights import architectures
from tandem.weights.architectures import architecture

pytestmark = pytest.mark.slow


def test_models_lists_what_can_be_loaded(tandem: Run) -> None:
    document = tandem("models", "--json").json
    models = {model["name"]: model for model in document["models"]}
    assert len(models) == len(document["models"]) > 40
    siglip = models["ViT-B-16-SigLIP2-256"]
    assert siglip["family"] == "SigLIP 2"
    assert siglip["hub"] == "timm/ViT-B-16-SigLIP2-256"
    assert siglip["repositories"] == ["google/siglip2-base-patch16-256"]
    assert (siglip["imagenet"], siglip["languages"], siglip["licence"]) == (79.1, "109", "Apache-2.0")
    assert siglip["imagenet_source"].startswith("https://")
    assert siglip["images_per_second"] is None
    assert siglip["cached"] is False
    assert models["tandem-mini"]["cached"] is True
    assert "sha256" not in siglip


def test_a_piped_table_has_every_column(tandem: Run) -> None:
    rows = {row[1]: row for row in tandem("models").rows}
    assert set(rows) == {model.name for model in weights.known_models()}
    assert {len(row) for row in rows.values()} == {len(COLUMNS)}
    assert rows["ViT-B-16-SigLIP2-256"] == [
        *("-", "ViT-B-16-SigLIP2-256", "SigLIP 2", "375234050", "768", "256", "46.82", "109", "79.1", "40.7", ""),
        *("Apache-2.0", "", "timm/ViT-B-16-SigLIP2-256"),
    ]
    assert rows["tandem-mini"][0] == "here"


@pytest.mark.parametrize("columns", [40, 80, 120, 200])
def test_the_table_fits_the_terminal(columns: int, home: Path) -> None:
    shown = run_in_terminal("models", columns=columns).out
    assert widest(shown) <= columns
    assert "ViT-B-16-SigLIP2-256" in shown
    assert "79.1" in shown
    assert ("109" in shown) == (columns > 40)
    assert ("Apache-2.0" in shown) == (columns > 80)
    assert ("timm/ViT-B-16-SigLIP2-256" in shown) == (columns == 200)


@pytest.mark.parametrize("columns", [40, 80, 120])
@pytest.mark.parametrize(
    ("purpose", "heading", "figure"),
    [("cpu", "GFLOP", "16"), ("languages", "XM3600", "51.5"), ("quality", "ImageNet", "85.4")],
)
def test_the_column_of_the_order_is_shown_at_every_width(
    columns: int, purpose: str, heading: str, figure: str, home: Path
) -> None:
    shown = run_in_terminal("models", "--for", purpose, columns=columns).out
    assert widest(shown) <= columns
    assert heading in shown
    assert figure in shown
    assert "images/s" not in shown
    assert "weights" not in shown


def test_images_per_second_are_shown_rounded_once_measured(home: Path) -> None:
    document = {"processor": processor(), "images_per_second": {"RN50-quickgelu": {"float32": 123.456}}}
    (home / "speeds.json").write_text(json.dumps(document))
    shown = run_in_terminal("models", columns=120).out
    assert "images/s" in shown
    assert " 120 " in shown
    assert "123" not in shown


def test_for_cpu_lists_only_what_no_other_beats(tandem: Run) -> None:
    rows = tandem("models", "--for", "cpu").rows
    work, accuracy = ([float(row[at]) for row in rows] for at in (6, 8))
    assert 5 < len(rows) < 20
    assert work == sorted(work)
    assert accuracy == sorted(accuracy)


def test_the_best_round_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    from tandem.config import PUBLISHED

    rounds = iter([7.0, 9.0, 8.0, 9.5, 1.0])
    monkeypatch.setattr(speeds, "_round", lambda encode, batch: next(rounds))
    assert speeds.images_per_second(PUBLISHED["RN50"], "float32", 1) == 9.5


def test_orders(tandem: Run) -> None:
    by_quality = [row[8] for row in tandem("models", "--for", "quality").rows]
    figures = [float(figure) for figure in by_quality if figure]
    assert figures == sorted(figures, reverse=True)
    assert by_quality[: len(figures)] == [figure for figure in by_quality if figure]
    languages = tandem("models", "--for", "languages").rows
    assert languages[0][1] == "metaclip-2-worldwide-huge-quickgelu"
    assert [row[7] for row in languages].index("English") == sum(row[7] != "English" for row in languages)
    first = tandem("models", "--for", "cpu", "--json").json["models"]
    work, accuracy = [[model[name] for model in first[:5]] for name in ("gflops", "imagenet")]
    assert work == sorted(work)
    assert accuracy == sorted(accuracy)
    assert "invalid choice" in one_line(tandem("models", "--for", "fun"))


def _narrow(name: str) -> ModelConfig:
    """An architecture of residual networks in a small size: to draw and compile RN50 takes seconds."""
    whole = architecture(name)
    assert isinstance(whole.vision, ResNet)
    vision = replace(whole.vision, layers=(1, 1, 1, 1), width=8, heads=4)
    return replace(whole, vision=vision)


def test_measuring_downloads_nothing_and_is_remembered(
    tandem: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(speeds, "LEAST_SECONDS", 0.0)
    monkeypatch.setattr(speeds, "ROUNDS", 1)
    monkeypatch.setattr(speeds, "BATCH", 1)
    monkeypatch.setattr(architectures, "architecture", _narrow)
    document = tandem("models", "--measure", "tandem-mini", "rn50", "--json").json
    names = [model["name"] for model in document["models"]]
    assert names == ["tandem-mini", "RN50"]
    assert all(model["images_per_second"] > 0 for model in document["models"])
    assert (document["precision"], document["processor"]) == ("float32", processor())
    listed = {model["name"]: model["images_per_second"] for model in tandem("models", "--json").json["models"]}
    assert {name for name, rate in listed.items() if rate} == {"tandem-mini", "RN50"}
    assert next(row[10] for row in tandem("models").rows if row[1] == "RN50") == f"{listed['RN50']:g}"
    bfloat16 = tandem("models", "--precision", "bfloat16", "--json").json["models"]
    assert not any(model["images_per_second"] for model in bfloat16)


def test_checkpoints_of_one_architecture_share_a_speed(tandem: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speeds, "images_per_second", lambda config, precision: 12.345)
    tandem("models", "--measure", "ViT-B-32/laion2b_s34b_b79k")
    listed = tandem("models", "--json").json["models"]
    shared = {model["name"] for model in listed if model["images_per_second"]}
    assert shared == {model["name"] for model in listed if model["architecture"] == "ViT-B-32"}
    assert len(shared) > 1


def test_speeds_of_another_processor_or_a_damaged_file_do_not_count(tandem: Run, home: Path) -> None:
    other = {"processor": "another", "images_per_second": {"RN50-quickgelu": {"float32": 9.0}}}
    damaged: list[Any] = [other, [], {"processor": processor()}, {**other, "images_per_second": {"a": 1}}]
    for document in (*map(json.dumps, damaged), "{"):
        (home / "speeds.json").write_text(document)
        assert speeds.load("float32") == {}
        assert tandem("models").code == 0


def test_measuring_refuses_what_it_cannot(tandem: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    message = one_line(tandem("models", "--measure", "SigLIP2"))
    assert "'SigLIP2' is none of the models listed; near: ViT-B-32-SigLIP2-256" in message
    monkeypatch.setattr(speeds, "_free_bytes", lambda: 10**9)
    message = one_line(tandem("models", "--measure", "ViT-bigG-14"))
    assert "measuring may take" in message
    assert "1.0 GB are free" in message


def test_a_name_that_means_many_lists_them(tandem: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    message = one_line(tandem("embed", "--text", "a cat", "--json", "--model", "SigLIP2"))
    assert "give one of them: ViT-B-32-SigLIP2-256, " in message


@pytest.mark.parametrize(
    "rates", ["[" * 100_000, {"RN50": {"float32": 10**400}}, {"RN50": {"float32": "nan"}}, {"RN50": {"float32": -1}}]
)
def test_damaged_speeds_are_no_speeds(tandem: Run, rates: Any) -> None:
    path = speeds._path()
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {"processor": processor(), "images_per_second": rates}
    path.write_text(rates if isinstance(rates, str) else json.dumps(document))
    assert not any(model["images_per_second"] for model in tandem("models", "--json").json["models"])
