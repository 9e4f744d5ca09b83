"""Fine-tuning for classification: it starts at the zero-shot classifier, resumes to the same bits, ends in WiSE-FT."""

import csv
import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from support import toy
from support.training_toys import COLOURS, MODEL, NAMED, recipe, write_folder, write_parquet

import tandem
from tandem.errors import ConfigError, DataError
from tandem.heads.head_file import read_head
from tandem.train.data.loader import Loader
from tandem.train.objective.classification import ClassificationObjective
from tandem.train.parallel.process import single_process
from tandem.train.recipe import Recipe
from tandem.train.recipe_file import read_recipe
from tandem.train.run.assembly import assemble, names_of_classes
from tandem.train.run.loop import train, train_step
from tandem.train.step.loss_monitor import LossMonitor
from tandem.train.wise_ft import Point, between, choose, read_model_with_head

STEPS = 10
SOURCE = {**NAMED, "per_batch": 12}
HELD_OUT = {"classification": "names.parquet", "zero_shot": "names.parquet", "every_steps": 3}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("classification")
    write_parquet(root / "names.parquet")
    toy.folder(root / "toy")
    toy.folder(root / "resnet", "resnet")
    return root


def run_of(root: Path, name: str, **changes: Any) -> Recipe:
    values: dict[str, Any] = {
        "folder": str(root / name),
        "steps": STEPS,
        "init": {"model": str(root / "toy")},
        "model": {},
        "precision": "float32",
        "objective": {"kind": "classification", "label_smoothing": 0.1},
        "optimiser": {"learning_rate": 1e-2, "warmup_steps": 1},
        "ema": {"decay": 0.2},
        "validation": HELD_OUT,
        "checkpoints": {"every_steps": 100},
        "log": {"tensorboard": False},
        "cache_folder": str(root / "indexes"),
        **changes,
    }
    return recipe(root, SOURCE, **values)


@pytest.fixture(scope="module")
def whole(root: Path) -> Path:
    found = train(run_of(root, "whole"))
    assert found.model == root / "whole" / "wise-ft"
    assert found.head == root / "whole" / "wise-ft.tandem-head"
    assert found.classes == tuple(COLOURS)
    return root / "whole"


@pytest.mark.slow
def test_the_first_head_is_the_zero_shot_classifier(root: Path, whole: Path) -> None:
    model, head = (
        tandem.load(whole / "zero-shot", engine="torch", precision="float32"),
        read_head(whole / "zero-shot.tandem-head"),
    )
    assert head.fingerprint == model.fingerprint
    images = np.random.default_rng(0).normal(size=(3, toy.DIMENSIONS)).astype(np.float32)
    # A class has two names here, each in one template: their vectors are averaged.
    texts = [f"a photo of a {name}." for colour in COLOURS for name in (colour, f"{colour} thing")]
    means = model.embed_texts(texts).reshape(len(COLOURS), 2, -1).mean(1)
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    scale = np.exp(np.float32(model.tensors["logit_scale"]))
    assert np.allclose(head.logits(images), scale * images @ means.T, atol=scale * 2e-3)  # weights in float16


def test_every_classifier_fits_its_model_and_the_text_tower_stays(whole: Path) -> None:
    zero_shot, fine_tuned, wise_ft = (read_model_with_head(whole / name) for name in ("zero-shot", "model", "wise-ft"))
    assert [each.head.method for each in (zero_shot, fine_tuned, wise_ft)] == ["fine_tuning", "fine_tuning", "wise_ft"]
    read_head(whole / "best.tandem-head")
    for name, tensor in zero_shot.model.tensors.items():
        moved = not np.array_equal(tensor, fine_tuned.model.tensors[name])
        assert moved == name.startswith("visual."), name
    assert not np.array_equal(zero_shot.head.weights, fine_tuned.head.weights)


def test_between_is_both_ends_at_0_and_1(whole: Path) -> None:
    zero_shot, fine_tuned = read_model_with_head(whole / "zero-shot"), read_model_with_head(whole / "model")
    for alpha, end in ((0.0, zero_shot), (1.0, fine_tuned)):
        found = between(zero_shot, fine_tuned, alpha)
        assert found.head.fingerprint == end.head.fingerprint
        assert np.array_equal(found.head.weights, end.head.weights)
        assert np.array_equal(found.head.bias, end.head.bias)
        assert all(np.array_equal(tensor, end.model.tensors[name]) for name, tensor in found.model.tensors.items())
    half = between(zero_shot, fine_tuned, 0.25).head
    assert np.allclose(half.weights, 0.75 * zero_shot.head.weights + 0.25 * fine_tuned.head.weights, atol=1e-6)
    others = fine_tuned.head.classes[::-1]
    with pytest.raises(ConfigError, match="have other classes: expected the same"):
        between(zero_shot, fine_tuned._replace(head=dataclasses.replace(fine_tuned.head, classes=others)), 0.5)


def test_the_loss_is_smoothed_and_the_head_has_its_logits() -> None:
    draw = np.random.default_rng(0)
    images, class_vectors, bias = (
        torch.from_numpy(draw.normal(size=shape).astype(np.float32)) for shape in ((4, 6), (3, 6), (3,))
    )
    clip: Any = SimpleNamespace(logit_scale=torch.nn.Parameter(torch.tensor(0.7)), logit_bias=None)
    objective = ClassificationObjective(clip, class_vectors, label_smoothing=0.3)
    objective.bias.data.copy_(bias)
    batch: Any = SimpleNamespace(labelled=torch.tensor([0, 1, 3]), labels=torch.tensor([2, 0, 1]), total_labelled=5)
    logits = np.exp(0.7) * (images.numpy() @ class_vectors.numpy().T + bias.numpy())
    assert np.allclose(objective.logits(images).detach().numpy(), logits, atol=1e-5)
    log_shares = (logits - np.log(np.exp(logits).sum(1, keepdims=True)))[[0, 1, 3]]
    target = 0.7 * np.eye(3)[[2, 0, 1]] + 0.3 / 3
    loss = objective.losses(images, images[:0], batch)["loss"]
    assert loss.item() == pytest.approx(-(target * log_shares).sum() / 5, abs=1e-5)
    weights, biases = objective.head()
    assert np.allclose(images.numpy() @ weights.numpy().T + biases.numpy(), logits, atol=1e-5)


def test_alpha_is_the_best_on_validation(whole: Path) -> None:
    with (whole / "wise-ft.csv").open() as file:
        rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    assert [row["alpha"] for row in rows] == [i / 10 for i in range(11)]
    assert {"classification_top1", "zero_shot_top1"} < rows[0].keys()
    best = max(row["classification_top1"] for row in rows)
    chosen = read_head(whole / "wise-ft.tandem-head").card["alpha"]
    assert chosen == next(row["alpha"] for row in rows if row["classification_top1"] == best)
    assert rows[-1]["classification_top1"] > rows[0]["classification_top1"]  # colours are learnt in a few steps


def test_of_equal_alphas_the_smallest_is_chosen() -> None:
    points = [Point(alpha, {"a": value}) for alpha, value in ((0.0, 0.5), (0.3, 0.8), (0.6, 0.8), (1.0, 0.7))]
    assert choose(points, "a") == 0.3
    assert choose(points, "b") == choose([], "a") == 0.5


@pytest.mark.slow
def test_stopped_and_resumed_it_ends_in_the_same_bits(root: Path, whole: Path) -> None:
    asked = iter([False, False, True])
    found = train(run_of(root, "stopped"), stop_requested=lambda: next(asked))
    assert found.model is None
    assert found.saved_step == 3
    assert train(run_of(root, "stopped", workers=1)).step == STEPS
    for name in ("zero-shot", "model", "wise-ft"):
        ours, theirs = read_head(root / "stopped" / f"{name}.tandem-head"), read_head(whole / f"{name}.tandem-head")
        assert ours.fingerprint == theirs.fingerprint
        assert np.array_equal(ours.weights, theirs.weights)
        assert np.array_equal(ours.bias, theirs.bias)
    for path in ("model/model.safetensors", "wise-ft/model.safetensors", "wise-ft.csv"):
        assert (root / "stopped" / path).read_bytes() == (whole / path).read_bytes(), path
    states = [
        load_file(folder / f"checkpoints/step-{STEPS:08d}/trainer.safetensors") for folder in (whole, root / "stopped")
    ]
    assert states[0].keys() == states[1].keys()
    assert {"objective.weight", "optimiser.objective.weight/exp_avg", "average.head.weight"} < states[0].keys()
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())


def test_a_locked_image_tower_leaves_the_head_alone_to_learn(root: Path) -> None:
    run = assemble(run_of(root, "locked", locked=["image"]), single_process(), root / "locked")
    learning = [name for name, p in run.towers.named_parameters() if p.requires_grad]
    assert learning == []
    assert [name for name, p in run.objective.named_parameters() if p.requires_grad] == ["weight", "bias"]


def test_batch_norms_keep_their_statistics(root: Path) -> None:
    chosen = run_of(root, "norms", init={"model": str(root / "resnet")}, ema={})
    run = assemble(chosen, single_process(), root / "norms")
    before = {name: tensor.clone() for name, tensor in run.clip.state_dict().items()}
    train_step(run, 2, run.loader.batch(2), LossMonitor(chosen.guards))
    after = run.clip.state_dict()
    assert torch.equal(after["visual.bn1.running_mean"], before["visual.bn1.running_mean"])
    assert not torch.equal(after["visual.bn1.weight"], before["visual.bn1.weight"])


def test_shares_of_processes_are_the_batch(root: Path) -> None:
    chosen = run_of(root, "shares")
    whole_batch = Loader(chosen, toy.tokenizer()).batch(3)
    parts = [Loader(chosen, toy.tokenizer(), rank=rank, processes=2).batch(3) for rank in range(2)]
    assert whole_batch.classes is not None
    assert whole_batch.total_texts == 0
    labels = [part.classes.labels for part in parts if part.classes is not None]
    assert np.concatenate(labels).tolist() == whole_batch.classes.labels.tolist()
    assert np.array_equal(np.concatenate([part.pixels for part in parts]), whole_batch.pixels)


def test_two_sources_have_their_classes_together(root: Path, tmp_path: Path) -> None:
    write_folder(tmp_path / "folders")
    values = {"init": {"model": str(root / "toy")}, "model": {}, "objective": {"kind": "classification"}}
    folders = {"path": str(tmp_path / "folders"), "kind": "names", "per_batch": 4}
    loader = Loader(recipe(root, SOURCE, folders, **values), toy.tokenizer())
    assert loader.class_names() == [(c, f"{c} thing") for c in COLOURS] + [(f"{c} thing",) for c in sorted(COLOURS)]
    assert names_of_classes([("crane", "bird"), ("crane", "machine"), ("ox",)]) == (
        "crane, bird",
        "crane, machine",
        "ox",
    )


def test_the_recipe_that_ships_is_one_of_classification() -> None:
    shipped = read_recipe(Path(__file__).resolve().parents[2] / "recipes" / "classify.toml")
    assert shipped.classifies
    assert shipped.validation.classification == "validation"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"init": {}}, r"init\.model: missing; classification starts from the zero-shot classifier"),
        ({"objective": {"kind": "classification", "classes": 1.0}}, r"objective\.classes: has no meaning"),
        ({"distillation": {"model": "tandem-mini"}}, r"distillation\.model: has no meaning"),
        ({"objective": {}}, r"validation: sets of kind classification need objective\.kind"),
        ({"objective": {"label_smoothing": 0.1}, "validation": {}}, r"objective\.label_smoothing: expected 0"),
    ],
)
def test_what_has_no_meaning_is_refused(root: Path, changes: dict[str, Any], message: str) -> None:
    values = changes if changes.get("init") != {} else {**changes, "model": MODEL}
    with pytest.raises(ConfigError, match=message):
        run_of(root, "refused", **values)


def test_a_class_that_was_not_trained_is_refused_before_the_first_step(root: Path, tmp_path: Path) -> None:
    write_folder(tmp_path)
    validation = {"classification": str(tmp_path)}
    with pytest.raises(
        DataError, match=r"expected classes of the training set \(red, green, blue, white, ...\), got 'blue"
    ):
        train(run_of(root, "unknown", validation=validation))
    assert not (root / "unknown" / "checkpoints").exists()
