"""Bugs in handlers that stop a run, and in what ranks decide together."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest

from tests.faults.planted.table import altered, nothing, planted, replace, wrap


@planted(
    "a NaN stops the rank alone",
    caught_by="tests/handlers/test_terminate_on_nan.py::test_all_ranks_stop_together_at_a_nan_of_one_of_them_and_keep_what_was_saved_before",
)
def nan_stops_alone(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.handlers.stopping.terminate_on_nan import _Monitor

    def report(original: Any, self: Any, iteration: int, place: Any) -> None:
        self._request = nothing
        original(self, iteration, place)
        self.engine().terminate()

    wrap(patch, _Monitor, "_report", report)


@planted(
    "a save skips the check",
    caught_by="tests/handlers/test_terminate_on_nan.py::test_nothing_is_saved_from_the_first_bad_iteration_on",
)
def save_skips_the_check(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.handlers.stopping.terminate_on_nan import _Monitor

    def check(original: Any, self: Any) -> None:
        seen, self._sees_each_iteration = self._sees_each_iteration, False
        original(self)
        self._sees_each_iteration = seen

    wrap(patch, _Monitor, "_check_before_round", check)


@planted(
    "each iteration waits",
    caught_by="tests/handlers/test_terminate_on_nan.py::test_nothing_waits_for_a_device_between_two_rounds_and_the_true_first_iteration_is_reported",
)
def each_iteration_waits(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.handlers.stopping._nonfinite import DeviceFlags

    def update(original: Any, self: Any, iteration: int, place: Any, tensor: Any) -> None:
        original(self, iteration, place, tensor)
        tensor.item()

    wrap(patch, DeviceFlags, "update", update)


@planted(
    "the last bad iteration",
    caught_by="tests/handlers/test_terminate_on_nan.py::test_nothing_waits_for_a_device_between_two_rounds_and_the_true_first_iteration_is_reported",
)
def last_bad_iteration(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.handlers.stopping._nonfinite import DeviceFlags

    def update(original: Any, self: Any, iteration: int, place: Any, tensor: Any) -> None:
        self._first.pop(tensor.device, None)
        original(self, iteration, place, tensor)

    wrap(patch, DeviceFlags, "update", update)


@planted(
    "infinity is finite",
    caught_by="tests/handlers/test_terminate_on_nan.py::test_a_nan_or_infinity_anywhere_ends_the_run_and_the_message_names_it",
)
def infinity_is_finite(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.handlers.stopping import _nonfinite

    patch.setattr(_nonfinite, "math", altered(math, isfinite=lambda number: not math.isnan(number)))


@planted(
    "own score decides",
    caught_by="tests/handlers/test_early_stopping.py::test_ranks_with_scores_of_their_own_decide_alike",
)
def own_score_decides(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.handlers.stopping import early_stopping

    patch.setattr(early_stopping, "idist", altered(early_stopping.idist, broadcast=lambda value: value))


@planted("NaN improves", caught_by="tests/handlers/test_early_stopping.py::test_what_is_mended")
def nan_improves(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.handlers.stopping import early_stopping

    patch.setattr(early_stopping, "math", altered(early_stopping.math, isfinite=lambda number: True))


@planted("resume forgets", caught_by="tests/handlers/test_early_stopping.py::test_a_training_that_is_resumed_counts_on")
def resume_forgets(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.handlers.stopping.early_stopping import EarlyStopping

    def reset_for_run(original: Any, self: Any, engine: Any) -> None:
        original(self, engine)
        self.reset()

    wrap(patch, EarlyStopping, "_reset_for_run", reset_for_run)


@planted(
    "only the rank's own requests are seen",
    caught_by="tests/handlers/test_vote.py::test_all_ranks_act_after_the_same_iteration_at_most_2k_later",
)
def own_requests_only(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.handlers.voting.vote import Vote

    def decide(original: Any, self: Any, requested: Any, actions: Any) -> None:
        original(self, list(self._flags.numbers), actions)

    wrap(patch, Vote, "_decide", decide)


@planted(
    "done again and again",
    caught_by="tests/handlers/test_vote.py::test_a_process_that_is_alone_acts_at_the_end_of_the_same_iteration_with_the_largest_number",
)
def done_again(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.handlers.voting.vote import Vote

    def decide(original: Any, self: Any, requested: Any, actions: Any) -> None:
        before, requested = list(self._flags.numbers), list(requested)
        original(self, requested, actions)
        for place, number in enumerate(requested):
            if before[place] == number:
                self._flags.numbers[place] = number

    wrap(patch, Vote, "_decide", decide)


@planted(
    "an epoch is not settled",
    caught_by="tests/handlers/test_vote.py::test_a_rank_may_ask_at_every_event_and_all_do_the_same",
)
def epoch_is_not_settled(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.handlers.voting.vote import Vote

    replace(patch, Vote, "_end_epoch", lambda self, engine: None)


@planted(
    "drift unseen",
    caught_by="tests/handlers/test_vote.py::test_ranks_that_come_apart_are_all_told_where_each_of_them_is",
)
def drift_unseen(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.handlers.voting.desync import DesyncCheck

    def fault(original: Any, self: Any, uneven: bool) -> Any:
        found = original(self, uneven)
        return None if found == "iteration" else found

    wrap(patch, DesyncCheck, "fault", fault)


@planted(
    "uneven refused",
    caught_by="tests/handlers/test_vote.py::test_ranks_with_different_numbers_of_batches_end_together_stopped_or_not",
)
def uneven_refused(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.handlers.voting.desync import DesyncCheck

    def fault(original: Any, self: Any, uneven: bool) -> Any:
        return original(self, uneven) or (None if self.least is self.most else "activity")

    wrap(patch, DesyncCheck, "fault", fault)


@planted("second signal caught", caught_by="tests/handlers/test_stop_on_signal.py::test_a_second_signal_acts_at_once")
def second_signal_caught(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.handlers._signals import SignalCatcher

    def catch(original: Any, self: Any, number: int, frame: Any) -> None:
        self._restore = nothing
        try:
            original(self, number, frame)
        finally:
            del self._restore

    wrap(patch, SignalCatcher, "_catch", catch)


@planted(
    "child catches",
    caught_by="tests/handlers/test_stop_on_signal.py::test_a_process_that_is_forked_in_a_run_can_be_terminated",
)
def child_catches(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.handlers._signals import SignalCatcher

    def catch(original: Any, self: Any, number: int, frame: Any) -> None:
        self._pid = os.getpid()
        original(self, number, frame)

    wrap(patch, SignalCatcher, "_catch", catch)


@planted(
    "let go too early",
    caught_by="tests/handlers/test_stop_on_signal_ranks.py::test_whoever_gets_a_signal_wherever_it_is_all_ranks_stop_after_one_step_with_one_checkpoint",
)
def let_go_too_early(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.handlers.stopping.stop_on_signal import StopOnSignal

    def handle(original: Any, self: Any, trainer: Any, number: int) -> None:
        self._catcher._restore(self._catcher.numbers)
        original(self, trainer, number)

    wrap(patch, StopOnSignal, "_handle", handle)


@planted(
    "workers die of the signal",
    caught_by="tests/handlers/test_loader_workers.py::test_workers_outlive_a_signal_to_the_group_which_the_run_answers",
)
def workers_die_of_the_signal(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.handlers.stopping import stop_on_signal

    patch.setattr(stop_on_signal, "shielded", lambda numbers, excuse: nullcontext())


@planted(
    "workers cannot be terminated",
    caught_by="tests/handlers/test_loader_workers.py::test_after_the_run_workers_can_be_terminated",
)
def workers_cannot_be_terminated(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.handlers.stopping import loader_workers

    @contextmanager
    def shielded(original: Any, numbers: Any, excuse: Any) -> Iterator[None]:
        with original(numbers, excuse):
            yield
        loader_workers._depth_of_process().value += 1

    wrap(patch, loader_workers, "shielded", shielded)


@planted("bad is saved", caught_by="tests/handlers/test_stop_on_signal.py::test_a_run_that_has_met_a_nan_is_not_saved")
def bad_is_saved(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.handlers.stopping import stop_on_signal

    def save_if_safe(original: Any, self: Any, trainer: Any, name: str) -> None:
        stop_on_signal.vote_of(trainer).settle()
        self._save(trainer)

    wrap(patch, stop_on_signal.StopOnSignal, "_save_if_safe", save_if_safe)


@planted(
    "cleans up twice",
    caught_by="tests/handlers/test_stop_on_signal.py::test_a_signal_at_the_very_end_is_answered_when_all_handlers_of_completed_have_run_once",
)
def clean_up_twice(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.engine.events import Events
    from ignite_core.handlers.stopping.stop_on_signal import StopOnSignal

    def stop(original: Any, self: Any, trainer: Any, number: int) -> None:
        if trainer.last_event_name == Events.COMPLETED and self._exit_code is not None and not self._is_handled:
            self._handle(trainer, number)
            self._exit()
        original(self, trainer, number)

    wrap(patch, StopOnSignal, "_stop", stop)


@planted(
    "torchrun sees a failure",
    caught_by="tests/handlers/test_stop_on_signal.py::test_the_exit_code_is_143_but_0_under_torchrun_or_what_was_chosen",
)
def torchrun_hears_of_failure(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.handlers.stopping import stop_on_signal

    def leave(original: Any, self: Any) -> None:
        if self._exit_code == "auto":
            self._exit_code = stop_on_signal._TERMINATED
        original(self)

    wrap(patch, stop_on_signal.StopOnSignal, "_exit", leave)


@planted(
    "previous handlers are not restored",
    caught_by="tests/handlers/test_stop_on_signal.py::test_signals_are_left_alone_while_a_run_is_paused_and_caught_when_it_goes_on",
)
def signals_are_not_restored(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.handlers._signals import SignalCatcher

    replace(patch, SignalCatcher, "uninstall", nothing)


@planted(
    "time counts from the first check",
    caught_by="tests/handlers/test_time_limit.py::test_time_counts_from_the_start_of_each_run_also_where_it_is_looked_at_late",
)
def time_from_first_check(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.handlers.stopping.time_limit import TimeLimit

    def begin_run(original: Any, self: Any, engine: Any) -> None:
        original(self, engine)
        self._ends += time.perf_counter() - engine.run_started_at

    wrap(patch, TimeLimit, "_begin_run", begin_run)


@planted(
    "a signal before the run is forgotten",
    caught_by="tests/handlers/test_stop_on_signal.py::test_a_signal_that_comes_before_anything_of_the_run_has_begun_is_answered_after_the_first_step",
)
def forget_an_early_signal(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.handlers.stopping.stop_on_signal import StopOnSignal

    replace(patch, StopOnSignal, "_request_if_signalled", lambda self, engine, request: None)


@planted(
    "the direction of a metric is guessed",
    caught_by="tests/handlers/test_direction.py::test_training_ends_when_the_metric_gets_worse",
)
def direction_is_guessed(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.handlers import _direction

    def higher_is_better(original: Any, engine: Any, name: str) -> bool:
        metric = _direction.find_metric(engine, name)
        return metric is None or metric.higher_is_better is not None

    wrap(patch, _direction, "higher_is_better", higher_is_better)
