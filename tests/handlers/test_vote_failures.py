"""A vote never waits for a rank that has failed or is gone; it is dropped, and the next run has another one."""

import os
import signal
import time
from datetime import timedelta
from pathlib import Path

from ignite_core import distributed as idist
from ignite_core.distributed import agreed
from ignite_core.engine import Engine, Events
from ignite_core.handlers import vote_of
from ignite_core.testing import run_distributed
from tests.distributed.ending import run_to_the_end

EVERY = 4


def voting(fails_at: int, event: Events | None) -> Engine:
    """An engine that votes, and fails on rank 1 in the step or at an event of that iteration."""

    def fail(engine: Engine) -> None:
        if idist.get_rank() == 1 and engine.state.iteration == fails_at:
            raise ValueError("on purpose")

    engine = Engine(lambda engine, batch: fail(engine) if event is None else None)
    vote_of(engine, every=EVERY).add("nothing", lambda engine, number: None)
    if event is not None:
        engine.add_event_handler(event, fail)
    return engine


def outcome(engine: Engine, **arguments: int) -> tuple[str, str]:
    try:
        engine.run(range(8), **arguments)
    except (ValueError, RuntimeError) as error:
        return type(error).__name__, str(error).splitlines()[0]
    return "ended", ""


def votes_again() -> bool:
    """Whether a new run votes as it should."""
    engine = Engine(lambda engine, batch: None)
    ask = vote_of(engine, every=EVERY).add("end", lambda engine, number: engine.terminate())
    if idist.get_rank() == 0:
        engine.add_event_handler(Events.ITERATION_COMPLETED(once=5), ask, 1)
    return engine.run(range(100)).iteration == 12


def fail_and_begin_anew() -> list[tuple[str, str]]:
    """Each failure is caught on all ranks, which join anew and run again."""
    told = []
    events = (None, Events.ITERATION_COMPLETED, Events.EPOCH_COMPLETED, Events.COMPLETED)
    for fails_at, event in [(1, None), (EVERY, None), (EVERY + 1, None), *((8, event) for event in events)]:
        engine = voting(fails_at, event)
        told.append(outcome(engine, max_epochs=2 if event is not Events.COMPLETED else 1))
        idist.finalize()
        idist.initialize("gloo", timeout=timedelta(seconds=60))
        assert votes_again()
    return told


def test_a_rank_that_raises_ends_the_vote_of_the_others_and_all_can_join_and_run_again() -> None:
    others, failing = run_distributed(fail_and_begin_anew)

    assert failing == [("ValueError", "on purpose")] * 7
    assert {name for name, _ in others} == {"RankFailed"}


def agree_to_fail() -> list[tuple[str, str]]:
    """An error that all ranks raise together leaves them in step."""
    told = []
    for at in range(1, 10):

        def fail(engine: Engine) -> None:
            raise agreed(ValueError("together"))

        engine = voting(-1, None)
        engine.add_event_handler(Events.ITERATION_COMPLETED(once=at), fail)
        told.append(outcome(engine, max_epochs=2))
        assert votes_again()
    return told


def test_ranks_that_raise_together_can_run_again_at_once() -> None:
    assert run_distributed(agree_to_fail) == [[("ValueError", "together")] * 9] * 2


def go_on_alone() -> list[tuple[str, str]]:
    """Rank 1 suppresses its error and begins a new run, while the other one is in the middle of the first."""
    engine = voting(2, None)
    engine.add_event_handler(Events.EXCEPTION_RAISED, lambda error: isinstance(error, ValueError))
    told = [outcome(engine, max_epochs=9)]
    if idist.get_rank() == 1:
        told.append(outcome(engine, max_epochs=9))
    return told


def test_a_rank_that_goes_on_alone_after_an_error_is_no_riddle_to_the_others() -> None:
    """Nobody waits for ever: the one finds the other at the wrong place, or has heard of the error before."""
    [(kind, told)], [alone, then] = run_distributed(go_on_alone)

    assert alone == ("ended", "")
    if kind == "RuntimeError":
        expected = (
            "but rank 0 continues after iteration 4; rank 1 begins a run, or continues after an error, at iteration"
        )
        assert expected in told
        assert then[0] == "RankFailed"
    else:
        assert kind == "RankFailed"


def lose_a_rank(folder: Path) -> None:
    """One rank dies without a word; the other goes on to the next rounds, in which nobody meets it."""

    def step(engine: Engine, batch: int) -> None:
        if engine.state.iteration == 9 and idist.get_rank() == 1:
            (folder / "died").write_text(str(time.monotonic()))
            os.kill(os.getpid(), signal.SIGKILL)

    engine = Engine(step)
    vote_of(engine, every=EVERY)
    engine.run(range(10**6), max_epochs=10**6)


def test_a_vote_does_not_wait_for_a_rank_that_is_gone(tmp_path: Path) -> None:
    survivor, lost = run_to_the_end(tmp_path, lose_a_rank, tmp_path)

    assert (survivor.code, lost.code) == (1, -signal.SIGKILL)
    assert "RankFailed: lost: rank 1 of 2" in survivor.errors
    assert survivor.at - float((tmp_path / "died").read_text()) < 20
