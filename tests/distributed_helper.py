"""Run a function on several ranks: fresh processes, gloo, and a time limit."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def run_distributed(
    function: Callable[..., Any], folder: Path, *args: Any, ranks: int = 2, timeout_s: float = 180.0
) -> list[Any]:
    """Call ``function(rank, *args)`` on each rank of a process group.

    Args:
        function: Defined at the top of a module. What it returns must be tensors, numbers and strings, in lists,
            tuples and dicts.
        folder: An empty one, such as ``tmp_path``.
        args: Handed to the function.
        ranks: Number of processes.
        timeout_s: After so many seconds all of them are killed.

    Returns:
        What the function returned on each rank, in their order.

    Raises:
        RuntimeError: With the tracebacks of all ranks that raised. When one does, the others often do so after it,
            because nobody answers them.
        TimeoutError: If they are not done in time.
    """
    processes = mp.spawn(_run_rank, (function, folder, ranks, timeout_s, args), nprocs=ranks, join=False)
    assert processes is not None
    deadline = time.monotonic() + timeout_s
    try:
        while not processes.join(timeout=max(0.0, deadline - time.monotonic())):  # False too when only some are done
            if time.monotonic() >= deadline:
                for process in processes.processes:
                    process.kill()
                raise TimeoutError(f"run_distributed: {function.__name__} has not ended on all ranks in {timeout_s} s")
    except mp.ProcessRaisedException as error:
        raise RuntimeError("\n".join(path.read_text() for path in sorted(folder.glob("error_*")))) from error
    return [torch.load(folder / f"result_of_rank_{rank}") for rank in range(ranks)]


def _run_rank(
    rank: int, function: Callable[..., Any], folder: Path, ranks: int, timeout_s: float, args: tuple[Any, ...]
) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder / 'store'}",
        rank=rank,
        world_size=ranks,
        timeout=timedelta(seconds=timeout_s),
    )
    try:
        torch.save(function(rank, *args), folder / f"result_of_rank_{rank}")
    except Exception:
        # written before the connections close, so it is there when another rank complains of that
        (folder / f"error_of_rank_{rank}").write_text(f"Rank {rank}: {traceback.format_exc()}")
        raise
    finally:
        dist.destroy_process_group()
