"""R15 and the end of blocked processes: a rank is killed, or fails where nobody can be freed; who ends, and how."""

from __future__ import annotations

import ctypes
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

import ignite_core.distributed as idist
from ignite_core.distributed.failures import api as failures
from ignite_core.distributed.failures import watcher
from ignite_core.engine import Engine, Events
from tests.distributed.ending import Ended, run_to_the_end
from tests.faults.sizes import FULL, sized

pytestmark = [
    pytest.mark.skipif(not dist.is_gloo_available(), reason="needs the gloo backend, this torch has none"),
    pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks for processes in /proc"),
]

#: The time limit of the collectives in these tests, in seconds.
TIMEOUT_S = 10.0


def codes_and_errors(ended: list[Ended]) -> list[tuple[int, str]]:
    return [(end.code, end.errors) for end in ended]


def note(folder: Path, what: str) -> None:
    (folder / f"{what}_{idist.get_rank()}").touch()


def die(collective: str, guilty: int, folder: Path) -> None:
    """Rank ``guilty`` is killed in its third step, and the others wait for it."""
    assert failures._watcher is not None
    assert failures._watcher._opened.wait(60)
    idist.barrier()

    def step(engine: Engine, batch: Any) -> Any:
        if engine.state.iteration == 3 and idist.get_rank() == guilty:
            (folder / "killed").write_text(str(time.monotonic()))
            os.kill(os.getpid(), signal.SIGKILL)
        if collective == "torch":
            dist.all_reduce(torch.ones(2))
        elif collective == "library":
            idist.all_reduce(torch.ones(2))
        else:
            time.sleep(0.01)

    trainer = Engine(step)
    trainer.add_event_handler(Events.EXCEPTION_RAISED, lambda error: note(folder, type(error).__name__))
    trainer.run(range(10**6))


@pytest.mark.parametrize("hosted", [True, False] if FULL else [True])
@pytest.mark.parametrize("guilty", range(4) if FULL else [1])
@pytest.mark.parametrize("collective", ["library", "torch"])
def test_killed_rank_is_named(collective: str, guilty: int, hosted: bool, tmp_path: Path) -> None:
    ranks = sized(3, 4)

    ended = run_to_the_end(tmp_path, die, collective, guilty, tmp_path, ranks=ranks, hosted=hosted, timeout_s=TIMEOUT_S)

    killed_at = float((tmp_path / "killed").read_text())
    for rank, end in enumerate(ended):
        if rank == guilty:
            assert end.code == -signal.SIGKILL
        else:
            assert end.at - killed_at < TIMEOUT_S + 5
            assert (
                f"ignite_core.exceptions.RankFailed: lost: rank {guilty} of {ranks}, no answer in 3 s " in end.errors
            ), end
            assert end.code == 1
            assert (tmp_path / f"RankFailed_{rank}").exists()


def test_killed_rank_0_is_named(tmp_path: Path) -> None:
    """Also if its address was set by hand.

    The rendezvous store ends with it; the error store does not, and its program ends.
    """
    ended = run_to_the_end(tmp_path, die, "library", 0, tmp_path, hosted=False, timeout_s=TIMEOUT_S)

    assert ended[0].code == -signal.SIGKILL
    assert ended[1].code == 1
    assert "RankFailed: lost: rank 0 of 2, no answer in 3 s " in ended[1].errors


def test_killed_rank_is_named_without_collectives(tmp_path: Path) -> None:
    """No other rank waits for it. It sends no heartbeats any more."""
    ended = run_to_the_end(tmp_path, die_unnoticed, tmp_path, ranks=3, timeout_s=1.0)

    for rank in (0, 2):
        assert "RankFailed: lost: rank 1 of 3, no heartbeat for " in ended[rank].errors, ended[rank]


def die_unnoticed(folder: Path) -> None:
    idist.finalize()
    watcher._SILENCE_S = 3.0, 3.0
    idist.initialize("gloo")
    die("none", 1, folder)


def fail_beside_a_blocked_rank(folder: Path) -> None:
    """Rank 1 fails and stays; rank 0 waits for it in a collective of torch, from which nothing frees it."""

    def step(engine: Engine, batch: Any) -> None:
        if idist.get_rank() == 1:
            raise ValueError("on the other rank")
        dist.all_reduce(torch.ones(2))

    trainer = Engine(step)
    trainer.add_event_handler(Events.EXCEPTION_RAISED, lambda error: note(folder, "handled"))
    trainer.add_event_handler(Events.EXCEPTION_RAISED, stay_until_the_other_has_ended, folder)
    (folder / f"pid_{idist.get_rank()}").write_text(str(os.getpid()))
    idist.barrier()
    trainer.run([1])


def stay_until_the_other_has_ended(engine: Engine, error: BaseException, folder: Path) -> None:
    other, deadline = (folder / "pid_0").read_text(), time.monotonic() + 30
    while Path("/proc", other).exists() and time.monotonic() < deadline:
        time.sleep(0.05)


def test_blocked_rank_is_ended(tmp_path: Path) -> None:
    """It prints where it was, and why it ends."""
    began = time.monotonic()

    blocked, failed = run_to_the_end(tmp_path, fail_beside_a_blocked_rank, tmp_path, abort_grace=0.5)

    assert (blocked.code, failed.code) == (watcher.EXIT_CODE, 1), blocked.errors + failed.errors
    assert blocked.at - began < 30
    assert (
        "ignite_core: rank 0 of 2 is blocked, 0.5 s after another one has failed. It is ended with exit code 75; "
        in (blocked.errors)
    )
    assert "in all_reduce\n" in blocked.errors
    assert "RankFailed: rank 1 of 2 has failed:\n\nTraceback (most recent call last):" in blocked.errors
    assert "ValueError: on the other rank\nRaised by the step " in blocked.errors
    assert sorted(path.name for path in tmp_path.glob("handled_*")) == ["handled_1"]


def hold_the_interpreter() -> None:
    """Rank 1 lets no thread of Python run for a while, which is within the limit; then both go on for as long."""
    idist.finalize()
    watcher._SILENCE_S = 4.0, 4.0
    idist.initialize("gloo")

    def step(engine: Engine, batch: Any) -> Any:
        if idist.get_rank() == 1 and batch == 1:
            ctypes.PyDLL(None).usleep(3_000_000)
        if batch == 2:
            time.sleep(2)
        return idist.all_reduce(1)

    Engine(step).run([0, 1, 2])


def test_busy_rank_is_not_lost(tmp_path: Path) -> None:
    """Within the time limit."""
    assert codes_and_errors(run_to_the_end(tmp_path, hold_the_interpreter)) == [(0, ""), (0, "")]


def stop_for_a_while() -> None:
    """Rank 1 is stopped for longer than the limit, but so is rank 0 when it would look."""
    idist.finalize()
    watcher._SILENCE_S = 1.5, 1.5
    idist.initialize("gloo")
    ctypes.PyDLL(None).usleep(3_200_000)
    time.sleep(1.2)
    idist.barrier()


def test_all_ranks_stopped(tmp_path: Path) -> None:
    """They do not report each other as lost. As when a machine sleeps, or a job is suspended."""
    assert codes_and_errors(run_to_the_end(tmp_path, stop_for_a_while)) == [(0, ""), (0, "")]


def leave_early() -> None:
    """Rank 1 is done; rank 0 goes on alone for longer than a lost rank gets."""
    idist.finalize()
    watcher._SILENCE_S = 1.5, 1.5
    idist.initialize("gloo")
    if idist.get_rank() == 0:
        Engine(lambda engine, batch: time.sleep(0.1)).run(range(30))
        assert not failures.has_failed()


def test_last_rank_is_not_disturbed(tmp_path: Path) -> None:
    """A rank may continue after the others have ended."""
    assert codes_and_errors(run_to_the_end(tmp_path, leave_early)) == [(0, ""), (0, "")]


def end_without_finalize() -> None:
    """Rank 1 ends as it should, but does not say so; rank 0 goes on."""
    leave_early()
    if idist.get_rank() == 1:
        raise SystemExit


def test_exit_without_finalize_is_not_lost(tmp_path: Path) -> None:
    assert codes_and_errors(run_to_the_end(tmp_path, end_without_finalize)) == [(0, ""), (0, "")]


def leave_a_collective_behind() -> None:
    """Rank 1 fails, and stays for some seconds; rank 0 gives up a collective with it, leaves the group, and ends."""
    if idist.get_rank() == 1:
        failures.report(ValueError("not caught"))
        threading.Event().wait(6)
    try:
        idist.all_reduce(1)
    finally:
        idist.finalize()


def test_exit_after_an_abandoned_collective(tmp_path: Path) -> None:
    """At once: torch would wait for the collective when the group is destroyed or the interpreter ends."""
    first, second = run_to_the_end(tmp_path, leave_a_collective_behind)

    assert "RankFailed: rank 1 of 2 has failed" in first.errors
    assert first.code == 1
    assert second.at - first.at > 2
