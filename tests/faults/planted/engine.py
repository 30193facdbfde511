"""Bugs in runs that are resumed: places in the data, random states, counts, gradients and metrics."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest

from tests.faults.planted.table import nothing, planted, replace, wrap


@planted(
    "saves are counted in what is saved",
    caught_by="tests/handlers/checkpoint/test_resume.py::test_a_run_that_is_cut_and_resumed_ends_where_the_one_that_was_not_cut_does",
)
def count_own_saves(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.engine import dispatch

    replace(patch, dispatch, "_registers_itself", lambda event: False)


@planted(
    "a sampler starts again from the first batch",
    caught_by="tests/engine/test_resume_every_cut.py::test_no_sample_is_missing_and_none_comes_twice_and_all_in_order",
)
def sampler_begins_again(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.engine.data.seeded_loader import _SeededSampler

    def iterate(original: Any, self: Any) -> Any:
        self.done = 0
        return original(self)

    wrap(patch, _SeededSampler, "__iter__", iterate)


@planted(
    "one batch twice",
    caught_by="tests/engine/test_resume_every_cut.py::test_no_sample_is_missing_and_none_comes_twice_and_all_in_order",
)
def one_batch_twice(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.engine.data.position import Position

    def progress_in_data(original: Any, self: Any, *args: Any, **kwargs: Any) -> tuple[int, int]:
        passes, done = original(self, *args, **kwargs)
        return passes, done - (done > 0 and not self._to_skip)

    wrap(patch, Position, "progress_in_data", progress_in_data)


@planted(
    "a half-done iteration counts as done",
    caught_by="tests/engine/test_seeded_runs.py::test_saved_at_any_event_the_run_goes_on_exactly",
)
def iteration_in_progress_is_done(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.engine.data.position import Position

    replace(patch, Position, "_iterations_done", lambda self, state: state.iteration)


@planted(
    "random states are not saved", caught_by="tests/engine/test_resume_every_cut.py::test_cuts_without_accumulation"
)
def random_states_are_not_saved(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.engine.data.reproducibility import ResumeState

    def state_dict(original: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
        saved = original(self, *args, **kwargs)
        for part in saved.get("by_rank", ()):
            part.pop("rng", None)
        return saved

    wrap(patch, ResumeState, "state_dict", state_dict)


@planted(
    "random states are not restored", caught_by="tests/engine/test_resume_every_cut.py::test_cuts_without_accumulation"
)
def random_states_are_not_restored(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.engine.data.reproducibility import ResumeState

    def go_on(original: Any, self: Any) -> None:
        self._held = None
        original(self)

    wrap(patch, ResumeState, "go_on", go_on)


@planted(
    "random states are set unchecked", caught_by="tests/test_rng.py::test_a_damaged_state_is_refused_and_nothing_is_set"
)
def random_states_are_unchecked(patch: pytest.MonkeyPatch) -> None:
    from ignite_core import rng

    patch.setattr(rng, "check_rng_state", nothing)


@planted(
    "a dataset does not get the epoch",
    caught_by="tests/engine/test_epochs_of_data.py::test_a_dataset_is_told_wherever_it_is_iterated",
)
def dataset_misses_the_epoch(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.engine.data import epochs

    patch.setattr(epochs, "_WRAPPED", tuple(name for name in epochs._WRAPPED if name != "dataset"))


@planted(
    "drawn seeds differ by rank",
    caught_by="tests/engine/test_elastic.py::test_a_drawn_seed_is_that_of_rank_0_and_others_stay_with_their_rank",
)
def seeds_differ_by_rank(patch: pytest.MonkeyPatch) -> None:
    import torch

    from ignite_core.engine.data import reproducibility

    wrap(patch, reproducibility, "drawn_seed", lambda original: int(torch.randint(0, 2**31, (1,)).item()))


@planted(
    "every rank goes on with the seed of rank 0",
    caught_by="tests/engine/test_elastic.py::test_a_drawn_seed_is_that_of_rank_0_and_others_stay_with_their_rank",
)
def seed_of_rank_0(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.engine.data.reproducibility import ResumeState

    def load(original: Any, self: Any, state: Any, info: Any) -> None:
        original(self, state, info)
        if info is not None and info.seed is not None:
            state.seed = info.seed

    wrap(patch, ResumeState, "load", load)


@planted(
    "items are not seeded",
    caught_by="tests/engine/test_resume_loaders.py::test_two_workers_give_what_none_gives_and_epochs_differ",
)
def items_are_not_seeded(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.engine.data.seeded_loader import _SeededDataset

    def items(original: Any, self: Any, key: Any) -> Any:
        return original(self, key) if self.fetches_batches else [self.original[index] for index in key[1]]

    wrap(patch, _SeededDataset, "__getitems__", items)


@planted(
    "each rank seeds for itself",
    caught_by="tests/engine/test_elastic.py::test_four_then_two_then_three_then_four_ranks_see_what_one_sees",
)
def each_rank_seeds_for_itself(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.engine.data.seeded_loader import _SeededDataset

    def items(original: Any, self: Any, key: Any) -> Any:
        if not self.fetches_batches:
            self.world_size, self.rank = 1, 0
        return original(self, key)

    wrap(patch, _SeededDataset, "__getitems__", items)


@planted(
    "every pass is the first",
    caught_by="tests/engine/test_resume_loaders.py::test_two_workers_give_what_none_gives_and_epochs_differ",
)
def every_pass_is_the_first(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.engine.data import passes

    def mix(original: Any, seed: int, kind: str, *numbers: int) -> Any:
        return original(seed, kind) if kind == "pass" else original(seed, kind, *numbers)

    wrap(patch, passes, "mix", mix)


@planted(
    "the sampler draws from the step", caught_by="tests/engine/test_resume_loaders.py::test_a_cut_changes_no_batch"
)
def sampler_draws_from_the_step(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.engine.data import seeded_loader

    def stream(original: Any, seed: int, *own: Any) -> Any:
        return original(seed, *own) if own else nullcontext()

    wrap(patch, seeded_loader, "Stream", stream)


@planted(
    "the user's generator is used up",
    caught_by="tests/engine/test_resume_loaders.py::test_the_generator_of_the_user_is_left_as_it_was",
)
def generator_is_used_up(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.engine.data import seeded_loader

    def stream(original: Any, seed: int, *own: Any) -> Any:
        return nullcontext() if own else original(seed)

    wrap(patch, seeded_loader, "Stream", stream)


@planted(
    "gradients of a window are lost",
    caught_by="tests/engine/test_resume_every_cut.py::test_cuts_with_mixed_precision_and_a_scaler",
)
def gradients_are_lost(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.engine.supervised.step import TrainingStep

    replace(patch, TrainingStep, "load_step_state", nothing)


@planted(
    "the state of the data is lost",
    caught_by="tests/engine/test_resume_streams.py::test_data_with_a_state_of_its_own_is_exact",
)
def state_of_data_is_lost(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.engine.data import passes

    replace(patch, passes.StatefulPasses, "load_state_dict", nothing)


@planted(
    "any global batch",
    caught_by="tests/engine/test_elastic.py::test_another_global_batch_is_refused_inside_an_epoch_alone",
)
def any_global_batch(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.engine.data import reproducibility

    def check_same_batches(original: Any, loaded: Any, batch: Any, *args: Any) -> None:
        original(loaded, loaded.global_batch if batch is not None else None, *args)

    wrap(patch, reproducibility, "_check_same_batches", check_same_batches)


@planted(
    "a resumed run misses the end of the data",
    caught_by="tests/engine/test_resume_every_cut.py::test_cuts_with_other_loaders_and_accumulation",
)
def miss_the_end_of_the_data(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.engine.data.position import Position

    def leave_pass(original: Any, self: Any) -> bool:
        return original(self) and self.started is None

    wrap(patch, Position, "leave_pass", leave_pass)


@planted(
    "a finished run trains again",
    caught_by="tests/engine/test_finished_runs.py::test_nothing_is_run_and_the_log_says_so",
)
def finished_run_trains_again(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.engine import run_arguments

    def resolve(original: Any, *args: Any, **kwargs: Any) -> Any:
        resolved = original(*args, **kwargs)
        return original(*args, **{**kwargs, "loaded": None}) if resolved.is_over else resolved

    wrap(patch, run_arguments, "resolve", resolve)


@planted(
    "an epoch that was cut goes on",
    caught_by="tests/engine/test_state_dict.py::test_what_is_left_of_an_epoch_that_was_cut_is_its_end",
)
def cut_epoch_goes_on(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.engine import loop

    def cut_loaded_epoch(original: Any, run: Any) -> None:
        run.position.left = None
        original(run)

    wrap(patch, loop, "_cut_loaded_epoch", cut_loaded_epoch)


@planted(
    "a counter that jumps is heard at multiples only",
    caught_by="tests/engine/test_filters.py::test_a_counter_that_jumps_is_heard_at_each_crossing",
)
def multiples_only(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.engine.events import When

    wrap(patch, When, "is_due", lambda original, self, count, before=None: original(self, count))


@planted(
    "a lone handler waits for the others",
    caught_by="tests/distributed/test_lone_handlers.py::test_lone_handler",
)
def lone_handler_waits(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.engine import lone_handlers

    patch.setattr(lone_handlers, "run_alone", nullcontext)


@planted(
    "engine does not raise another rank's failure",
    caught_by="tests/distributed/test_failures.py::test_failure_in_nested_runs",
)
def failure_does_not_stop_the_engine(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.engine.run import Run

    def on_rank_failed(original: Any, self: Any, failure: Any) -> None:
        self.rank_failed = failure

    wrap(patch, Run, "on_rank_failed", on_rank_failed)


@planted(
    "a metric forgets what was loaded",
    caught_by="tests/engine/test_resume_every_cut.py::test_cuts_without_accumulation",
)
def metric_forgets(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.metrics.core.metric import Metric

    replace(patch, Metric, "started", lambda self, engine: self.reset())


@planted(
    "a batch is taken for the one before it in the same memory",
    caught_by="tests/metrics/test_shared.py::test_a_round_ends_with_an_exception",
)
def memo_outlives_its_scope(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.metrics.core.memo import memo_scope

    replace(patch, memo_scope, "__exit__", nothing)


@planted(
    "metric errors are reported twice",
    caught_by="tests/distributed/test_failures.py::test_common_errors_are_not_reported",
)
def metric_errors_are_reported_twice(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.metrics.core import sync

    patch.setattr(sync, "agreed", lambda error: error)


@planted(
    "gradients of one rank alone",
    caught_by="tests/engine/test_elastic.py::test_the_loss_goes_on_as_if_the_number_of_ranks_had_not_changed",
)
def gradients_of_one_rank(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.engine.supervised.step import TrainingStep

    wrap(patch, TrainingStep, "load_step_state", lambda original, self, states: original(self, states[:1]))


@planted(
    "a thread outlives the program",
    caught_by="tests/test_threads.py::test_the_end_of_the_interpreter_stops_all_threads_and_waits_for_them",
)
def thread_outlives_the_program(patch: pytest.MonkeyPatch) -> None:
    from ignite_core import threads

    replace(patch, threads, "_end", lambda thread, stop, join_s: thread.join(0.0))
