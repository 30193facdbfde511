"""Bugs in how the failure of a rank reaches the others."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.faults.planted.table import altered, nothing, planted, replace, wrap


@planted(
    "a failure is reported after the handlers",
    caught_by="tests/distributed/test_failures.py::test_run_distributed_raises_the_original_error",
)
def report_after_the_handlers(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.distributed.failures import api

    @contextmanager
    def reported(original: Any, error: BaseException) -> Iterator[BaseException]:
        watcher = api._watcher
        if watcher is None:
            yield error
            return
        watcher.handling += 1
        try:
            yield error
        finally:
            watcher.handling -= 1
            api.report(error)

    wrap(patch, api, "reported", reported)


@planted(
    "collective waits for a failed rank",
    caught_by="tests/distributed/test_lost_ranks.py::test_exit_after_an_abandoned_collective",
)
def collective_waits(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.distributed.failures.watcher import Watcher

    replace(patch, Watcher, "abandon", nothing)


@planted(
    "an error of all ranks is reported to them",
    caught_by="tests/distributed/test_failures.py::test_common_errors_are_not_reported",
)
def report_agreed_errors(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.distributed.failures import api

    patch.setattr(api, "is_agreed", lambda error: False)


def _leave_out(patch: pytest.MonkeyPatch, name: str, matches: Any, result: Any = None) -> None:
    """Do not make calls of a method of the error store whose arguments match."""
    from ignite_core.distributed.failures.error_store import ErrorStore
    from ignite_core.distributed.failures.watcher import Watcher

    method = getattr(ErrorStore, name)

    def call(original: Any, self: Any, called: Any, *args: Any) -> Any:
        return result if called == method and matches(*args) else original(self, called, *args)

    wrap(patch, Watcher, "_call", call)


@planted(
    "report never withdrawn",
    caught_by="tests/distributed/test_failures.py::test_all_ranks_fail_and_continue",
)
def failure_is_not_withdrawn(patch: pytest.MonkeyPatch) -> None:
    _leave_out(patch, "post", lambda entry: entry["kind"] == "withdrawn")


@planted(
    "no grace period for ranks that fail alike",
    caught_by="tests/distributed/test_failures.py::test_continuing_without_the_failed_rank",
)
def no_grace(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.distributed.failures.watcher import Watcher

    def resume(original: Any, self: Any) -> None:
        grace_s, self._grace_s = self._grace_s, 0.0
        original(self)
        self._grace_s = grace_s

    wrap(patch, Watcher, "resume", resume)


@planted(
    "given up collective is not remembered",
    caught_by="tests/distributed/test_failures.py::test_ranks_out_of_step",
)
def abandoned_collective_is_forgotten(patch: pytest.MonkeyPatch) -> None:
    _leave_out(patch, "resolve", lambda number, how: how == "acted on", True)


@planted(
    "blocked process is not ended",
    caught_by="tests/distributed/test_lost_ranks.py::test_blocked_rank_is_ended",
)
def blocked_process_is_not_ended(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.distributed.failures import watcher

    patch.setattr(watcher, "os", altered(watcher.os, _exit=nothing))


@planted(
    "lost rank is not searched for",
    caught_by="tests/distributed/test_lost_ranks.py::test_killed_rank_is_named",
)
def no_search(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.distributed.failures.watcher import Watcher

    replace(patch, Watcher, "_search", nothing)


@planted(
    "no heartbeats",
    caught_by="tests/distributed/test_lost_ranks.py::test_busy_rank_is_not_lost",
)
def no_heartbeats(patch: pytest.MonkeyPatch) -> None:
    _leave_out(patch, "beat", lambda: True)


@planted(
    "silence of a neighbour is not noticed",
    caught_by="tests/distributed/test_lost_ranks.py::test_killed_rank_is_named_without_collectives",
)
def silence_is_not_noticed(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.distributed.failures.watcher import _Neighbour

    def silence(original: Any, self: Any, store: Any, lost: set[int]) -> None:
        original(self, store, lost)

    wrap(patch, _Neighbour, "silence", silence)


@planted(
    "stopped process blames its neighbour",
    caught_by="tests/distributed/test_watcher.py::test_stopped_process_does_not_report_its_neighbour",
)
def blame_the_neighbour(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.distributed.failures.watcher import _Neighbour

    def silence(original: Any, self: Any, store: Any, lost: set[int]) -> Any:
        self._checked_at = time.monotonic()
        return original(self, store, lost)

    wrap(patch, _Neighbour, "silence", silence)


@planted(
    "who has left is missed",
    caught_by="tests/distributed/test_lost_ranks.py::test_last_rank_is_not_disturbed",
)
def miss_who_has_left(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.distributed.failures import watcher

    class ErrorStore(watcher.ErrorStore):
        has_left = staticmethod(lambda heartbeats: False)

    patch.setattr(watcher, "ErrorStore", ErrorStore)


@planted(
    "a process that ends does not deregister",
    caught_by="tests/distributed/test_lost_ranks.py::test_exit_without_finalize_is_not_lost",
)
def no_farewell(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.distributed.failures import api

    replace(patch, api, "_leave_at_exit", nothing)


@planted(
    "groups with given up collectives are destroyed",
    caught_by="tests/distributed/test_lost_ranks.py::test_exit_after_an_abandoned_collective",
)
def groups_are_destroyed(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.distributed.failures import api

    replace(patch, api, "_keep_groups", nothing)


@planted(
    "the error store ends with rank 0",
    caught_by="tests/distributed/test_lost_ranks.py::test_killed_rank_0_is_named",
)
def store_dies_with_rank_0(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.distributed.failures import store_server

    patch.setattr(store_server, "_SILENCE_ALONE_S", -1.0)


@planted(
    "a missing entry of the error store is waited for",
    caught_by="tests/distributed/test_watcher.py::test_missing_and_late_entries",
)
def gap_is_waited_for(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.distributed.failures.error_store import ErrorStore

    replace(patch, ErrorStore, "skip_gap", nothing)


@planted(
    "forked worker takes itself for a rank",
    caught_by="tests/distributed/test_watcher.py::test_workers_of_a_loader_are_no_ranks",
)
def worker_keeps_the_watcher(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.distributed.failures import api

    def forget() -> None:
        globals()["_lock"] = threading.Lock()

    patch.setattr(api._forget, "__code__", forget.__code__)  # the function itself is registered with the system


@planted(
    "vote group without timeout",
    caught_by="tests/distributed/test_whereabouts.py::test_time_limit_of_groups",
)
def group_without_timeout(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.distributed.models.native import TorchModel

    def make_group(original: Any, self: Any, ranks: Any, **kwargs: Any) -> Any:
        return original(self, ranks, **{"timeout": None, **kwargs})

    wrap(patch, TorchModel, "make_group", make_group)


@planted(
    "a rank that hangs is not asked",
    caught_by="tests/distributed/test_whereabouts.py::test_hanging_rank_is_located vote",
)
def no_answer(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.distributed.failures.whereabouts import Whereabouts

    replace(patch, Whereabouts, "take", nothing)
