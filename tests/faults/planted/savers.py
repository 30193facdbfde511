"""Bugs of saving in the background, and of states that are spread over several ranks."""

from __future__ import annotations

from typing import Any

import pytest

from tests.faults.planted.table import altered, nothing, planted, replace, wrap


@planted(
    "the weights of later",
    caught_by="tests/handlers/checkpoint/test_async_saver.py::test_what_is_saved_is_what_was_there_at_the_call",
)
def weights_of_later(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.handlers.checkpoint.snapshot import Snapshot

    def take(original: Any, self: Any, state: Any) -> Any:
        original(self, state)
        return state

    wrap(patch, Snapshot, "take", take)


@planted(
    "the memory is reused too early",
    caught_by="tests/handlers/checkpoint/test_async_saver.py::test_what_is_saved_is_what_was_there_at_the_call",
)
def reuse_memory_early(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.handlers.checkpoint.async_saver import AsyncDiskSaver

    def save(original: Any, self: Any, *args: Any, **kwargs: Any) -> None:
        self.flush = nothing
        try:
            original(self, *args, **kwargs)
        finally:
            del self.flush

    wrap(patch, AsyncDiskSaver, "__call__", save)


@planted(
    "removed after a failed write",
    caught_by="tests/handlers/checkpoint/test_async_saver.py::test_after_a_write_that_failed_nothing_is_removed_until_one_succeeds",
)
def remove_after_a_failed_write(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.handlers.checkpoint.async_saver import _Writes

    def remove(original: Any, self: Any, path: Any) -> None:
        self._is_behind = False
        original(self, path)

    wrap(patch, _Writes, "_remove", remove)


@planted(
    "a failed write is not reported",
    caught_by="tests/handlers/checkpoint/test_async_saver.py::test_an_error_is_told_once_by_the_next_save",
)
def failed_write_is_not_reported(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.exceptions import CheckpointError
    from ignite_core.handlers.checkpoint.async_saver import _Writes

    def flush(original: Any, self: Any) -> None:
        try:
            original(self)
        except CheckpointError:
            if self._is_late:
                raise

    wrap(patch, _Writes, "flush", flush)


@planted(
    "a failed write is reported again",
    caught_by="tests/handlers/checkpoint/test_async_saver.py::test_an_error_is_told_once_by_the_next_save",
)
def failed_write_is_reported_again(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.exceptions import CheckpointError
    from ignite_core.handlers.checkpoint.async_saver import _Writes

    def flush(original: Any, self: Any) -> None:
        try:
            original(self)
        except CheckpointError as error:
            self._error = error
            raise

    wrap(patch, _Writes, "flush", flush)


@planted(
    "a file that is saved again is removed",
    caught_by="tests/handlers/checkpoint/test_async_saver.py::test_what_was_to_be_removed_and_is_saved_anew_stays",
)
def remove_what_was_saved_again(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.handlers.checkpoint.async_saver import _Writes

    def write(original: Any, self: Any, publish: Any, filename: str, step: Any) -> None:
        removed = list(self._kept)
        original(self, publish, filename, step)
        for path in removed:
            if path.name == filename:
                self._remove(path)

    wrap(patch, _Writes, "_write", write)


@planted(
    "the interpreter does not wait",
    caught_by="tests/handlers/checkpoint/test_async_saver.py::test_an_error_that_nobody_was_told_is_logged_at_the_end",
)
def interpreter_does_not_wait(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.handlers.checkpoint import async_saver

    patch.setattr(async_saver, "Finalize", nothing)


@planted(
    "memory at each save",
    caught_by="tests/handlers/checkpoint/test_snapshot.py::test_memory_is_kept_and_grows_only_when_it_must",
)
def memory_at_each_save(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.handlers.checkpoint.snapshot import Snapshot

    def buffers_for(original: Any, self: Any, storages: Any, **kwargs: Any) -> Any:
        storages = list(storages)
        if [storage.nbytes() for storage in storages] != self._sizes:
            self.close()
        return original(self, storages, **kwargs)

    wrap(patch, Snapshot, "_buffers_for", buffers_for)


@planted(
    "one rank of a sharded save raises alone",
    caught_by="tests/handlers/checkpoint/test_dcp.py::test_all_ranks_raise_when_one_fails_in_any_phase",
)
def sharded_save_raises_alone(patch: pytest.MonkeyPatch) -> None:
    from torch.distributed.checkpoint.storage import WriteResult

    from ignite_core.handlers.checkpoint.dcp_saver import _Save

    def exchange(original: Any, self: Any, value: Any) -> Any:
        is_written = isinstance(value, list) and any(isinstance(one, WriteResult) for one in value)
        return [value] if is_written else original(self, value)

    wrap(patch, _Save, "_exchange", exchange)


@planted("a part runs code", caught_by="tests/handlers/checkpoint/test_dcp.py::test_a_part_cannot_run_code")
def part_runs_code(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.handlers.checkpoint import dcp_reader

    patch.setattr(dcp_reader, "check", nothing)


@planted("lying parts", caught_by="tests/handlers/checkpoint/test_dcp.py::test_a_list_of_parts_that_lies_is_refused")
def lying_parts(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.handlers.checkpoint import dcp_reader

    replace(patch, dcp_reader, "_check_complete", nothing)


@planted(
    "one rank alone cannot read",
    caught_by="tests/handlers/checkpoint/test_dcp.py::test_all_ranks_raise_when_one_cannot_read_its_part",
)
def one_rank_cannot_read(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.handlers.checkpoint import dcp_reader

    def share(original: Any, what: str, error: Exception | None, value: Any) -> Any:
        if value is not None:  # the folder, before anything is read
            return original(what, error, value)
        if error is not None:
            raise error
        return [None]

    wrap(patch, dcp_reader, "share", share)


@planted(
    "the whole state on another rank",
    caught_by="tests/handlers/checkpoint/test_sharded.py::test_a_sharded_state_becomes_that_of_the_plain_model",
)
def whole_state_on_another_rank(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.distributed import utils as idist
    from ignite_core.handlers.checkpoint import sharded

    def full(original: Any, state: Any, rank: int | None = 0) -> Any:
        return original(state, None if rank is None else (rank + 1) % idist.get_world_size())

    wrap(patch, sharded, "full", full)


@planted(
    "placements are not restored",
    caught_by="tests/handlers/checkpoint/test_sharded.py::test_the_state_of_a_plain_model_loads_into_a_sharded_one",
)
def placements_are_not_restored(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.handlers.checkpoint import sharded

    def part_of(original: Any, whole: Any, like: Any) -> Any:
        from torch.distributed.tensor import Replicate

        return original(whole, like).redistribute(placements=[Replicate()] * like.device_mesh.ndim)

    wrap(patch, sharded, "_part_of", part_of)


@planted(
    "new folders are not synced",
    caught_by="tests/handlers/checkpoint/test_storage.py::test_the_names_of_new_folders_are_on_the_disk",
)
def new_folders_are_not_synced(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.handlers.checkpoint import savers

    patch.setattr(savers, "files", altered(savers.files, fsync_path=nothing))
