"""A saver that works in the background is closed when the run ends, however it ends. R25 at the handler."""

from typing import Any

import pytest
from torch import nn

from ignite_core import distributed as idist
from ignite_core.engine import Engine, Events
from ignite_core.exceptions import CheckpointError
from ignite_core.handlers import Checkpoint
from ignite_core.testing import run_distributed


class Background:
    """Writes down what it is asked for; fails to close when told."""

    def __init__(self, error: Exception | None = None) -> None:
        self.asked: list[str] = []
        self.error = error

    def __call__(self, checkpoint: Any, filename: str, metadata: Any) -> None:
        self.asked.append(f"save {filename}")

    def close(self) -> None:
        self.asked.append("close")
        if self.error is not None:
            raise self.error


def trainer_with(saver: Background, events: Any, step: Any = lambda engine, batch: None) -> Engine:
    trainer = Engine(step)
    Checkpoint({"model": nn.Linear(1, 1)}, saver).attach(trainer, events)
    return trainer


def fail(engine: Any, batch: int) -> None:
    if batch == 2:
        raise ValueError("bad batch")


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        ("completed", ["save model_1.pt", "save model_2.pt", "close"]),
        ("terminated", ["save model_1.pt", "close"]),
        ("terminated without COMPLETED", ["save model_1.pt", "close"]),
        ("interrupted", ["save model_1.pt", "close"]),
    ],
)
def test_it_is_closed_once_at_the_end_after_the_last_save(ends: str, expected: list[str]) -> None:
    saver = Background()
    trainer = trainer_with(saver, Events.ITERATION_COMPLETED | Events.COMPLETED)
    ask = {
        "terminated": trainer.terminate,
        "terminated without COMPLETED": lambda: trainer.terminate(skip_completed=True),
        "interrupted": trainer.interrupt,
    }.get(ends)
    if ask is not None:
        trainer.add_event_handler(Events.ITERATION_COMPLETED(once=1), ask)
    trainer.run([1, 2])

    assert saver.asked == expected


def test_it_is_closed_in_the_second_run_too_and_once() -> None:
    saver = Background()
    trainer = trainer_with(saver, Events.COMPLETED)
    trainer.run([1])
    trainer.run([1, 2])

    assert saver.asked == ["save model_1.pt", "close", "save model_2.pt", "close"]


def test_on_an_evaluator_the_run_of_the_trainer_is_what_ends() -> None:
    saver = Background()
    evaluator = trainer_with(saver, Events.COMPLETED)
    trainer = Engine(lambda engine, batch: None)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run([0]))
    trainer.run([1, 2], max_epochs=2)

    assert saver.asked == ["save model_2.pt", "save model_4.pt", "close"]


def test_what_was_lost_is_raised_at_the_end_of_the_run() -> None:
    saver = Background(CheckpointError("model_1.pt could not be written"))
    with pytest.raises(CheckpointError, match="could not be written"):
        trainer_with(saver, Events.COMPLETED).run([1])


def test_after_an_error_it_is_noted_on_that_error() -> None:
    saver = Background(CheckpointError("model_1.pt could not be written"))
    trainer = trainer_with(saver, Events.ITERATION_COMPLETED, fail)
    with pytest.raises(ValueError, match="bad batch") as caught:
        trainer.run([1, 2])

    assert "A save in progress failed too: CheckpointError: model_1.pt could not be written" in caught.value.__notes__
    assert saver.asked == ["save model_1.pt", "close"]


def lose_it_on_one_rank() -> tuple[str, list[str]]:
    saver = Background(OSError("planted") if idist.get_rank() == 0 else None)
    with pytest.raises(CheckpointError) as caught:
        trainer_with(saver, Events.COMPLETED).run([1])
    assert idist.all_reduce(1) == 2
    return str(caught.value), saver.asked


def test_on_several_ranks_all_raise_what_was_lost_on_one() -> None:
    results = run_distributed(lose_it_on_one_rank, ranks=2)

    assert results[0][0] == results[1][0]
    assert "is lost: rank 0 failed with OSError: planted" in results[0][0]
    assert [asked for _, asked in results] == [
        ["save model_1.pt", "close", "close"],
        [],
    ]  # the second one after the error
