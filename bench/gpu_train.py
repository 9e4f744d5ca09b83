"""`gpu.py train` and `gpu.py loss`: a step of training, and the contrastive loss alone, with plain ones beside them."""

import gc
from collections.abc import Callable
from functools import partial

import loss as loss_bench
import torch
from gpu_correct import random_inputs, random_model
from gpu_measure import OUT_OF_MEMORY, Results, Row, alternate, forget_peak, matrix_rate, operations, peak_gb, table
from train_step import Step, our_step, plain_step

from tandem.nn import CLIP, initialise
from tandem.train.recipe import Optimiser, Parallel

# Ways to take a step; on a CPU those that compile take minutes before the first one
PLAIN = "plain loop"
WAYS: dict[str, Parallel] = {
    "tandem": Parallel(),
    "tandem, compiled": Parallel(compile=True),
    "tandem, compiled, 4 micro-batches": Parallel(compile=True, micro_batches=4),
    "tandem, compiled, checkpointing": Parallel(compile=True, activation_checkpointing=True),
}


def train(
    device: torch.device, results: Results, models: list[str], batches: list[int], rounds: int, tiny: bool
) -> None:
    """pairs/s, share of the matrix rate and peak memory of each model, batch and way."""
    rows: list[Row] = []
    for name in models:
        for batch in batches:
            for way in (PLAIN, *WAYS):
                if device.type != "cuda" and WAYS.get(way, Parallel()).compile:
                    continue
                case = f"train {name} {batch} {way} {rounds} {tiny}"
                rows += results.case(case, partial(_train, device, name, batch, way, rounds, tiny))
    plain = {(row["model"], row["batch"]): row for row in rows if row["side"] == PLAIN}
    for row in rows:
        beside = plain.get((row["model"], row["batch"]), {})
        for key, ratio in (("pairs/s", "x plain"), ("peak GB", "of its memory")):
            if isinstance(row.get(key), float) and isinstance(beside.get(key), float):
                row[ratio] = row[key] / beside[key]
    table(
        "A step of training in bfloat16: both towers, loss, gradient and AdamW, data on the device. The plain loop: 77 "
        "tokens, the whole matrix of logits, nothing compiled. The share counts the products of a step without what "
        "is computed twice to save memory",
        ("model", "batch", "side", "pairs/s", "x plain", "share of the matrix rate", "peak GB", "of its memory"),
        rows,
    )


def _train(device: torch.device, name: str, batch: int, way: str, rounds: int, tiny: bool) -> list[Row]:
    row: Row = {"model": name, "batch": batch, "side": way}
    config, _ = random_model(name, tiny)
    chosen = Optimiser()
    pixels, ids = (torch.from_numpy(rows) for rows in random_inputs(config, batch))
    there = pixels.to(device)
    given = ids.to(device) if way == PLAIN else ids  # ours reads lengths on the host
    rate = matrix_rate(device, "bfloat16")

    def model() -> CLIP:
        return initialise(CLIP(config), 1).to(device)

    def make(parallel: Parallel | None) -> Step:
        if parallel is None:
            return plain_step(model(), chosen, "bfloat16", str(device))
        return our_step(model(), chosen, "bfloat16", str(device), parallel)

    try:
        # The products of a step, without those that checkpointing and micro-batches do twice
        part = min(batch, 256)
        each = _operations(make(None if way == PLAIN else Parallel()), there[:part], given[:part]) / part
        gc.collect()
        forget_peak(device)
        step = make(WAYS.get(way))
        work: Callable[[], float] = lambda: step(there, given)  # noqa: E731
        pairs = batch / alternate({way: work}, device, rounds)[way]
    except torch.OutOfMemoryError:
        return [row | {"pairs/s": OUT_OF_MEMORY}]
    finally:
        gc.collect()
    share = pairs * each / rate
    return [row | {"pairs/s": pairs, "share of the matrix rate": share, "peak GB": peak_gb(device)}]


def _operations(step: Step, pixels: torch.Tensor, ids: torch.Tensor) -> float:
    return operations(lambda: step(pixels, ids))


def loss(
    device: torch.device, results: Results, batches: list[int], widths: list[int], rounds: int, tiny: bool
) -> None:
    """Time and peak memory of the contrastive loss and its gradient, in blocks and with the whole matrix."""
    rows: list[Row] = []
    for batch in batches:
        for width in widths:
            rows += results.case(f"loss {batch} {width} {rounds}", partial(_loss, device, batch, width, rounds, tiny))
    table(
        "The contrastive loss and its gradient alone, float32",
        ("batch", "width", "side", "seconds", "extra MB", "loss"),
        rows,
    )


def _loss(device: torch.device, batch: int, width: int, rounds: int, tiny: bool) -> list[Row]:
    sides, threads = ("plain", "blocks"), torch.get_num_threads()
    if tiny:  # in this process, which spares the start of others; their memory is then not told apart
        found = {name: loss_bench.one(name, batch, width, threads, device.type) for name in sides}
    else:
        found = loss_bench.measure(batch, width, rounds, threads, device.type, sides)
    return [
        {
            "batch": batch, "width": width, "side": name, "seconds": row.get("seconds", OUT_OF_MEMORY),
            "extra MB": row.get("extra_mb"), "loss": f"{row['loss']:.5f}" if row else None,
        }
        for name, row in found.items()
    ]  # fmt: skip
