"""What run_distributed promises, as other tests lean on it."""

import threading
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from tests.distributed_helper import run_distributed

pytestmark = pytest.mark.skipif(not dist.is_gloo_available(), reason="needs the gloo backend, this torch has none")


def sum_of_ranks(rank: int, scale: int) -> tuple[int, int]:
    total = torch.tensor(rank * scale)
    dist.all_reduce(total)
    return rank, int(total)


def fail_on_one(rank: int) -> None:
    if rank == 1:
        raise ArithmeticError("one rank gives up")
    dist.barrier()


def wait_for_ever(rank: int) -> None:
    threading.Event().wait()


def test_results_come_in_the_order_of_the_ranks(tmp_path: Path) -> None:
    assert run_distributed(sum_of_ranks, tmp_path, 10, ranks=3) == [(0, 30), (1, 30), (2, 30)]


def test_an_exception_on_one_rank_is_told(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"Rank 1: [\s\S]*ArithmeticError: one rank gives up"):
        run_distributed(fail_on_one, tmp_path)


def test_ranks_that_hang_are_killed(tmp_path: Path) -> None:
    with pytest.raises(TimeoutError, match=r"wait_for_ever has not ended on all ranks in 0\.1 s"):
        run_distributed(wait_for_ever, tmp_path, ranks=1, timeout_s=0.1)
