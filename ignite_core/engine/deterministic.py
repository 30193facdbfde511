"""An engine whose runs repeat bit for bit, also when they are cut and resumed."""

from __future__ import annotations

import itertools
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch

from ignite_core.engine.data import length_of, tell_epoch
from ignite_core.engine.engine import Engine
from ignite_core.rng import manual_seed, rng_state, set_rng_state

__all__ = ["DeterministicEngine"]


class DeterministicEngine(Engine):
    """An :class:`Engine` that seeds all random generators from ``state.seed`` at the start of each pass over the data.

    ::

        per pass over the data:
            manual_seed(state.seed + number of the pass)
            iterate the data

    Its :meth:`state_dict` also holds the seed, the place in the pass, and the states of all random generators. A run
    that was saved after an iteration and is resumed draws the same batches and the same random numbers as one that was
    not cut. To find its place inside a pass it fetches the batches up to there once more, and drops them.

    Where CUDA is available, the run itself goes under ``torch.use_deterministic_algorithms(True, warn_only=True)`` and
    without cuDNN benchmarks.

    Args:
        process_function: The step, ``step(engine, batch) -> output``.

    Attributes:
        state: As of an :class:`Engine`; set ``state.seed`` before a run to choose the seed, else it is drawn from
            torch's generator when the first run starts.

    Example:
        >>> def draws(seed):
        ...     engine = DeterministicEngine(lambda engine, batch: seen.append(torch.rand(1).item()))
        ...     engine.state.seed, seen = seed, []
        ...     _ = engine.run(range(3), max_epochs=2)
        ...     return seen
        >>> draws(5) == draws(5), draws(5) == draws(6)
        (True, False)
    """

    def __init__(self, process_function: Callable[[Any, Any], Any]) -> None:
        super().__init__(process_function)
        self._passes = 0  # begun in this run
        self._pass_began = 0  # iterations before this pass
        self._batches_to_skip = 0  # of the next pass: they were run before it was saved
        self._rng_to_restore: Mapping[str, Any] | None = None

    def state_dict(self) -> OrderedDict[str, Any]:
        """As of an :class:`Engine`, and ``seed``, ``data_pass`` (passes done, batches of the next one) and ``rng``."""
        saved = super().state_dict()
        saved["seed"] = self.state.seed
        if self._batches_to_skip or not self._passes:
            saved["data_pass"] = [self._passes, self._batches_to_skip]
        else:
            saved["data_pass"] = [self._passes - 1, self.state.iteration - self._pass_began]
        saved["rng"] = rng_state()
        return saved

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over what :meth:`state_dict` saved.

        Numbers written by hand will do too: then every epoch done counts as one pass over the data.

        Raises:
            TypeError: If ``state_dict`` is not a mapping.
            ValueError: If a key is missing, or keys contradict each other.
        """
        super().load_state_dict(state_dict)
        place = self._position.place
        self._passes, self._batches_to_skip = state_dict.get("data_pass", (self.state.epoch, place))
        self._rng_to_restore = state_dict.get("rng")
        self.state.seed = state_dict.get("seed", self.state.seed)

    def _begin_anew(self) -> None:
        super()._begin_anew()
        self._passes, self._batches_to_skip, self._rng_to_restore = 0, 0, None

    def _finds_its_place(self, data: Iterable[Any] | None) -> bool:
        return True

    def _passes_over(self, data: Iterable[Any] | None) -> Iterable[Any]:
        return _SeededPass(self, itertools.repeat(None) if data is None else data)

    def _begin_pass(self, data: Iterable[Any]) -> Iterator[Any]:
        """Seed everything and iterate the data, from where a saved run was in it."""
        if self.state.seed is None:
            self.state.seed = int(torch.randint(0, 2**31, (1,)).item())
        if self._batches_to_skip and self._batches_to_skip == length_of(data):
            self._passes += 1
            self._batches_to_skip = 0
        manual_seed(self.state.seed + self._passes)
        tell_epoch(data, self._passes + 1)
        iterator = iter(data)
        skipped = sum(1 for _ in itertools.islice(iterator, self._batches_to_skip))
        if skipped < self._batches_to_skip:
            raise ValueError(
                f"DeterministicEngine: the saved run had taken {self._batches_to_skip} batches of this pass over the "
                f"data, but the data has only {skipped}; pass the data that the saved run had"
            )
        if skipped and self._rng_to_restore is not None:
            set_rng_state(self._rng_to_restore)
        self._passes += 1
        self._pass_began = self.state.iteration - skipped
        self._batches_to_skip, self._rng_to_restore = 0, None
        return iterator

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


class _SeededPass:
    """The data as the engine iterates it: each pass starts with a seed of its own."""

    def __init__(self, engine: DeterministicEngine, data: Iterable[Any]) -> None:
        self._engine = weakref.ref(engine)
        self._data = data

    def __iter__(self) -> Iterator[Any]:
        engine = self._engine()
        assert engine is not None
        return engine._begin_pass(self._data)
