"""Save and exit when a signal comes."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Any, Final, Literal

from ignite_core.distributed import utils as idist
from ignite_core.distributed.failures.api import agreed
from ignite_core.engine.engine import Engine
from ignite_core.engine.events import Events
from ignite_core.engine.registration import RemovableHandle
from ignite_core.handlers._arguments import check_engine
from ignite_core.handlers._signals import SignalCatcher
from ignite_core.handlers.stopping.loader_workers import iterators_of_lost_workers, shielded
from ignite_core.handlers.voting.vote import Request, Vote, vote_of

__all__ = ["StopOnSignal"]

#: The signals that are caught by default.
_SIGNALS: Final = tuple(name for name in ("SIGTERM", "SIGUSR1", "SIGINT") if hasattr(signal, name))

#: The exit code that a shell reports for a process ended by SIGTERM.
_TERMINATED: Final = 143

#: How much later than a loader worker this process may get a signal that was sent to both, in seconds.
_DELAY_S: Final = 1.0


class StopOnSignal:
    """Finishes the current step when a signal comes, saves a checkpoint and exits.

    While the trainer runs, the first signal only sets a flag; the operation in progress (waiting for data, a handler, a
    save) and the step are finished. Then, on several ranks after the same iteration on all of them and at most ``2k``
    iterations later (see :func:`~ignite_core.handlers.voting.vote.vote_of`), regardless of which rank got the signal,
    ``save`` is called and SystemExit is raised. Handlers of ``EXCEPTION_RAISED`` can therefore close files, and
    ``COMPLETED`` is not fired.

    The previous signal handlers are restored when a signal has come to this process, so that a second one takes effect
    immediately. If they are functions, they are called after the run (except Python's own, which raises
    KeyboardInterrupt). Signals that come between runs are not handled.

    Args:
        save: Called with the trainer: a :class:`~ignite_core.handlers.Checkpoint` that keeps the newest, or a function.
        signals: Names or numbers; by default SIGTERM, SIGUSR1 and SIGINT, as far as the system has them.
        exit_code: The exit code of the process. ``"auto"``: 143, but 0 under torchrun, which treats any other code as a
            failure and ends the other ranks. None: do not exit, but end the run with ``terminate()``.
        requeue: Requeue the SLURM job: rank 0 calls ``scontrol requeue`` after the save.

    Raises:
        TypeError: If ``save`` is not callable.
        ValueError: If a signal or the exit code is invalid.

    Example:
        >>> trainer = Engine(lambda engine, batch: batch == 3 and signal.raise_signal(signal.SIGTERM))
        >>> stop = StopOnSignal(save=lambda engine: print("saved after iteration", engine.state.iteration))
        >>> handle = stop.attach(trainer)
        >>> try:
        ...     state = trainer.run(range(1, 10))
        ... except SystemExit as error:
        ...     print("exit code", error.code)
        saved after iteration 3
        exit code 143
    """

    def __init__(
        self,
        save: Callable[[Engine], object] | None = None,
        signals: Iterable[str | int] = _SIGNALS,
        exit_code: int | Literal["auto"] | None = "auto",
        requeue: bool = False,
    ) -> None:
        if save is not None and not callable(save):
            raise TypeError(f"StopOnSignal: save must be callable with the trainer, got {save!r}")
        is_code = isinstance(exit_code, int) and not isinstance(exit_code, bool) and 0 <= exit_code <= 255
        if not (is_code or exit_code in ("auto", None)):
            raise ValueError(f"StopOnSignal: exit_code must be in [0, 255], 'auto' or None, got {exit_code!r}")
        self.logger = logging.getLogger(f"{__name__}.{type(self).__name__}")
        self._save = save
        self._exit_code = exit_code
        self._requeue = requeue
        self._requests: list[Request] = []  # of the trainer and the evaluators
        self._catcher = SignalCatcher("StopOnSignal", signals, partial(_request_all, self._requests))
        self._is_handled = False  # by all ranks; this one may not have got the signal yet
        self._exits_after_run = False

    def attach(self, trainer: Engine, *evaluators: Engine) -> RemovableHandle:
        """Catch signals while an engine runs; on all ranks.

        Args:
            trainer: The engine that is not run by another one.
            evaluators: The engines that it runs in its handlers, on all ranks. A signal that comes during an evaluation
                ends it with ``terminate(skip_completed=True)``: its metrics are not computed, and those of the previous
                evaluation are kept. Evaluations by other engines are finished first.

        Returns:
            A handle that detaches it.

        Raises:
            TypeError: If one of the arguments is not an Engine.
            ValueError: If the trainer is one of the evaluators.
            RuntimeError: If this is already attached, or the trainer has another StopOnSignal; if the job is to be
                requeued outside of SLURM.
        """
        for engine in (trainer, *evaluators):
            check_engine("StopOnSignal.attach", engine)
        if trainer in evaluators:
            raise ValueError("StopOnSignal.attach: the trainer must not be among the evaluators")
        has_another = any(isinstance(getattr(one, "__self__", None), StopOnSignal) for one in trainer.run_contexts())
        if self._requests or has_another:
            raise RuntimeError(
                "StopOnSignal.attach: a handler serves one trainer, and a trainer needs only one handler"
            )
        if self._requeue and "SLURM_JOB_ID" not in os.environ:
            raise RuntimeError("StopOnSignal: requeue=True is for SLURM jobs, but SLURM_JOB_ID is not set")
        handles = [
            trainer.add_run_context(self._catching),
            trainer.add_event_handler(Events.STARTED, self._refuse_evaluators),
            trainer.add_event_handler(Events.EXCEPTION_RAISED, self._stop_for_lost_worker),
            *self._add_request(trainer, vote_of(trainer), self._stop),
        ]
        for evaluator in evaluators:
            handles += self._add_request(evaluator, vote_of(evaluator, uneven=True), self._stop_evaluation)
        return RemovableHandle(self._requests.clear, *(handle.remove for handle in handles))

    def _add_request(self, engine: Engine, vote: Vote, stop: Callable[[Engine, int], None]) -> list[Any]:
        request = vote.add("StopOnSignal", stop)
        self._requests.append(request)
        return [request, engine.add_event_handler(Events.STARTED, self._request_if_signalled, request)]

    @contextmanager
    def _catching(self, trainer: Engine) -> Iterator[None]:
        """Entered around each run of the trainer."""
        self._is_handled = self._exits_after_run = False
        catcher = self._catcher
        catcher.install()
        try:
            with shielded(catcher.numbers, lambda: catcher.wait(_DELAY_S)):
                yield
        finally:
            catcher.uninstall()
            came, catcher.came = catcher.came, None
            if came is not None and self._is_handled:
                catcher.call_previous(came)
        if self._exits_after_run:
            self._exit()
        elif came is not None and not self._is_handled:
            signal.raise_signal(came)  # it came too late to be handled: treat it as if it came after the run

    def _refuse_evaluators(self, trainer: Engine) -> None:
        if trainer.parent is not None and trainer.state.max_epochs == 1:
            raise RuntimeError(
                "StopOnSignal: it is attached to an engine that another one runs, such as an evaluator; attach it to "
                "the other one: attach(trainer, evaluator)"
            )

    def _request_if_signalled(self, engine: Engine, request: Request) -> None:
        """For a signal that came before the run: its start resets the requests."""
        if self._catcher.came is not None:
            request(self._catcher.came)

    def _stop_evaluation(self, evaluator: Engine, number: int) -> None:
        self._log("%s: the evaluation ends", signal.Signals(number).name)
        evaluator.terminate(skip_completed=True)

    def _stop(self, trainer: Engine, number: int) -> None:
        """Runs on all ranks after the same iteration."""
        event = trainer.last_event_name
        if self._is_handled or event == Events.EXCEPTION_RAISED:  # the run is ending already, with an error
            return
        self._handle(trainer, number)
        if self._exit_code is None:
            trainer.terminate()
        elif event == Events.COMPLETED:  # its handlers must not be followed by those of EXCEPTION_RAISED
            self._exits_after_run = True
        else:
            self._exit()

    def _stop_for_lost_worker(self, trainer: Engine, error: BaseException) -> bool:
        """The signal has ended a loader worker that was started before the run: stop here.

        On several ranks it stays an error, because the other ranks may be at another iteration.
        """
        is_between_steps = trainer.iterations_done == trainer.state.iteration
        iterators = iterators_of_lost_workers(error)
        if not is_between_steps or idist.get_world_size() > 1 or not iterators:
            return False
        came = self._catcher.wait(_DELAY_S)
        if came is None or self._is_handled:
            return False
        for iterator in iterators:
            iterator._shutdown_workers()
        self._handle(trainer, came)
        if self._exit_code is not None:
            self._exit()
        return True

    def _handle(self, trainer: Engine, number: int) -> None:
        # If this rank has not got the signal yet, it is still caught until it comes or the run is over.
        self._is_handled = True
        self._save_if_safe(trainer, signal.Signals(number).name)
        if self._requeue and idist.get_rank() == 0:
            self._requeue_job()

    def _save_if_safe(self, trainer: Engine, name: str) -> None:
        iteration = trainer.state.iteration
        if self._save is None:
            self._log("%s: the run ends after iteration %d", name, iteration)
            return
        vote = vote_of(trainer)
        vote.settle()
        if vote.unsafe_to_save is not None:
            self._log("%s: the run ends after iteration %d; nothing is saved: %s", name, iteration, vote.unsafe_to_save)
            return
        self._log(
            "%s: the run ends after iteration %d; saving. If the process is killed before the save is complete, the "
            "previous checkpoint is kept; a second signal takes effect immediately",
            name,
            iteration,
        )
        self._save(trainer)
        self._log("%s: saved", name)

    def _exit(self) -> None:
        code = self._exit_code
        if code == "auto":
            code = 0 if "TORCHELASTIC_RUN_ID" in os.environ else _TERMINATED
        raise agreed(SystemExit(code))

    def _requeue_job(self) -> None:
        known = os.environ
        job = known["SLURM_JOB_ID"]
        if "SLURM_ARRAY_JOB_ID" in known and "SLURM_ARRAY_TASK_ID" in known:
            job = f"{known['SLURM_ARRAY_JOB_ID']}_{known['SLURM_ARRAY_TASK_ID']}"
        command = ["scontrol", "requeue", job]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
            error = done.stderr.strip() if done.returncode else None
        except (OSError, subprocess.TimeoutExpired) as failure:
            error = str(failure)
        if error is None:
            self._log("SLURM requeues the job %s", job)
        else:
            self.logger.error("StopOnSignal: %s failed, the job is not requeued: %s", " ".join(command), error)

    def _log(self, message: str, *values: Any) -> None:
        if idist.get_rank() == 0:
            self.logger.warning(f"StopOnSignal: {message}", *values)


def _request_all(requests: list[Request], number: int, frame: FrameType | None) -> None:
    for request in requests:
        request(number)
