"""Leave in good order when somebody sends a signal."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final, Literal

from ignite_core.distributed import utils as idist
from ignite_core.distributed.failures.api import agreed
from ignite_core.engine.engine import Engine
from ignite_core.engine.events import Events
from ignite_core.handlers._signals import Catcher, signal_number
from ignite_core.handlers.stopping.loader_workers import iterators_of_lost_workers, shielded
from ignite_core.handlers.voting.vote import vote_of

__all__ = ["StopOnSignal"]

#: What is caught where nothing else is said: of these, those that the system has.
_SIGNALS: Final = tuple(name for name in ("SIGTERM", "SIGUSR1", "SIGINT") if hasattr(signal, name))

#: As a shell reports a process that SIGTERM has ended.
_TERMINATED: Final = 143

#: How much later than a worker of a loader this process may get a signal that was sent to both, in seconds.
_MOMENT_S: Final = 1.0


class StopOnSignal:
    """Finishes the step when a signal comes, saves a checkpoint and leaves.

    While the trainer runs, the first signal is only noted; what goes on at that moment (waiting for data, a handler,
    a save) is finished, and the step too. Then, on several ranks after the same iteration on all of them, at most
    ``2k`` later (see :func:`~ignite_core.handlers.voting.vote.vote_of`), whichever of them got it: ``save`` is
    called, and SystemExit raised. So handlers of ``EXCEPTION_RAISED`` close what has to be closed, and no
    ``COMPLETED`` follows.

    The signal handlers that were there before are put back as soon as a signal has come to this process: a second one
    acts at once. Functions among them are called when the run is over (but not Python's own, which raises
    KeyboardInterrupt). Signals that come when no run is under way are none of this handler's business.

    Args:
        save: Called with the trainer: a :class:`~ignite_core.handlers.Checkpoint` that keeps the newest, or a function.
        signals: Names or numbers; by default SIGTERM, SIGUSR1 and SIGINT, as far as the system has them.
        exit_code: Of the process. ``"auto"``: 143, but 0 under torchrun, which takes anything else for a failure and
            ends the other ranks. None: do not leave, end the run by ``terminate()``.
        requeue: Let SLURM start the job again: rank 0 calls ``scontrol requeue`` after the save.

    Raises:
        TypeError: If ``save`` is not callable.
        ValueError: If a signal or the exit code is none.

    Example:
        >>> trainer = Engine(lambda engine, batch: batch == 3 and signal.raise_signal(signal.SIGTERM))
        >>> stop = StopOnSignal(save=lambda engine: print("saved after iteration", engine.state.iteration))
        >>> stop.attach(trainer)
        >>> try:
        ...     state = trainer.run(range(1, 10))
        ... except SystemExit as error:
        ...     print("left with", error.code)
        saved after iteration 3
        left with 143
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
        self._asks: list[Callable[..., None]] = []  # of the trainer, then of the evaluators
        self._catcher = Catcher([signal_number("StopOnSignal", asked) for asked in signals], self._asks)
        self._is_answered = False
        self._leaves_after_run = False

    def attach(self, trainer: Engine, *evaluators: Engine) -> None:
        """Catch signals while an engine runs; on all ranks.

        Args:
            trainer: The engine that is not run by another one.
            evaluators: Those that it runs in its handlers, on all ranks. A signal that comes meanwhile ends the
                evaluation with ``terminate(skip_completed=True)``: its metrics are not computed, those of the one
                before it stay. Others are finished first.

        Raises:
            TypeError: If one of them is no engine.
            ValueError: If the trainer is one of the evaluators.
            RuntimeError: If signals are caught for this trainer, or by this handler, already; if the job is to be
                requeued and there is none.
        """
        for engine in (trainer, *evaluators):
            if not isinstance(engine, Engine):
                raise TypeError(f"StopOnSignal.attach: takes engines, got {engine!r}")
        if trainer in evaluators:
            raise ValueError("StopOnSignal.attach: the trainer must not be among the evaluators")
        others = [
            around for around in trainer.run_contexts() if isinstance(getattr(around, "__self__", None), StopOnSignal)
        ]
        if self._asks or others:
            raise RuntimeError("StopOnSignal.attach: one handler serves one trainer, and one trainer needs but one")
        if self._requeue and "SLURM_JOB_ID" not in os.environ:
            raise RuntimeError("StopOnSignal: requeue=True is for jobs of SLURM, but SLURM_JOB_ID is not set")
        trainer.add_run_context(self._catching)
        trainer.add_event_handler(Events.STARTED, self._refuse_evaluators)
        trainer.add_event_handler(Events.EXCEPTION_RAISED, self._stop_for_lost_worker)
        self._let_ask(trainer, vote_of(trainer).add("StopOnSignal", self._stop))
        for evaluator in evaluators:
            self._let_ask(evaluator, vote_of(evaluator, uneven=True).add("StopOnSignal", self._stop_evaluation))

    def _let_ask(self, engine: Engine, ask: Callable[..., None]) -> None:
        self._asks.append(ask)
        engine.add_event_handler(Events.STARTED, self._ask_if_signalled, ask)

    @contextmanager
    def _catching(self, trainer: Engine) -> Iterator[None]:
        """What each run of the trainer happens inside of."""
        self._is_answered = self._leaves_after_run = False
        catcher = self._catcher
        catcher.put_on("StopOnSignal")
        try:
            with shielded(catcher.numbers, lambda: catcher.wait(_MOMENT_S)):
                yield
        finally:
            catcher.put_back()
            came, catcher.came = catcher.came, None
            if came is not None and self._is_answered:
                catcher.call_previous(came)
        if self._leaves_after_run:
            self._leave()
        elif came is not None and not self._is_answered:
            signal.raise_signal(came)  # it came too late to be answered: as if after the run

    def _refuse_evaluators(self, trainer: Engine) -> None:
        if trainer.parent is not None and trainer.state.max_epochs == 1:
            raise RuntimeError(
                "StopOnSignal: it is attached to an engine that another one runs, as an evaluator is; attach it to "
                "that one: attach(trainer, evaluator)"
            )

    def _ask_if_signalled(self, engine: Engine, ask: Callable[..., None]) -> None:
        """The signal came before the run, which forgets what it was asked for when it starts."""
        if self._catcher.came is not None:
            ask(self._catcher.came)

    def _stop_evaluation(self, evaluator: Engine, number: int) -> None:
        self._say("%s: the evaluation ends", signal.Signals(number).name)
        evaluator.terminate(skip_completed=True)

    def _stop(self, trainer: Engine, number: int) -> None:
        """What all ranks do after the same iteration."""
        event = trainer.last_event_name
        if self._is_answered or event == Events.EXCEPTION_RAISED:  # that leaves already, and the error says why
            return
        self._answer(trainer, number)
        if self._exit_code is None:
            trainer.terminate()
        elif event == Events.COMPLETED:  # whose handlers are not to be followed by those of EXCEPTION_RAISED
            self._leaves_after_run = True
        else:
            self._leave()

    def _stop_for_lost_worker(self, trainer: Engine, error: BaseException) -> bool:
        """The signal has ended a worker of the loader, one that was started before the run: stop here.

        Other ranks may be elsewhere; so on several ranks that stays an error.
        """
        is_between_steps = trainer._position.done == trainer.state.iteration
        iterators = iterators_of_lost_workers(error)
        if not is_between_steps or idist.get_world_size() > 1 or not iterators:
            return False
        came = self._catcher.wait(_MOMENT_S)
        if came is None or self._is_answered:
            return False
        for iterator in iterators:
            iterator._shutdown_workers()
        self._answer(trainer, came)
        if self._exit_code is not None:
            self._leave()
        return True

    def _answer(self, trainer: Engine, number: int) -> None:
        # This rank may not have got the signal yet: until it has, or the run is over, it is still caught.
        self._is_answered = True
        self._save_what_is_good(trainer, signal.Signals(number).name)
        if self._requeue and idist.get_rank() == 0:
            self._requeue_job()

    def _save_what_is_good(self, trainer: Engine, name: str) -> None:
        iteration = trainer.state.iteration
        if self._save is None:
            self._say("%s: the run ends after iteration %d", name, iteration)
            return
        vote = vote_of(trainer)
        vote.settle()
        if vote.bad is not None:
            self._say("%s: the run ends after iteration %d; nothing is saved, as %s", name, iteration, vote.bad)
            return
        self._say(
            "%s: the run ends after iteration %d; saving. If the process is killed before that is done, the checkpoint "
            "before it stands, and a second signal ends the process at once",
            name,
            iteration,
        )
        self._save(trainer)
        self._say("%s: saved", name)

    def _leave(self) -> None:
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
            self._say("SLURM will start the job %s again", job)
        else:
            self.logger.error("StopOnSignal: %s failed, so the job will not start again: %s", " ".join(command), error)

    def _say(self, message: str, *values: Any) -> None:
        if idist.get_rank() == 0:
            self.logger.warning(f"StopOnSignal: {message}", *values)
