"""A rank that hangs outside of collectives: after the time limit the others raise, naming the rank and where it is."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path

import pytest
import torch.distributed as dist
from torch.distributed import HashStore, PrefixStore  # type: ignore[attr-defined]

import ignite_core.distributed as idist
from ignite_core.distributed.failures import api as failures
from ignite_core.distributed.failures.error_store import ErrorStore
from ignite_core.distributed.failures.whereabouts import Whereabouts
from ignite_core.engine import Engine, Events
from ignite_core.handlers import vote_of
from ignite_core.handlers.voting.channel import side_channel
from ignite_core.metrics import Average
from ignite_core.testing import run_distributed

pytestmark = pytest.mark.skipif(not dist.is_gloo_available(), reason="needs the gloo backend, this torch has none")


def hang_until(path: Path) -> None:
    """As a lock of another process does."""
    while not path.exists():
        time.sleep(0.01)


def hang(what: str, folder: str) -> str:
    """Rank 1 hangs between two epochs of all, and the others go on to a validation; what each of them heard."""
    idist.finalize()
    idist.initialize("gloo", timeout=timedelta(seconds=1.0), abort_grace=60.0)
    trainer, evaluator = Engine(lambda engine, batch: None), Engine(lambda engine, batch: batch)
    if what == "vote":
        vote_of(evaluator)
    else:
        Average().attach(evaluator, "average")
    last = 1 if what == "first run" else 2

    @trainer.on(Events.EPOCH_COMPLETED)
    def validate() -> None:
        if idist.get_rank() == 1 and trainer.state.epoch == last:
            hang_until(Path(folder) / "go on")
        evaluator.run([1.0, 2.0])

    try:
        trainer.run([1, 2], max_epochs=3)
    except RuntimeError as error:
        (Path(folder) / "go on").touch()
        return f"{type(error).__name__}: {error}"
    return "it ended"


@pytest.mark.parametrize(
    ("what", "operation"), [("first run", "Engine.run"), ("metric", "all_gather"), ("vote", "vote")]
)
def test_hanging_rank_is_located(what: str, operation: str, tmp_path: Path) -> None:
    """After the time limit the other ranks name the rank that hangs, and where it is."""
    began = time.monotonic()
    heard = run_distributed(hang, what, str(tmp_path), ranks=3)

    assert heard[1].startswith("RankFailed")
    for told in (heard[0], heard[2]):
        assert f"idist.{operation} failed on rank" in told
        assert "rank 1 has not arrived; it is at:\n  " in told
        assert "in hang_until\n" in told
        assert "rank 0 has not arrived" not in told
        assert "rank 2 has not arrived" not in told
    assert time.monotonic() - began < 30


def limits() -> list[float]:
    idist.finalize()
    idist.initialize("gloo", timeout=timedelta(seconds=33))
    groups = [side_channel()._group, idist.new_group([0, 1]), idist.new_group([0], timeout=timedelta(seconds=5))]
    found = [group for group in groups if isinstance(group, dist.ProcessGroup)]
    return [group._get_backend(idist.device()).options._timeout.total_seconds() for group in found]


def test_time_limit_of_groups() -> None:
    """All process groups have the given time limit."""
    assert run_distributed(limits) == [[33, 33, 5], [33, 33]]


class Asked:
    """The whereabouts of several ranks in one error store; each question is answered when it is posted."""

    def __init__(self, number: int) -> None:
        store = HashStore()
        parts = [PrefixStore("a", store) for _ in range(number)]
        self.stores = [ErrorStore(part, part, rank, number) for rank, part in enumerate(parts)]
        self.ranks = [
            Whereabouts(rank, lambda times, store=store: self.ask(store, times), store.post)  # type: ignore[misc]
            for rank, store in enumerate(self.stores)
        ]
        self.questions = 0

    def ask(self, store: ErrorStore, times: int) -> None:
        self.questions += 1
        store.post_once(f"where_{times}", {"kind": "where"})
        for _ in range(2):  # the question, then the answers
            for reader, found in zip(self.stores, self.ranks, strict=True):
                while (entry := reader.read()) is not None:
                    found.take(entry[1])


def test_waiting_rank_answers() -> None:
    """It names the collective; each question is asked once."""
    asked = Asked(3)
    asked.ranks[0].waits = asked.ranks[2].waits = "vote"

    first = asked.ranks[0].find([1, 2], 5.0)
    second = asked.ranks[2].find([0, 1], 5.0)

    assert first == second
    assert first.startswith("rank 1 has not arrived; it is at:\n  ")
    assert asked.questions == 1


def test_all_ranks_wait() -> None:
    """All are reported with the collectives for which they wait."""
    asked = Asked(3)
    for found, waits in zip(asked.ranks, ("vote", "all_gather", "barrier"), strict=True):
        found.waits = waits

    assert asked.ranks[0].find([1, 2], 5.0) == (
        "the other ranks wait in other collectives: rank 1 in all_gather, rank 2 in barrier"
    )


def test_rank_without_answer_is_named() -> None:
    found = Whereabouts(0, lambda number: None, lambda answer: None)

    assert found.find([1, 2], 0.01) == "ranks [1, 2] have not arrived and do not answer"


def test_local_waits() -> None:
    """They have no time limit unless one is given."""
    answers = iter([False, False, True])
    failures.wait_for(lambda: next(answers), None)
    with pytest.raises(RuntimeError, match="timed out after 0:00:00"):
        failures.wait_for(lambda: False, timedelta(0))
