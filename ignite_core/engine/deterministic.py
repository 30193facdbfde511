"""An engine whose runs are reproducible bit for bit, also when they are cut and resumed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from ignite_core.engine.engine import Engine

__all__ = ["DeterministicEngine"]


class DeterministicEngine(Engine):
    """An :class:`Engine` of which every run is seeded, as by the argument ``seed`` of :meth:`Engine.run`.

    If CUDA is available, runs use ``torch.use_deterministic_algorithms(True, warn_only=True)`` and no cuDNN benchmarks.

    Args:
        process_function: The step, ``step(engine, batch) -> output``.

    Attributes:
        state: As of an :class:`Engine`. Without ``state.seed`` and ``run(seed=...)``, a seed is drawn from torch's
            generator when the first run starts. All ranks get that of rank 0, so all ranks must start the run.

    Example:
        >>> def draws(seed):
        ...     engine = DeterministicEngine(lambda engine, batch: seen.append(torch.rand(1).item()))
        ...     engine.state.seed, seen = seed, []
        ...     _ = engine.run(range(3), max_epochs=2)
        ...     return seen
        >>> draws(5) == draws(5), draws(5) == draws(6)
        (True, False)
    """

    _always_seeded = True

    def __init__(self, process_function: Callable[[Any, Any], Any]) -> None:
        super().__init__(process_function)
        self.add_run_context(_deterministic_algorithms)


@contextmanager
def _deterministic_algorithms(engine: Engine) -> Iterator[None]:
    if not torch.cuda.is_available():
        yield
        return
    is_enabled = torch.are_deterministic_algorithms_enabled()
    warns_only = torch.is_deterministic_algorithms_warn_only_enabled()
    benchmark = torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(is_enabled, warn_only=warns_only)
        torch.backends.cudnn.benchmark = benchmark
