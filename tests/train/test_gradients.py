"""One process, micro-batches, two processes and three give the same gradient, in float64.

The reference is written out here: every vector at once, the whole matrix of logits, torch's own autograd.
"""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from support.gradient_cases import CASES, Case, assert_same, ours, reference
from torch import Tensor, nn

from tandem.train.parallel import process
from tandem.train.parallel.process import Processes

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("case", CASES[1], ids=str)
def test_micro_batches_give_the_gradient_of_the_whole_batch(case: Case) -> None:
    assert_same(ours(case, process.single_process()), reference(case))


# ---- on several processes: each runs all cases of its number, the first and the last write what they found


def run_all(rank: int, count: int, folder: Path, work: Callable[[Processes, Path], None]) -> None:
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(count), LOCAL_RANK=str(rank), OMP_NUM_THREADS="1")
    torch.set_num_threads(1)
    processes = process.start("cpu", timeout_s=120, init_method=f"file://{folder / 'meeting'}")
    try:
        work(processes, folder)
    finally:
        processes.close()


def spawn(count: int, folder: Path, work: Callable[[Processes, Path], None]) -> None:
    torch.multiprocessing.start_processes(  # type: ignore[no-untyped-call, attr-defined]
        run_all, (count, folder, work), count, start_method="forkserver"
    )


def all_cases(processes: Processes, folder: Path) -> None:
    found = {}
    for case in CASES[processes.count]:
        try:
            found[str(case)] = ours(case, processes)
        except Exception as error:
            raise RuntimeError(f"{case}, process {processes.rank}") from error
    torch.save(found, folder / f"{processes.rank}.pt")


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, dict[str, Tensor]]]:
    return found_by(2, tmp_path_factory.mktemp("two"))


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, dict[str, Tensor]]]:
    return found_by(3, tmp_path_factory.mktemp("three"))


def found_by(count: int, folder: Path) -> list[dict[str, dict[str, Tensor]]]:
    spawn(count, folder, all_cases)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(count)]


@pytest.mark.parametrize("case", CASES[2], ids=str)
def test_two_processes_give_the_gradient_of_one(case: Case, two: list[dict[str, dict[str, Tensor]]]) -> None:
    wanted = reference(case)
    for found in two:
        assert_same(found[str(case)], wanted)


@pytest.mark.parametrize("case", CASES[3], ids=str)
def test_three_processes_give_the_gradient_of_one(case: Case, three: list[dict[str, dict[str, Tensor]]]) -> None:
    wanted = reference(case)
    for found in three:
        assert_same(found[str(case)], wanted)


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


def test_what_processes_exchange(tmp_path: Path) -> None:
    spawn(3, tmp_path, exchange)
