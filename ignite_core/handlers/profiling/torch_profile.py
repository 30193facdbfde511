"""Profile some iterations with torch.profiler and write Chrome traces."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

from ignite_core.distributed import utils as idist
from ignite_core.engine.engine import Engine
from ignite_core.engine.events import Events
from ignite_core.engine.registration import RemovableEventHandle, RemovableHandle
from ignite_core.handlers._arguments import check_engine, integer

__all__ = ["TorchProfile"]

#: After all other handlers of an iteration, so that they belong to it.
_LAST = -(10**9)


class TorchProfile:
    """Runs :class:`torch.profiler.profile` over some iterations of each run, and writes a trace of each cycle.

    A cycle has ``wait`` iterations without profiling, ``warmup`` iterations whose results are discarded, and ``active``
    iterations that are written to ``folder/trace_rank{rank}_{number}.json``, for https://ui.perfetto.dev or
    chrome://tracing. Nothing is measured before and after the cycles. A run that ends inside a cycle writes what was
    measured. If a trace cannot be written, the run raises.

    Args:
        folder: Where the traces are written; created when needed.
        wait: Iterations before each cycle.
        warmup: Iterations of each cycle that are discarded; torch warns if there are none.
        active: Iterations of each cycle that are written, at least 1.
        repeat: The number of cycles; 0: to the end of the run.
        skip_first: Iterations before the first cycle.
        kwargs: Passed to :class:`torch.profiler.profile`, such as ``record_shapes``, ``profile_memory``, ``with_stack``
            and ``activities``.

    Attributes:
        paths: The traces that were written.

    Raises:
        TypeError: If a number is not an integer.
        ValueError: If a number is too small.

    Example:
        >>> import tempfile, torch
        >>> trainer = Engine(lambda engine, batch: torch.ones(2) + batch)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     profile = TorchProfile(folder, wait=1, warmup=1, active=2)
        ...     handle = profile.attach(trainer)
        ...     state = trainer.run(range(6))
        ...     print([path.name for path in profile.paths])
        ['trace_rank0_1.json']
    """

    not_in_calendar = True

    def __init__(
        self,
        folder: str | PathLike[str] = "profile",
        wait: int = 1,
        warmup: int = 1,
        active: int = 3,
        repeat: int = 1,
        skip_first: int = 0,
        **kwargs: Any,
    ) -> None:
        numbers = {"wait": wait, "warmup": warmup, "repeat": repeat, "skip_first": skip_first}
        self._schedule = {name: integer("TorchProfile", name, value, least=0) for name, value in numbers.items()}
        self._schedule["active"] = integer("TorchProfile", "active", active, least=1)
        self.folder = Path(folder)
        self.paths: list[Path] = []
        self._kwargs = kwargs
        self._profiler: Any = None
        self._handle: RemovableEventHandle | None = None
        self._failure: Exception | None = None  # of writing
        self._left: int | None = None  # iterations until all cycles are done; None: no limit

    def attach(self, engine: Engine) -> RemovableHandle:
        """Profile the runs of an engine.

        Returns:
            A handle that detaches it; inside a run, it ends the cycle in progress.

        Raises:
            TypeError: If ``engine`` is not an Engine.
        """
        check_engine("TorchProfile.attach", engine)
        return engine.add_run_context(self._profiling)

    @contextmanager
    def _profiling(self, engine: Engine) -> Iterator[None]:
        """Entered around each run."""
        from torch.profiler import profile, schedule  # slow to import

        parts = self._schedule
        cycle = parts["wait"] + parts["warmup"] + parts["active"]
        self._left = parts["skip_first"] + parts["repeat"] * cycle if parts["repeat"] else None
        self._profiler = profile(schedule=schedule(**parts), on_trace_ready=self._write, **self._kwargs)
        self._profiler.start()
        self._handle = engine.add_event_handler(Events.ITERATION_COMPLETED(priority=_LAST), self._step)
        try:
            yield
        except BaseException as error:
            try:
                self._end()
            except Exception as failure:
                error.add_note(f"TorchProfile: the trace could not be written: {type(failure).__name__}: {failure}")
            raise
        self._end()

    def _step(self) -> None:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*Profiler clears events")  # they are written
            profiler, self._profiler = self._profiler, None  # after a failure, stop() would crash
            profiler.step()
            self._profiler = profiler
        if self._failure is not None:
            self._raise()
        if self._left is not None:
            self._left -= 1
            if not self._left:
                self._end()

    def _end(self) -> None:
        """Stop for this run. Idempotent."""
        if self._handle is not None:
            self._handle.remove()
            self._handle = None
        profiler, self._profiler = self._profiler, None
        if profiler is not None:
            profiler.stop()
            if self._failure is not None:
                self._raise()

    def _write(self, profiler: Any) -> None:
        """Write a cycle. It must not raise: torch's profiler would crash at the end of the process."""
        path = self.folder / f"trace_rank{idist.get_rank()}_{len(self.paths) + 1}.json"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            profiler.export_chrome_trace(str(path))
            self.paths.append(path)
        except Exception as error:
            self._failure = error

    def _raise(self) -> None:
        failure, self._failure = self._failure, None
        assert failure is not None
        raise failure

    @contextmanager
    def rehearse(self, folder: Path) -> Iterator[None]:
        """Write to another folder inside the block; see :func:`~ignite_core.debug.dev_run`."""
        before = self.folder, self.paths
        self.folder, self.paths = folder, []
        try:
            yield
        finally:
            self.folder, self.paths = before
