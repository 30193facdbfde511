"""An engine whose runs repeat bit for bit, also when they are cut and resumed."""

from __future__ import annotations

import torch

from ignite_core.engine.engine import Engine

__all__ = ["DeterministicEngine"]


class DeterministicEngine(Engine):
    """An :class:`Engine` whose every run has a seed, as if it were given to :meth:`Engine.run`.

    Where CUDA is available, the run goes under ``torch.use_deterministic_algorithms(True, warn_only=True)`` and without
    cuDNN benchmarks.

    Args:
        process_function: The step, ``step(engine, batch) -> output``.

    Attributes:
        state: As of an :class:`Engine`; where neither ``state.seed`` nor ``run(seed=…)`` tells a seed, one is drawn
            from torch's generator when the first run starts; all ranks get that of rank 0, so all must start it.

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

    def _walk(self) -> None:
        if not torch.cuda.is_available():
            super()._walk()
            return
        algorithms = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
        benchmark = torch.backends.cudnn.benchmark
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.backends.cudnn.benchmark = False
        try:
            super()._walk()
        finally:
            torch.use_deterministic_algorithms(algorithms[0], warn_only=algorithms[1])
            torch.backends.cudnn.benchmark = benchmark
