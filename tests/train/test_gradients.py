"""One process, micro-batches, two processes and three give the same gradient, in float64.

The reference is written out here: every vector at once, the whole matrix of logits, torch's own autograd.
"""

from pathlib import Path

import pytest
import torch
from support.gradient_cases import CASES, Case, assert_same, ours, reference
from support.gradient_processes import all_cases, exchange, on_processes
from torch import Tensor

from tandem.train.parallel import process

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("case", CASES[1], ids=str)
def test_micro_batches_give_the_gradient_of_the_whole_batch(case: Case) -> None:
    assert_same(ours(case, process.single_process()), reference(case))


# ---- on several processes: each runs all cases of its number


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, dict[str, Tensor]]]:
    return found_by(2, tmp_path_factory.mktemp("two"))


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, dict[str, Tensor]]]:
    return found_by(3, tmp_path_factory.mktemp("three"))


def found_by(count: int, folder: Path) -> list[dict[str, dict[str, Tensor]]]:
    on_processes(count, folder, all_cases)
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


def test_what_processes_exchange(tmp_path: Path) -> None:
    on_processes(3, tmp_path, exchange)
