"""What several training processes compute together, each of them a fork of one that has imported torch."""

import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import torch
from torch import nn

from support.gradient_cases import CASES, ours
from support.processes import TRAINING, Child
from tandem.train.parallel import process
from tandem.train.parallel.process import Processes

IMPORTED = (*TRAINING, "support.gradient_cases")
_CODE = "from support.gradient_processes import run_one; run_one()"


def on_processes(count: int, folder: Path, work: Callable[[Processes, Path], None]) -> None:
    """Run one of the functions below on as many processes, which meet at a file in `folder`, and end well."""
    with ExitStack() as stack:
        children = [
            stack.enter_context(Child(IMPORTED, _CODE, str(rank), str(count), str(folder), work.__name__))
            for rank in range(count)
        ]
        for rank, child in enumerate(children):
            said = child.stderr.read()
            assert child.wait() == 0, f"process {rank}:\n{said}"


def run_one() -> None:
    """What such a process does."""
    rank, count, folder, work = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(count), LOCAL_RANK=str(rank))
    torch.set_num_threads(1)
    processes = process.start("cpu", timeout_s=120, init_method=f"file://{folder / 'meeting'}")
    try:
        {"all_cases": all_cases, "exchange": exchange}[work](processes, folder)
    finally:
        processes.close()


def all_cases(processes: Processes, folder: Path) -> None:
    found = {}
    for case in CASES[processes.count]:
        try:
            found[str(case)] = ours(case, processes)
        except Exception as error:
            raise RuntimeError(f"{case}, process {processes.rank}") from error
    torch.save(found, folder / f"{processes.rank}.pt")


def exchange(processes: Processes, folder: Path) -> None:
    """Uneven rows, one process without any; then sums and words. Asserts where it runs."""
    counts = [2, 0, 3]
    mine = torch.arange(counts[processes.rank] * 2, dtype=torch.float64).view(-1, 2) + 100 * processes.rank
    mine.requires_grad_()
    rows, first = processes.gather(mine)
    assert first == [0, 2, 2][processes.rank]
    assert rows.shape == (5, 2)
    assert rows[first : first + len(mine)].equal(mine)
    assert rows[:, 0].tolist() == [0, 2, 200, 202, 204]
    (rows * torch.arange(5.0)[:, None] * (1 + processes.rank)).sum().backward()  # 1 + 2 + 3 of each row's number
    assert mine.grad is not None
    assert mine.grad[:, 0].tolist() == [6.0 * i for i in range(first, first + len(mine))]

    learnt = [nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(1))]
    learnt[0].grad = torch.full((2,), 1.0 + processes.rank)
    if processes.rank == 1:
        learnt[1].grad = torch.ones(3)  # the others have none
    learnt[2].requires_grad_(False)
    processes.sum_gradients(learnt)
    assert learnt[0].grad.tolist() == [6.0, 6.0]
    assert learnt[1].grad is not None
    assert learnt[1].grad.tolist() == [1.0, 1.0, 1.0]
    assert learnt[2].grad is None
    assert processes.any(processes.rank == 2)
    assert not processes.any(False)
    received = torch.full((2,), float(processes.rank))
    processes.broadcast([received])
    assert received.tolist() == [0.0, 0.0]
    assert processes.broadcast_object({"rank": processes.rank}) == {"rank": 0}
    processes.barrier()
