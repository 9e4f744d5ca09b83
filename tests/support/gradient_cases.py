"""Ways to compute the gradient of a step, and the reference: every vector at once, torch's own autograd, float64."""

import dataclasses
import functools
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from support import toy
from support.training_toys import sparse
from tandem import nn as model_definition
from tandem.towers.parts.torch import Block
from tandem.towers.resnet.module import BasicBlock, Bottleneck
from tandem.train.model import batch_norm, initial_weights
from tandem.train.model.towers import Towers
from tandem.train.objective.classification import ClassificationObjective
from tandem.train.objective.device_batch import DeviceBatch
from tandem.train.objective.objective import ContrastiveObjective
from tandem.train.parallel import process
from tandem.train.parallel.process import Processes, split_ranges
from tandem.train.parallel.wrapping import wrap
from tandem.train.recipe import ObjectiveSettings, Optimiser, Parallel, Recipe
from tandem.train.step.gradient import gradient
from tandem.train.step.optimiser import build_optimiser, clip_gradients

TOLERANCE = 1e-10


@dataclass(frozen=True)
class Case:
    """One way to compute a step's gradient."""

    vision: str
    loss: str
    dense: bool
    parallel: Parallel
    images: int = 7
    kept: bool = False

    def __str__(self) -> str:
        spread = self.parallel
        words = [self.vision, self.loss, "dense" if self.dense else "pairs", spread.strategy, f"{spread.micro_batches}"]
        words += ["kept"] * self.kept + ["again"] * spread.activation_checkpointing + ["compiled"] * spread.compile
        return "-".join([*words, f"{self.images}"])


def cases(images: int, resnet_images: int, strategy: str, micros: tuple[int, ...], **switches: bool) -> list[Case]:
    """ViTs with masks given, ResNets with batch norm over pairs of images; both objectives, both kinds of targets."""
    found = []
    for micro in micros:
        for loss, dense in (("infonce", False), ("infonce", True), ("sigmoid", False), ("sigmoid", True)):
            spread = Parallel(strategy, micro, **switches)  # type: ignore[arg-type]
            found.append(Case("vit", loss, dense, spread, images, kept=True))
            spread = dataclasses.replace(spread, norm_batch=2)
            found.append(Case("resnet", loss, dense, spread, resnet_images))
    return found


# Uneven everywhere: 7 are 4 + 3, 10 are 4 + 3 + 3; pairs of images: 13 are 8 + 5, 21 are 8 + 8 + 5.
CASES = {
    1: cases(10, 13, "none", (1, 2, 3)) + cases(10, 13, "none", (2,), activation_checkpointing=True)[:2],
    2: cases(7, 13, "ddp", (1, 3))
    + cases(7, 13, "fsdp", (2,))[:6]
    + cases(7, 13, "ddp", (1,), activation_checkpointing=True)[:2]
    + cases(7, 13, "fsdp", (1,), activation_checkpointing=True)[:2],
    3: cases(10, 21, "ddp", (1, 2)),
}
# A head on the image tower, which locked texts have no part in; batch norms with their statistics kept
for count, strategy, micro in ((1, "none", 1), (1, "none", 3), (2, "ddp", 2), (2, "fsdp", 1), (3, "ddp", 1)):
    for vision, images in (("vit", 10), ("resnet", 13)):
        CASES[count].append(Case(vision, "classification", False, Parallel(strategy, micro), images))  # type: ignore[arg-type]
# Other families: rotary positions with kept patches, texts whose padding counts, texts whose padding is masked
for family in ("pe-core", "clipa", "bert"):
    CASES[1].append(Case(family, "infonce", False, Parallel("none", 2, activation_checkpointing=True), 10, kept=True))
    CASES[2] += [
        Case(family, "sigmoid", False, Parallel("ddp", 1), 7, kept=True),
        Case(family, "infonce", False, Parallel("fsdp", 2), 7, kept=True),
    ]


def build(case: Case) -> tuple[Towers, ContrastiveObjective | ClassificationObjective]:
    config = toy.config(case.vision, logit_bias=case.loss == "sigmoid")
    clip = model_definition.from_arrays(config, toy.tensors(config)).train()
    with torch.no_grad():
        clip.logit_scale.fill_(2.0)
        if clip.logit_bias is not None:
            clip.logit_bias.fill_(-1.5)
    if case.loss == "classification":
        vectors = torch.from_numpy(np.random.default_rng(6).normal(size=(5, toy.DIMENSIONS)))
        initial_weights.lock(clip, ["text"])
        classification = ClassificationObjective(clip.double(), vectors, label_smoothing=0.1)
        with torch.no_grad():
            classification.bias.copy_(vectors[:, 0])
        towers = Towers(clip, "float32").double()
        initial_weights.set_training(towers, True, keep_statistics=True)
        return towers, classification
    recipe = Recipe("toy", "", config, (), 1, objective=ObjectiveSettings(case.loss))  # type: ignore[arg-type]
    objective = ContrastiveObjective(clip, recipe).double()
    return Towers(clip, "float32").double(), objective


def whole_targets(case: Case) -> Tensor | None:
    """Where targets are dense there are fewer texts than images."""
    n = case.images
    random = np.random.default_rng(4)
    return torch.from_numpy(random.random((n, n - 1)).astype(np.float32)) if case.dense else None


def whole_batch(case: Case) -> DeviceBatch:
    """As one process has it."""
    random, words = np.random.default_rng(3), toy.tokenizer()
    n = case.images
    m = n - 1 if case.dense else n
    texts = ["cat " * (1 + i % 4) + "do" * (i % 3) + str(i) for i in range(m)]
    ids = torch.from_numpy(words(texts, toy.CONTEXT)[:, :24].copy())
    assert all((row == words.end_id).any() for row in ids)
    kept = torch.from_numpy(np.stack([random.permutation(16)[:9] for _ in range(n)])) if case.kept else None
    pixels = torch.from_numpy(random.integers(0, 256, (n, toy.SIZE, toy.SIZE, 3), dtype=np.uint8))
    if case.loss == "classification":
        labels = torch.from_numpy(random.integers(0, 5, n))
        return DeviceBatch(pixels, None, 0, 0, labelled=torch.arange(n), labels=labels, total_labelled=n)
    return DeviceBatch(pixels, ids, m, m, kept=kept)


def share(case: Case, processes: Processes) -> DeviceBatch:
    batch = whole_batch(case)
    images = split_ranges(case.images, processes.count, max(1, case.parallel.norm_batch))[processes.rank]
    if batch.ids is None:
        assert batch.labels is not None
        labels = batch.labels[images]
        return dataclasses.replace(
            batch, pixels=batch.pixels[images], labelled=torch.arange(len(labels)), labels=labels
        )
    # A text stands where its image does; only dense targets leave them free.
    texts = split_ranges(len(batch.ids), processes.count)[processes.rank] if case.dense else images
    return dataclasses.replace(
        batch,
        pixels=batch.pixels[images],
        ids=batch.ids[texts],
        kept=None if batch.kept is None else batch.kept[images],
        texts=texts.stop - texts.start,
        targets=None if (targets := whole_targets(case)) is None else sparse(targets.double(), images),
    )


def results(towers: Towers, objective: nn.Module, loss: Tensor) -> dict[str, Tensor]:
    """The loss, every gradient of what learns and every statistic, by name."""
    found = {"loss": loss.detach()}
    for name, parameter in [*towers.named_parameters(), *objective.named_parameters(prefix="objective")]:
        if not parameter.requires_grad:
            assert parameter.grad is None, name
            continue
        assert parameter.grad is not None, name
        whole = getattr(parameter.grad, "full_tensor", lambda g=parameter.grad: g)()
        found[f"{name} gradient"] = whole.clone()
    for name, buffer in towers.named_buffers():
        if "running" in name:
            found[name] = buffer.clone()
    return found


def ours(case: Case, processes: Processes) -> dict[str, Tensor]:
    towers, objective = build(case)
    batch_norm.set_groups(towers, case.parallel.norm_batch)
    blocks = [module for module in towers.modules() if isinstance(module, Block | Bottleneck | BasicBlock)]
    wrapped = wrap(towers, blocks, towers.clip.scaling(), case.parallel, processes)
    losses = gradient(wrapped, objective, share(case, processes), case.parallel, processes)
    batch_norm.update_running_stats(towers, processes)
    found = results(towers, objective, losses["loss"])
    if case.loss == "classification":
        build_optimiser(towers, objective, Optimiser()).step()  # of sharded and of whole parameters
        # The head's gradients are whole where the towers' are sharded
        learnt = {id(p): p for module in (towers, objective) for p in module.parameters()}
        norm = clip_gradients(learnt.values(), 1e-3)
        clipped = results(towers, objective, losses["loss"])
        for name in clipped:
            factor = 1e-3 / (float(norm) + 1e-6) if "gradient" in name else 1.0
            torch.testing.assert_close(clipped[name], factor * found[name], rtol=1e-6, atol=1e-12)
    return found


def reference(case: Case) -> dict[str, Tensor]:
    """The definition, for whatever way of computing it."""
    return _reference(dataclasses.replace(case, parallel=Parallel("none", norm_batch=case.parallel.norm_batch)))


@functools.cache
def _reference(case: Case) -> dict[str, Tensor]:
    """One forward pass, all logits, one backward pass. Batch norm: see the test of its groups."""
    towers, objective = build(case)
    batch_norm.set_groups(towers, case.parallel.norm_batch)
    batch = whole_batch(case)
    with batch_norm.collect_statistics(towers):
        images, texts = towers(batch.pixels, batch.ids, batch.kept)
    if isinstance(objective, ClassificationObjective):
        assert batch.labels is not None
        logits = objective.logit_scale.exp() * (images @ objective.weight.T + objective.bias)
        right = torch.eye(5, dtype=torch.float64)[batch.labels]
        loss = -((0.9 * right + 0.1 / 5) * logits.log_softmax(1)).sum(1).mean()
        loss.backward()
        return results(towers, objective, loss)
    logits = objective.logit_scale.exp() * images @ texts.T
    dense = whole_targets(case)
    targets = (torch.eye(len(logits)) if dense is None else dense).double()
    if case.loss == "sigmoid":
        assert objective.logit_bias is not None
        loss = F.binary_cross_entropy_with_logits(logits + objective.logit_bias, targets, reduction="sum") / len(logits)
    else:
        rows = -(targets / targets.sum(1, keepdim=True) * logits.log_softmax(1)).sum(1).mean()
        columns = -(targets / targets.sum(0, keepdim=True) * logits.log_softmax(0)).sum(0).mean()
        loss = (rows + columns) / 2
    loss.backward()
    batch_norm.update_running_stats(towers, process.single_process())
    return results(towers, objective, loss)


def assert_same(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    """Within `TOLERANCE` of each tensor's largest number; what is zero but for rounding, of the largest of all."""
    assert found.keys() == wanted.keys()
    largest = max(float(tensor.abs().max()) for name, tensor in wanted.items() if "gradient" in name)
    assert largest > 1e-3
    for name, tensor in wanted.items():
        assert found[name].dtype == torch.float64, name
        off = float((found[name] - tensor).abs().max())
        assert off <= TOLERANCE * max(float(tensor.abs().max()), 1e-4 * largest), f"{name}: off by {off}"
