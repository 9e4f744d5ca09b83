"""Pairs a second of a training step, and the loss curve, over a plain loop written as open_clip does it.

    python bench/train_step.py [--rounds 5] [--batch 64] [--layers 12] [--compile] [--data FOLDER]
    python bench/train_step.py --curve [--steps 300]

The plain loop: 77 tokens always, autocast, torch's own multi-head attention, AdamW that walks over the weights one by
one, the whole matrix of logits. Ours is what `tandem train` runs. Both have the same weights, images and captions
(Flickr8k train, CLIP's BPE); sides alternate, medians count. `--curve` trains a small model in float32 from the same
start with both and prints how far the losses drift apart.
"""

import argparse
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from reference import load_note, machine
from torch import Tensor, nn

from tandem.config import PUBLISHED, ModelConfig, Preprocessing, TextTransformer, VisionTransformer
from tandem.nn import CLIP, initialise
from tandem.samples import read_samples
from tandem.tokenizer import Tokenizer
from tandem.towers.parts.torch import Block
from tandem.towers.vision_transformer.module import Module as VisionTower
from tandem.train.model.towers import Precision, Towers
from tandem.train.objective.device_batch import DeviceBatch
from tandem.train.objective.objective import ContrastiveObjective
from tandem.train.recipe import Optimiser, Parallel, Recipe, Source
from tandem.train.step.optimiser import build_optimiser

Rows = np.ndarray | Tensor
Step = Callable[[Rows, Rows], float]  # pixels uint8 [n s s 3], ids int32 [n 77] -> the loss


# --- the plain loop ----------------------------------------------------------------------------------------------


def plain_norm(norm: nn.LayerNorm, x: Tensor) -> Tensor:
    return F.layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, norm.eps).to(x.dtype)


def plain_block(block: Block, x: Tensor, mask: Tensor | None) -> Tensor:
    """x [t n w], the layout of torch's multi-head attention."""
    attn, y = block.attn, plain_norm(block.ln_1, x)
    mask = None if mask is None else mask.to(y.dtype)
    w = x.shape[-1]
    y, _ = F.multi_head_attention_forward(
        y, y, y, w, attn.heads, attn.in_proj_weight, attn.in_proj_bias, None, None, False, 0.0,
        attn.out_proj.weight, attn.out_proj.bias, need_weights=False, attn_mask=mask,
    )  # fmt: skip
    x = x + y
    y = block.mlp.c_fc(plain_norm(block.ln_2, x))
    y = y * torch.sigmoid(1.702 * y) if block.mlp.activation == "quick_gelu" else F.gelu(y)
    return x + block.mlp.c_proj(y)


def plain_image(model: CLIP, pixels: Tensor) -> Tensor:
    visual = model.visual
    assert isinstance(visual, VisionTower)
    x = visual.conv1(pixels).flatten(2).transpose(1, 2)  # [n g*g w]
    x = torch.cat([visual.class_embedding.to(x.dtype).expand(len(x), 1, -1), x], dim=1)
    x = plain_norm(visual.ln_pre, x + visual.positional_embedding.to(x.dtype)).transpose(0, 1)
    for block in visual.transformer.resblocks:
        x = plain_block(block, x, None)
    return plain_norm(visual.ln_post, x[0]) @ visual.proj


def plain_text(model: CLIP, ids: Tensor, mask: Tensor) -> Tensor:
    x = (model.text.token_embedding(ids) + model.text.positional_embedding).transpose(0, 1)  # [t n w]
    for block in model.text.transformer.resblocks:
        x = plain_block(block, x, mask)
    x = plain_norm(model.text.ln_final, x)
    return x[ids.argmax(dim=-1), torch.arange(x.shape[1])] @ model.text.text_projection


def plain_step(model: CLIP, chosen: Optimiser, precision: Precision, device: str = "cpu") -> Step:
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    exempt = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": exempt, "weight_decay": 0.0}, {"params": decayed, "weight_decay": chosen.weight_decay}]
    optimiser = torch.optim.AdamW(
        groups, lr=chosen.learning_rate, betas=(chosen.beta1, chosen.beta2), eps=chosen.epsilon, foreach=False
    )
    t = model.config.text.context_length
    mask = torch.full((t, t), -math.inf, device=device).triu(1)
    mean, std = (
        torch.tensor(v, device=device).view(3, 1, 1)
        for v in (model.config.preprocessing.mean, model.config.preprocessing.std)
    )

    def step(pixels: Rows, ids: Rows) -> float:
        images_in = (torch.as_tensor(pixels).to(device).permute(0, 3, 1, 2).float() / 255 - mean) / std
        optimiser.zero_grad()
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=precision == "bfloat16"):
            images = F.normalize(plain_image(model, images_in), dim=-1)
            texts = F.normalize(plain_text(model, torch.as_tensor(ids).to(device).long(), mask), dim=-1)
            logits = model.logit_scale.exp() * images @ texts.T
            labels = torch.arange(len(logits), device=device)
            loss = (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2
        loss.backward()
        optimiser.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))
        return loss.item()

    return step


# --- ours --------------------------------------------------------------------------------------------------------


def our_step(
    model: CLIP, chosen: Optimiser, precision: Precision, device: str = "cpu", parallel: Parallel | None = None
) -> Step:
    from tandem.train.parallel.process import single_process
    from tandem.train.parallel.wrapping import wrap
    from tandem.train.run.assembly import blocks
    from tandem.train.step.gradient import gradient

    parallel, processes = parallel or Parallel(), single_process(device)
    recipe = Recipe("bench", "", model.config, (Source("", per_batch=1),), 1, optimiser=chosen)
    towers, objective = Towers(model, precision).to(device), ContrastiveObjective(model, recipe)
    wrapped = wrap(towers, blocks(model), model.scaling(), parallel, processes)
    optimiser = build_optimiser(towers, objective, chosen)

    def step(pixels: Rows, ids: Rows) -> float:
        n = len(pixels)
        batch = DeviceBatch(torch.as_tensor(pixels).to(device), torch.as_tensor(ids), n, n)
        optimiser.zero_grad(set_to_none=True)
        losses = gradient(wrapped, objective, batch, parallel, processes)
        optimiser.step()
        objective.cap()
        return losses["loss"].item()

    return step


# --- both --------------------------------------------------------------------------------------------------------


def captions(data: Path) -> np.ndarray:
    """One caption of each image of the first training tar: ids int32 [n 77], padded with 0."""
    samples = read_samples(data / "flickr8k/train-00000.tar", "captions")
    tokenizer = Tokenizer.clip()
    return tokenizer([sample.texts[i % len(sample.texts)] for i, sample in enumerate(samples)], 77, True, pad_to=77)


def speed(arguments: argparse.Namespace) -> None:
    config = PUBLISHED["ViT-B/32"]
    config = replace(
        config,
        vision=replace(config.vision, layers=arguments.layers),
        text=replace(config.text, layers=arguments.layers),
    )
    ids = captions(arguments.data)
    draw = np.random.default_rng(0)
    n, chosen = arguments.batch, Optimiser()
    sides: dict[str, Callable[[CLIP, Optimiser, Precision], Step]] = {"plain": plain_step, "tandem": our_step}
    if arguments.compile:
        sides["tandem, compiled"] = partial(our_step, parallel=Parallel(compile=True))
    steps = {name: make(initialise(CLIP(config), 1), chosen, "bfloat16") for name, make in sides.items()}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    spent: dict[str, list[float]] = {name: [] for name in sides}
    first: dict[str, float] = {}
    lengths = []
    for round_ in range(arguments.rounds + 1):
        pixels = draw.integers(0, 256, (n, 224, 224, 3), np.uint8)
        rows = ids[draw.integers(len(ids), size=n)]
        lengths.append((rows == config.text.end_id).argmax(1).mean() + 1)
        for name in sorted(steps, reverse=bool(round_ % 2)):
            before, spent_before = time.perf_counter(), time.process_time()
            steps[name](pixels, rows)
            if not round_:  # the first of each warms up
                first[name] = time.process_time() - spent_before
                continue
            seconds[name].append(time.perf_counter() - before)
            spent[name].append(time.process_time() - spent_before)
    median = {name: statistics.median(times) for name, times in seconds.items()}
    print(
        f"ViT-B/32 and its text tower ({arguments.layers} layers), batch {n}, bfloat16, "
        f"{np.mean(lengths):.1f} tokens a caption"
    )
    print("| | s a step | pairs/s | CPU seconds | of the first step |\n|---|---|---|---|---|")
    for name, value in median.items():
        cpu = statistics.median(spent[name])
        print(f"| {name} | {value:.2f} | {n / value:.1f} | {cpu:.2f} | {first[name]:.1f} |")
    ratios = [a / b for a, b in zip(seconds["plain"], seconds["tandem"], strict=True)]
    print(
        f"\nratio {median['plain'] / median['tandem']:.2f} (of pairs of rounds: {min(ratios):.2f} to {max(ratios):.2f})"
    )


def curve(arguments: argparse.Namespace) -> None:
    words = TextTransformer(77, 49408, 64, 2, 2, 256, "quick_gelu")
    config = ModelConfig(64, VisionTransformer(32, 8, 64, 2, 2, 256, "quick_gelu"), words, Preprocessing(32))
    ids = captions(arguments.data)
    draw = np.random.default_rng(0)
    known = draw.integers(0, 256, (256, 32, 32, 3), np.uint8)  # so few that they are learnt, and the loss falls
    chosen = Optimiser(learning_rate=5e-4)
    plain, ours = (make(initialise(CLIP(config), 1), chosen, "float32") for make in (plain_step, our_step))
    losses = []
    for _ in range(arguments.steps):
        rows = draw.permutation(256)[:32]
        losses.append((plain(known[rows], ids[rows]), ours(known[rows], ids[rows])))
    a, b = np.array(losses).T
    print(f"{arguments.steps} steps in float32: loss {a[0]:.4f} to {a[-1]:.4f}")
    print(f"largest difference of the losses: {np.abs(a - b).max():.1e} (at step {np.abs(a - b).argmax()})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--layers", type=int, default=12, help="fewer, for a quick look")
    parser.add_argument("--compile", action="store_true", help="also with the blocks compiled")
    parser.add_argument("--curve", action="store_true")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    arguments = parser.parse_args()
    print(f"{machine()}; {load_note()}\n")
    (curve if arguments.curve else speed)(arguments)


if __name__ == "__main__":
    main()
