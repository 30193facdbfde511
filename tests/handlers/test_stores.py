"""All outputs of an epoch are kept, in order, and those of another epoch are not."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from ignite_core.engine import Engine, Events
from ignite_core.handlers import EpochOutputStore


def doubling() -> Engine:
    return Engine(lambda engine, batch: 2 * batch)


def test_an_epoch_has_its_own_list_and_the_list_of_the_one_before_stays() -> None:
    engine, store = doubling(), EpochOutputStore()
    store.attach(engine, "outputs")
    seen = []
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda: seen.append(engine.state.outputs))

    engine.run(iter([1, 2, 3, 4]), max_epochs=2, epoch_length=2)

    assert seen == [[2, 4], [6, 8]]
    assert store.data is engine.state.outputs


def test_without_a_name_nothing_is_put_on_the_state() -> None:
    engine, store = doubling(), EpochOutputStore(lambda output: output + 1)
    store.attach(engine)

    engine.run([1, 2])

    assert store.data == [3, 5]
    assert not hasattr(engine.state, "outputs")


def test_one_store_may_serve_two_engines_in_turn_under_two_names() -> None:
    one, other, store = doubling(), doubling(), EpochOutputStore()
    store.attach(one, "first")
    store.attach(other, "second")

    one.run([1])
    other.run([2])

    assert (one.state.first, other.state.second) == ([2], [4])
    assert not hasattr(one.state, "second")


def test_outputs_are_kept_as_they_are() -> None:
    output = torch.ones(2, requires_grad=True) * 2
    engine, store = Engine(lambda engine, batch: output), EpochOutputStore()
    store.attach(engine)

    engine.run([0])

    assert store.data[0] is output


def test_a_store_that_is_loaded_goes_on_inside_the_epoch_and_is_emptied_at_the_next() -> None:
    engine, store = doubling(), EpochOutputStore()
    store.attach(engine, "outputs")
    store.load_state_dict({"data": [2, 4]})
    engine.load_state_dict({"iteration": 2, "epoch_length": 3, "max_epochs": 2, "seed": 0})
    seen = []
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda: seen.append(engine.state.outputs))

    engine.run([1, 2, 3])

    assert seen == [[2, 4, 6], [2, 4, 6]]
    assert seen[0] is not seen[1]

    engine.load_state_dict({"iteration": 2, "epoch_length": 3, "max_epochs": 1, "seed": 0})
    engine.run([1, 2, 3])
    assert seen[2] == [6]  # the store was not loaded this time


def test_a_store_that_is_loaded_at_the_end_of_an_epoch_begins_anew() -> None:
    engine, store = doubling(), EpochOutputStore()
    store.attach(engine)
    store.load_state_dict({"data": [2, 4, 6]})
    engine.load_state_dict({"iteration": 3, "epoch_length": 3, "max_epochs": 2})

    engine.run([1, 2, 3])

    assert store.data == [2, 4, 6]


@pytest.mark.parametrize(
    ("call", "error", "told"),
    [
        (lambda: EpochOutputStore(3), TypeError, "output_transform must be callable, got 3"),
        (lambda: EpochOutputStore().attach(3), TypeError, "engine must be an Engine, got 3"),
        (lambda: EpochOutputStore().attach(doubling(), 3), TypeError, "name must be a string, got 3"),
        (lambda: EpochOutputStore().store(doubling()), ValueError, "no name to store under"),
        (lambda: EpochOutputStore().load_state_dict({}), ValueError, r"'data' is missing, got \[\]"),
        (lambda: EpochOutputStore().load_state_dict({"data": 3}), TypeError, "data must be a list, got int"),
        (lambda: EpochOutputStore().load_state_dict(3), TypeError, "must be a mapping, got int"),
    ],
)
def test_wrong_arguments_are_told(call: Callable[[], Any], error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        call()
