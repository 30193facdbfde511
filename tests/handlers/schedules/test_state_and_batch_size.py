"""Curves in the state of an engine, and in the batch size of a DataLoader."""

import copy
import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from ignite_core.engine import Engine, Events
from ignite_core.handlers import (
    BatchSizeScheduler,
    ExpStateScheduler,
    LambdaStateScheduler,
    StateParamScheduler,
    StepStateScheduler,
)
from ignite_core.handlers.schedules.curves import cosine, linear


def nothing(engine: Engine, batch: Any) -> None:
    """A step."""


def test_the_attribute_is_there_from_the_attachment_on_and_each_call_writes_it() -> None:
    trainer, seen = Engine(nothing), []
    LambdaStateScheduler(lambda step: [step, -step], "pair", create_new=True).attach(trainer, Events.ITERATION_STARTED)
    assert trainer.state.pair is None
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: seen.append(engine.state.pair))
    trainer.run(range(3))

    assert seen == [[1, -1], [2, -2], [3, -3]]


def test_any_curve_is_written_and_told_beforehand() -> None:
    trainer = Engine(nothing)
    curve = cosine(1.0, 0.0, 10)
    scheduler = StateParamScheduler("decay", create_new=True, save_history=True, curve=curve)
    scheduler.attach(trainer)
    ahead = scheduler.next_values(6)
    trainer.run(range(6))

    assert ahead == [curve(t) for t in range(1, 7)] == trainer.state.param_history["decay"]
    assert (scheduler.get_param(), scheduler.event_index) == (curve(6), 6)


def test_a_new_name_must_be_new_and_another_is_told_of() -> None:
    trainer = Engine(nothing)
    ExpStateScheduler(1.0, 0.5, "alpha", create_new=True).attach(trainer)

    with pytest.raises(ValueError, match="the state has an attribute 'alpha' already"):
        ExpStateScheduler(1.0, 0.5, "alpha", create_new=True).attach(trainer)
    with pytest.warns(UserWarning, match="the state has no attribute 'beta' yet, it is created"):
        ExpStateScheduler(1.0, 0.5, "beta").attach(trainer)
    ExpStateScheduler(1.0, 0.5, "alpha").attach(trainer)


@pytest.mark.parametrize("name", ["iteration", "epoch_length", "metrics", "times"])
def test_what_the_engine_needs_itself_is_not_written(name: str) -> None:
    with pytest.raises(ValueError, match=f"param_name='{name}' is an attribute of the engine"):
        ExpStateScheduler(1.0, 0.5, name).attach(Engine(nothing))


def test_history_is_kept_also_where_attach_was_not_used() -> None:
    """There, that is an AttributeError in the first event."""
    trainer = Engine(nothing)
    scheduler = StepStateScheduler(1.0, 0.5, 2, "alpha", save_history=True)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, scheduler)
    trainer.run([0], max_epochs=3)

    assert trainer.state.param_history == {"alpha": [1.0, 0.5, 0.5]}


def test_a_subclass_overrides_get_param() -> None:
    class Squares(StateParamScheduler):
        def get_param(self) -> int:
            return self.event_index**2

        @classmethod
        def simulate_values(cls, num_events: int, **kwargs: Any) -> list[list[Any]]:
            return super().simulate_values(num_events, **kwargs)

    trainer = Engine(nothing)
    scheduler = Squares("alpha", create_new=True)
    scheduler.attach(trainer)

    assert scheduler.next_values(3) == [1, 4, 9]
    assert trainer.run(range(3)).alpha == 9
    assert Squares.simulate_values(2, param_name="alpha") == [[0, 1], [1, 4]]


def loader_of(length: int, batch_size: int, **kwargs: Any) -> Any:
    return DataLoader(TensorDataset(torch.arange(length)), batch_size, **kwargs)


def run(trainer_of: Callable[[list[Any]], Engine], loader: Any, **kwargs: Any) -> list[list[int]]:
    """The batches of each epoch."""
    seen: list[Any] = []
    trainer = trainer_of(seen)
    trainer.run(loader, **kwargs)
    return seen


def trainer_with(scheduler: Any, seen: list[Any]) -> Engine:
    trainer = Engine(lambda engine, batch: seen.append((engine.state.epoch, batch[0].tolist())))
    scheduler.attach(trainer)
    return trainer


@pytest.mark.parametrize("workers", [0, pytest.param(2, id="2 workers")])
def test_each_epoch_is_one_pass_in_batches_of_its_own_size(workers: int) -> None:
    """There, an epoch keeps its number of batches: it takes more than one pass, or less."""
    loader, seen = loader_of(12, 2, num_workers=workers), []
    trainer = trainer_with(BatchSizeScheduler(loader, lambda epoch: 2 + 2 * epoch, save_history=True), seen)
    trainer.run(loader, max_epochs=3)

    for epoch, size in ((1, 2), (2, 4), (3, 6)):
        batches = [batch for number, batch in seen if number == epoch]
        assert [len(batch) for batch in batches] == [size] * (12 // size)
        assert list(itertools.chain(*batches)) == list(range(12))
    assert trainer.state.param_history == {"batch_size": [2, 4, 6]}
    assert trainer.state.epoch_length == 2


def test_an_epoch_length_of_the_user_stays() -> None:
    loader, seen = loader_of(12, 2), []
    trainer = trainer_with(BatchSizeScheduler(loader, lambda epoch: 2 + epoch), seen)
    trainer.run(loader, max_epochs=2, epoch_length=5)

    assert [epoch for epoch, _ in seen] == [1] * 5 + [2] * 5


@pytest.mark.parametrize("cut", range(1, 9))
def test_a_seeded_run_with_changing_batches_resumes_at_every_cut(cut: int) -> None:
    def make() -> tuple[Engine, Any, Any, list[Any]]:
        loader, seen = loader_of(12, 3, shuffle=True), []
        scheduler = BatchSizeScheduler(loader, lambda epoch: 3 + epoch)
        return trainer_with(scheduler, seen), scheduler, loader, seen

    trainer, scheduler, loader, whole = make()
    states = []
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED(once=cut, priority=-50),
        lambda engine: states.append(copy.deepcopy((engine.state_dict(), scheduler.state_dict()))),
    )
    trainer.run(loader, max_epochs=3, seed=0)

    resumed, other, data, rest = make()
    resumed.load_state_dict(states[0][0])
    other.load_state_dict(states[0][1])
    resumed.run(data, max_epochs=3)

    assert rest == whole[cut:]


def test_batch_sizes_are_told_beforehand() -> None:
    loader = loader_of(12, 2)
    scheduler = BatchSizeScheduler(loader, lambda epoch: 2 + epoch)

    assert scheduler.next_values(3) == [2, 3, 4]
    assert loader.batch_sampler.batch_size == 2
    assert BatchSizeScheduler.simulate_values(3, scheduler_fn=lambda epoch: 2 + epoch) == [[0, 2], [1, 3], [2, 4]]


WRONG: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: BatchSizeScheduler([1, 2], lambda e: 1), TypeError, r"dataloader must be a DataLoader, got \[1, 2\]"),
    (lambda: BatchSizeScheduler(loader_of(3, None), lambda e: 1), ValueError, "must be a BatchSampler, got None"),
    (lambda: BatchSizeScheduler(loader_of(3, 1), 5), TypeError, "scheduler_fn must be callable, got 5"),
    (lambda: BatchSizeScheduler(loader_of(3, 1), lambda e: 0)(), ValueError, "a batch size must be at least 1, got 0"),
    (lambda: BatchSizeScheduler(loader_of(3, 1), lambda e: 2.0)(), TypeError, "must be an integer, got 2.0"),
    (lambda: BatchSizeScheduler.simulate_values(3), ValueError, "scheduler_fn is missing"),
    (lambda: LambdaStateScheduler(5, "alpha"), TypeError, "a curve must be callable"),
    (lambda: StateParamScheduler("alpha"), TypeError, "StateParamScheduler: there is nothing to write"),
    (lambda: StateParamScheduler(5, curve=linear(0.0, 1.0, 2)), TypeError, "param_name must be a string, got 5"),
    (lambda: StepStateScheduler(1.0, 0.5, 0, "alpha"), ValueError, "steps must be at least 1, got 0"),
    (lambda: ExpStateScheduler(1.0, 0.5, "alpha").attach("engine"), TypeError, "engine must be an Engine"),
    (lambda: BatchSizeScheduler(loader_of(3, 1), lambda e: 1).attach(None), TypeError, "engine must be an Engine"),
]


@pytest.mark.parametrize(("make", "kind", "message"), WRONG, ids=lambda one: one if isinstance(one, str) else "")
def test_what_is_wrong_is_told_at_once(make: Callable[[], Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        make()
