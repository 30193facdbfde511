"""Bugs in what a checkpoint holds, when it is saved, which ones stay, and how they are loaded."""

from __future__ import annotations

import itertools
import sys
from typing import Any

import pytest

from tests.faults.planted.table import altered, nothing, planted, replace, wrap


@planted(
    "delete before write",
    caught_by="tests/handlers/checkpoint/test_side_by_side.py::test_the_new_one_is_saved_before_an_old_one_goes",
)
def delete_before_write(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.handlers.checkpoint.checkpoint import Checkpoint

    def write(original: Any, self: Any, checkpoint: Any, save: Any, *args: Any) -> None:
        self._remove(save.removed)
        original(self, checkpoint, save, *args)

    wrap(patch, Checkpoint, "_write", write)


@planted(
    "kept before it is saved",
    caught_by="tests/handlers/checkpoint/test_checkpoint.py::test_a_save_that_failed_changes_nothing_and_the_next_one_succeeds",
)
def kept_before_saved(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.handlers.checkpoint.checkpoint import Checkpoint

    def write(original: Any, self: Any, checkpoint: Any, save: Any, *args: Any) -> None:
        self._saved.kept = save.kept
        original(self, checkpoint, save, *args)

    wrap(patch, Checkpoint, "_write", write)


@planted(
    "what could not be removed is forgotten",
    caught_by="tests/handlers/checkpoint/test_checkpoint.py::test_what_could_not_be_removed_is_removed_after_the_next_save",
)
def forget_what_to_remove(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.handlers.checkpoint.checkpoint import Checkpoint

    def write(original: Any, self: Any, *args: Any) -> None:
        self._saved.to_remove = []
        original(self, *args)

    wrap(patch, Checkpoint, "_write", write)


@planted(
    "the same step is saved at each end",
    caught_by="tests/handlers/checkpoint/test_checkpoint.py::test_attached_to_all_the_ways_to_end_it_saves_once",
)
def save_at_each_end(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.handlers.checkpoint.checkpoint import Checkpoint

    def decide(original: Any, self: Any, engine: Any, event: Any) -> Any:
        self._last_key = ()
        return original(self, engine, event)

    wrap(patch, Checkpoint, "_decide", decide)


@planted(
    "another run at the same step is not saved",
    caught_by="tests/handlers/checkpoint/test_checkpoint.py::test_a_second_run_that_ends_at_the_same_step_is_saved_too",
)
def ignore_another_run(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.handlers._global_step import clock_of
    from ignite_core.handlers.checkpoint.checkpoint import Checkpoint

    def decide(original: Any, self: Any, engine: Any, event: Any) -> Any:
        self._last_run = clock_of(engine, event).state.times
        return original(self, engine, event)

    wrap(patch, Checkpoint, "_decide", decide)


@planted(
    "NaN is best",
    caught_by="tests/handlers/checkpoint/test_retention.py::test_the_best_are_the_finite_scores_that_are_highest",
)
def nan_is_best(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.handlers.checkpoint import retention

    patch.setattr(retention, "math", altered(retention.math, isfinite=lambda number: True))


@planted(
    "the newest are forgotten",
    caught_by="tests/handlers/checkpoint/test_retention.py::test_best_and_last_are_kept_at_once",
)
def keep_the_oldest(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.handlers.checkpoint.retention import Kept, Retention

    def after(original: Any, self: Any, kept: Any, item: Any) -> Any:
        new, removed = original(self, kept, item)
        if self.keep_last is None:
            return new, removed
        others = [one for one in kept.last if one.filename != item.filename]
        new = Kept(new.best, (*others, item)[: self.keep_last])
        return new, [name for name in kept.filenames if name not in new.filenames]

    wrap(patch, Retention, "after", after)


@planted(
    "one rank raises alone",
    caught_by="tests/handlers/checkpoint/test_ranks.py::test_whatever_fails_on_whichever_rank_all_raise_the_same_soon_and_go_on",
)
def one_rank_raises_alone(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.distributed import utils as idist
    from ignite_core.exceptions import CheckpointError
    from ignite_core.handlers.checkpoint import ranks

    def share(original: Any, what: str, error: Exception | None, value: Any) -> list[Any]:
        try:
            result: list[Any] = original(what, error, value)
        except CheckpointError:
            if error is not None:
                raise
            return [value] * idist.get_world_size()
        return result

    wrap(patch, ranks, "share", share)


@planted(
    "an error that all raise is not marked",
    caught_by="tests/handlers/checkpoint/test_ranks.py::test_whatever_fails_on_whichever_rank_all_raise_the_same_soon_and_go_on",
)
def agreed_error_is_not_marked(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.handlers.checkpoint import ranks

    patch.setattr(ranks, "agreed", lambda error: error)


@planted(
    "each rank reads the folder",
    caught_by="tests/handlers/checkpoint/test_ranks.py::test_only_the_rank_that_saves_looks_at_the_file_system",
)
def each_rank_checks_the_folder(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.handlers.checkpoint import savers

    patch.setattr(savers, "saving_rank", lambda rank: savers.idist.get_rank())


@planted(
    "the state of one rank for all",
    caught_by="tests/handlers/checkpoint/test_ranks.py::test_what_differs_between_ranks_is_saved_of_all_of_them",
)
def state_of_one_rank(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.handlers.checkpoint import ranks

    def collect_states(original: Any, *args: Any) -> Any:
        with pytest.MonkeyPatch.context() as inner:
            share = ranks.share
            inner.setattr(ranks, "share", lambda *args: share(*args)[:1])
            return original(*args)

    wrap(patch, ranks, "collect_states", collect_states)


@planted(
    "a run with NaN is saved",
    caught_by="tests/handlers/checkpoint/test_checkpoint.py::test_nothing_is_saved_of_a_run_that_was_found_bad",
)
def save_a_bad_run(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.handlers.checkpoint import ranks

    def is_unsafe_to_save(original: Any, engine: Any) -> bool:
        original(engine)
        return False

    wrap(patch, ranks, "is_unsafe_to_save", is_unsafe_to_save)


@planted(
    "a pending check is not waited for",
    caught_by="tests/handlers/checkpoint/test_checkpoint.py::test_nothing_is_saved_of_a_run_that_was_found_bad",
)
def pending_check(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.handlers.voting.vote import Vote

    replace(patch, Vote, "settle", nothing)


@planted(
    "wrappers in keys",
    caught_by="tests/handlers/checkpoint/test_objects.py::test_a_wrapped_model_is_saved_as_the_plain_one_and_each_loads_the_other",
)
def wrappers_in_keys(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.handlers.checkpoint.states import Wrappers

    replace(patch, Wrappers, "taken_off", lambda self, state: state)


@planted(
    "half loaded",
    caught_by="tests/handlers/checkpoint/test_restoring.py::test_if_one_thing_is_wrong_nothing_is_changed",
)
def half_loaded(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.handlers.checkpoint.restore import Restoring

    replace(patch, Restoring, "roll_back", lambda self: [])


@planted(
    "half loaded by Ctrl-C",
    caught_by="tests/handlers/checkpoint/test_restoring.py::test_interrupted_while_something_is_loaded_all_objects_are_as_they_were",
)
def half_loaded_by_an_interrupt(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.handlers.checkpoint.restore import Restoring

    def roll_back(original: Any, self: Any) -> Any:
        return original(self) if isinstance(sys.exception(), Exception) else []

    wrap(patch, Restoring, "roll_back", roll_back)


@planted(
    "loaded unchecked",
    caught_by="tests/handlers/checkpoint/test_restoring.py::test_if_one_thing_is_wrong_nothing_is_changed",
)
def loaded_unchecked(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.handlers.checkpoint import restore

    def compare(original: Any, self: Any) -> None:
        original(self)
        self.is_safe |= all(restore._loads_as_torch_does(part) for part in self.obj.modules())

    wrap(patch, restore._Part, "_compare", compare)


@planted(
    "kept in the mapped file",
    caught_by="tests/handlers/checkpoint/test_restoring.py::test_nothing_of_what_was_loaded_lies_in_the_file",
)
def keep_the_mapped_file(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.handlers.checkpoint import restore

    patch.setattr(restore, "copy", altered(restore.copy, deepcopy=lambda value: value))


@planted(
    "digests are not compared",
    caught_by="tests/handlers/checkpoint/test_resume.py::test_a_bit_flipped_anywhere_is_found_before_anything_is_changed",
)
def digests_are_not_compared(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.handlers.checkpoint import resume

    def read(original: Any, path: Any, kind: str, verify: Any, map_location: Any) -> Any:
        return original(path, kind, "size", map_location)

    wrap(patch, resume, "_read", read)


@planted(
    "only the newest is tried",
    caught_by="tests/handlers/checkpoint/test_resume.py::test_a_damaged_checkpoint_is_passed_over_for_the_one_before_it_with_one_warning",
)
def try_the_newest_only(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.handlers.checkpoint import resume

    def first_whole(original: Any, found: Any, chosen: Any, *args: Any) -> Any:
        return original(found, itertools.islice(chosen, 1), *args)

    wrap(patch, resume, "_first_whole", first_whole)


@planted(
    "the newest is taken without its contents checked",
    caught_by="tests/handlers/checkpoint/test_resume.py::test_models_that_were_saved_alone_are_passed_over",
)
def take_any_objects(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.handlers.checkpoint import resume

    def holds(original: Any, about: Any, wanted: Any) -> bool:
        return isinstance(about.get("objects"), list) or original(about, wanted)

    wrap(patch, resume, "_holds", holds)


@planted(
    "retention is forgotten", caught_by="tests/handlers/checkpoint/test_resume.py::test_n_saved_holds_across_restarts"
)
def forget_retention(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.handlers.checkpoint.checkpoint import Checkpoint

    wrap(patch, Checkpoint, "adopt", lambda original, self, items: original(self, []))


@planted(
    "the best in another folder is forgotten",
    caught_by="tests/handlers/checkpoint/test_adoption.py::test_the_best_in_a_folder_of_its_own_is_not_forgotten",
)
def forget_other_folders(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.handlers.checkpoint import resume

    resumed: list[Any] = []

    def look(original: Any, place: Any, prefix: Any) -> Any:
        resumed.append(place.resolve())
        return original(place, prefix)

    def scan_folders(original: Any, handlers: Any) -> Any:
        return {at: seen for at, seen in original(handlers).items() if at in resumed}

    wrap(patch, resume, "_look", look)
    wrap(patch, resume, "scan_folders", scan_folders)


@planted(
    "one rank loads alone",
    caught_by="tests/handlers/checkpoint/test_resume.py::test_all_ranks_load_the_same_or_none_loads_anything",
)
def one_rank_loads_alone(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.distributed.failures.api import is_agreed
    from ignite_core.handlers.checkpoint.restore import Restoring

    def roll_back(original: Any, self: Any) -> Any:
        error = sys.exception()
        return [] if error is not None and is_agreed(error) else original(self)

    wrap(patch, Restoring, "roll_back", roll_back)


@planted(
    "the saver is not closed",
    caught_by="tests/handlers/checkpoint/test_closing.py::test_it_is_closed_once_at_the_end_after_the_last_save",
)
def saver_is_not_closed(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.handlers.checkpoint.savers import CloseAtRunEnd

    replace(patch, CloseAtRunEnd, "_close_on_saving_rank", nothing)


@planted(
    "a running write is dropped when a rank fails",
    caught_by="tests/distributed/test_failures.py::test_running_writes_complete_when_a_rank_fails",
)
def drop_writes_on_failure(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.handlers.checkpoint.savers import CloseAtRunEnd

    def fail(original: Any, self: Any, engine: Any, error: BaseException) -> None:
        pass

    wrap(patch, CloseAtRunEnd, "_fail", fail)


@planted(
    "an evaluator counts for itself",
    caught_by="tests/handlers/test_clock.py::test_what_is_done_at_the_end_of_an_evaluation_is_numbered_by_the_trainer",
)
def evaluator_counts_for_itself(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.handlers import _global_step

    wrap(patch, _global_step, "clock_of", lambda original, engine, event=None: engine)
