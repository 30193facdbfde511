"""A stand-in for torch_xla on a TPU: the part of its public interface that the library calls, as documented."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from tests.distributed.fakes.processes import launch as _launch

from . import runtime as runtime

#: How often :func:`sync` was called.
num_syncs = 0

#: How many devices, and so processes, this node has.
NUM_DEVICES = "FAKE_XLA_DEVICES"


def device(index: int | None = None) -> torch.device:
    return torch.device("cpu")  # the one that is there


def sync(wait: bool = False) -> None:
    global num_syncs
    num_syncs += 1


def launch(
    fn: Callable[..., Any],
    args: tuple[Any, ...] = (),
    start_method: str = "spawn",
    debug_single_process: bool = False,
) -> None:
    if debug_single_process:
        fn(0, *args)
        return
    count = int(os.environ[NUM_DEVICES])
    environments = [
        {"PJRT_LOCAL_PROCESS_RANK": str(rank), "PJRT_LOCAL_PROCESS_COUNT": str(count)} for rank in range(count)
    ]
    _launch(partial(_call, fn, args), environments)


def _call(fn: Callable[..., Any], args: tuple[Any, ...]) -> None:
    fn(runtime.global_ordinal(), *args)
