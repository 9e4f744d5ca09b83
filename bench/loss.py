"""The contrastive loss and its gradient, in blocks and with the whole matrix of logits: time and memory.

    python bench/loss.py [--batch 16384] [--width 512] [--rounds 5] [--threads 2]

Each variant runs in a process of its own, in turn, so that one's memory is not the other's. What is counted as extra is
what the process needs at its peak beyond what it had, vectors and gradients of a small batch included, before the
loss: the gradients of the vectors are extra in both. Time is that of forward and backward, median of the rounds, after
one round that is not counted. The plain one is written as open_clip writes it: the logits of both directions from one
product, two cross-entropies.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from tandem.train.objective.losses import contrastive_loss, sigmoid_loss

MEGABYTE = 2**20


def plain(images: Tensor, texts: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    logits = scale.exp() * images @ texts.T
    labels = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2


def plain_sigmoid(images: Tensor, texts: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    logits = scale.exp() * images @ texts.T + bias
    signs = 2 * torch.eye(len(logits), device=logits.device) - 1
    return -F.logsigmoid(signs * logits).sum() / len(logits)


VARIANTS: dict[str, Callable[..., Tensor]] = {
    "plain": plain,
    "blocks": lambda images, texts, scale, bias: contrastive_loss(images, texts, scale),
    "plain sigmoid": plain_sigmoid,
    "blocks sigmoid": sigmoid_loss,
}


def inputs(batch: int, width: int, device: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Images and texts that are a little alike, as in the middle of a training run; ln of the scale: 3."""
    draw = torch.Generator().manual_seed(0)
    both = torch.randn(batch, width, generator=draw)
    images, texts = (F.normalize(both + 2 * torch.randn(batch, width, generator=draw), dim=-1) for _ in range(2))
    values = (images, texts, torch.tensor(3.0), torch.tensor(-10.0))
    return tuple(value.to(device).requires_grad_() for value in values)  # type: ignore[return-value]


def one(name: str, batch: int, width: int, threads: int, device: str) -> dict[str, float]:
    """One variant, in this process: seconds of its second pass, extra megabytes, loss and gradients to compare."""
    torch.set_num_threads(threads)
    work = VARIANTS[name]
    small = inputs(64, width, device)
    work(*small).backward()  # what a first call loads is not the loss's
    leaves = inputs(batch, width, device)
    before = _peak(device)
    seconds = 0.0
    for _ in range(2):
        for leaf in leaves:
            leaf.grad = None
        _wait(device)
        start, start_cpu = time.perf_counter(), time.process_time()
        loss = work(*leaves)
        loss.backward()
        _wait(device)
        seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - start_cpu
    images, scale = leaves[0].grad, leaves[2].grad
    assert images is not None
    assert scale is not None
    return {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "extra_mb": (_peak(device) - before) / MEGABYTE,
        "loss": loss.item(),
        "images_norm": images.norm().item(),
        "scale_gradient": scale.item(),
    }


def _peak(device: str) -> int:
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def measure(
    batch: int, width: int, rounds: int, threads: int, device: str, variants: Sequence[str] = tuple(VARIANTS)
) -> dict[str, dict[str, float]]:
    """The medians of each variant, each in a process of its own; {} for one that the memory is too small for."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in variants}
    given = ["--batch", str(batch), "--width", str(width), "--threads", str(threads), "--device", device]
    for _ in range(rounds):
        for name in variants:
            command = [sys.executable, __file__, *given, "--one", name]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode == 0:
                found[name].append(json.loads(done.stdout))
            elif "OutOfMemoryError" not in done.stderr:
                raise SystemExit(f"{' '.join(command)}\n{done.stderr}")
    return {
        name: {key: statistics.median(row[key] for row in rows) for key in rows[0]} if rows else {}
        for name, rows in found.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=16384)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--one", choices=list(VARIANTS), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        print(json.dumps(one(chosen.one, chosen.batch, chosen.width, chosen.threads, chosen.device)))
        return
    middle = measure(chosen.batch, chosen.width, chosen.rounds, chosen.threads, chosen.device)
    print(
        f"batch {chosen.batch}, width {chosen.width}, {chosen.device}, {chosen.threads} threads, "
        f"torch {torch.__version__}"
    )
    print("| | seconds | CPU seconds | extra memory, MB | loss | its gradient's norm | d scale |")
    print("|---|---|---|---|---|---|---|")
    for name, row in middle.items():
        if not row:
            print(f"| {name} | out of memory |")
            continue
        print(
            f"| {name} | {row['seconds']:.2f} | {row['cpu_seconds']:.2f} | {row['extra_mb']:.0f} | {row['loss']:.6f} | "
            f"{row['images_norm']:.6g} | {row['scale_gradient']:.6g} |"
        )
    for ours, theirs in (("blocks", "plain"), ("blocks sigmoid", "plain sigmoid")):
        if not middle[ours] or not middle[theirs]:
            continue
        ratios = {key: middle[ours][key] / middle[theirs][key] for key in ("seconds", "extra_mb")}
        print(f"{ours}: {ratios['seconds']:.2f}x the time, {ratios['extra_mb']:.3f}x the memory")


if __name__ == "__main__":
    main()
