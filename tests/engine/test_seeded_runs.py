"""What ``run(seed=…)`` means: which numbers repeat, which seed counts, and what a saved state holds."""

from __future__ import annotations

import contextlib
import copy
import io
import random
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from ignite_core.engine import DeterministicEngine, Engine, Events
from tests.engine.scripts import Script, loader, one_thread
from tests.engine.tracing import at

one_thread = pytest.fixture(autouse=True)(one_thread)


def drawing(kind: type[Engine] = Engine) -> tuple[Engine, list[Any]]:
    """An engine whose step notes its batch and draws."""
    drawn: list[Any] = []

    def step(engine: Engine, batch: Any) -> None:
        drawn.append((str(batch), random.random(), np.random.rand(), torch.rand(1).item()))

    return kind(step), drawn


def draws(**run: Any) -> list[Any]:
    engine, drawn = drawing()
    engine.run(loader(), max_epochs=2, **run)
    return drawn


# ------------------------------------------------------------------------------------------------------- the same again


def test_the_same_seed_gives_the_same_run_and_another_one_another() -> None:
    assert draws(seed=1) == draws(seed=1)
    assert not set(draws(seed=1)) & set(draws(seed=2))


def test_without_a_seed_a_run_draws_on() -> None:
    assert draws() != draws()


def test_each_epoch_has_numbers_of_its_own() -> None:
    drawn = draws(seed=1)

    assert len({numbers for _, *rest in drawn for numbers in rest}) == 3 * len(drawn)


def test_handlers_of_any_event_draw_the_same_again() -> None:
    def noted() -> list[float]:
        seen: list[float] = []
        engine, _ = drawing()
        for event in (Events.STARTED, Events.EPOCH_STARTED, Events.GET_BATCH_COMPLETED, Events.EPOCH_COMPLETED):
            engine.add_event_handler(event, lambda: seen.append(random.random()))
        engine.run(loader(), max_epochs=2, seed=1)
        return seen

    assert noted() == noted()


@pytest.mark.parametrize("seed", [0, -3, 2**40, 2**64 - 1, np.int64(7)])
def test_any_integer_is_a_seed(seed: Any) -> None:
    assert draws(seed=seed) == draws(seed=seed)


@pytest.mark.parametrize("seed", [1.0, "1", True])
def test_nothing_else_is_a_seed(seed: Any) -> None:
    with pytest.raises(TypeError, match="seed must be an integer, got"):
        draws(seed=seed)


def test_a_seed_that_no_state_could_hold_is_refused() -> None:
    with pytest.raises(ValueError, match="seed must fit into 64 bits, got one of 71"):
        draws(seed=2**70)


# ---------------------------------------------------------------------------------------------------- which seed counts


def test_the_seed_is_kept_in_the_state_which_decides() -> None:
    engine, drawn = drawing()
    engine.run(loader(), seed=1)
    assert engine.state.seed == 1
    engine.run(loader())

    assert drawn[:4] == drawn[4:]
    engine.state.seed = None
    engine.run(loader())
    assert drawn[8:] != drawn[:4]


def test_another_seed_for_a_run_that_goes_on_is_an_error() -> None:
    engine, _ = drawing()
    engine.run(loader(), seed=1)

    with pytest.raises(ValueError, match="seed=2 differs from the seed 1 of the run that goes on"):
        engine.run(loader(), max_epochs=2, seed=2)
    engine.run(loader(), max_epochs=2, seed=1)
    assert engine.state.epoch == 2


def test_a_loaded_run_takes_its_seed_along() -> None:
    engine, uncut = drawing()
    saved: list[Any] = []
    at(engine, Events.ITERATION_COMPLETED, 3, lambda: saved.append(engine.state_dict()))
    engine.run(loader(), max_epochs=2, seed=5)
    other, drawn = drawing()
    other.load_state_dict(saved[0])
    other.run(loader())

    assert other.state.seed == 5
    assert drawn == uncut[3:]


def test_a_deterministic_engine_is_an_engine_with_a_seed() -> None:
    one, drawn = drawing(DeterministicEngine)
    one.state.seed = 1
    one.run(loader(), max_epochs=2)

    assert drawn == draws(seed=1)


# ------------------------------------------------------------------------------------------------------------- pauses


def test_what_is_drawn_in_a_pause_does_not_matter() -> None:
    for event in (Events.GET_BATCH_STARTED, Events.ITERATION_STARTED, Events.ITERATION_COMPLETED, Events.EPOCH_STARTED):
        engine, drawn = drawing()
        at(engine, event, 2, engine.interrupt)
        engine.run(loader(), max_epochs=2, seed=1)
        random.random(), torch.rand(3), np.random.rand()
        engine.run(loader())

        assert drawn == draws(seed=1), event


def test_saved_in_a_pause_it_goes_on_from_there() -> None:
    engine, drawn = drawing()
    at(engine, Events.ITERATION_STARTED, 3, engine.interrupt)
    engine.run(loader(), max_epochs=2, seed=1)
    torch.rand(3)
    other, rest = drawing()
    other.load_state_dict(engine.state_dict())
    other.run(loader())

    assert drawn + rest == draws(seed=1)


# ------------------------------------------------------------------------------------------------------ what is saved


@pytest.mark.parametrize(
    ("event", "k"),
    [
        (Events.STARTED, 1),
        (Events.EPOCH_STARTED, 2),
        (Events.GET_BATCH_STARTED, 6),
        (Events.GET_BATCH_COMPLETED, 6),
        (Events.ITERATION_STARTED, 6),
        (Events.ITERATION_COMPLETED, 6),
        (Events.DATALOADER_STOP_ITERATION, 1),
        (Events.EPOCH_COMPLETED, 1),
    ],
    ids=str,
)
def test_saved_at_any_event_the_run_goes_on_exactly(event: Any, k: int) -> None:
    """Saved after the other handlers of the event: those that follow a save are not made up for."""
    whole = Script()
    whole.trainer.run(loader(), max_epochs=3, seed=1)
    script, file = Script(), io.BytesIO()
    at(
        script.trainer,
        event(priority=-100),
        k,
        lambda: torch.save({name: one.state_dict() for name, one in script.to_save.items()}, file),
    )
    script.trainer.run(loader(), max_epochs=3, seed=1)
    resumed = Script()
    file.seek(0)
    for name, state in torch.load(file, weights_only=True).items():
        resumed.to_save[name].load_state_dict(state)
    resumed.trainer.run(loader())

    assert resumed.losses == whole.losses[-len(resumed.losses) :]
    assert len(resumed.losses) in (12, 8, 7, 6)
    assert all(map(torch.equal, resumed.model.state_dict().values(), whole.model.state_dict().values()))


def test_an_iteration_whose_step_raised_is_run_as_a_whole() -> None:
    """What a checkpoint of EXCEPTION_RAISED holds."""
    engine, drawn = drawing()
    at(engine, Events.ITERATION_STARTED, 6, lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        engine.run(loader(), max_epochs=2, seed=1)
    other, rest = drawing()
    other.load_state_dict(engine.state_dict())
    other.run(loader())

    assert drawn + rest == draws(seed=1)


def test_a_batch_that_could_not_be_made_is_made_again() -> None:
    broken = [True]

    class Breaking(torch.utils.data.Dataset[int]):
        def __len__(self) -> int:
            return 12

        def __getitem__(self, index: int) -> int:
            if broken[0] and random.random() < 0.2:
                raise OSError("disk")
            return index

    data = DataLoader(Breaking(), batch_size=2, shuffle=True)
    engine, drawn = drawing()
    with pytest.raises(OSError, match="disk"):
        engine.run(data, max_epochs=3, seed=1)
    broken[0] = False
    other, rest = drawing()
    other.load_state_dict(engine.state_dict())
    other.run(data)

    assert 0 < len(drawn) < 18
    assert len(drawn + rest) == 18
    whole, uncut = drawing()
    whole.run(data, max_epochs=3, seed=1)
    # the item that failed had drawn once more than those that are whole
    assert [batch for batch, *_ in drawn + rest] == [batch for batch, *_ in uncut]


def test_an_epoch_that_was_cut_begins_another_pass_whether_resumed_or_not() -> None:
    def run(cut: bool) -> list[Any]:
        engine, drawn = drawing()
        at(engine, Events.ITERATION_COMPLETED, 2, engine.terminate_epoch)
        at(engine, Events.EPOCH_COMPLETED, 1, engine.terminate if cut else lambda: None)
        engine.run(loader(), max_epochs=3, seed=1)
        if not cut:
            return drawn
        other, rest = drawing()
        other.load_state_dict(engine.state_dict())
        other.run(loader())
        return drawn + rest

    assert run(cut=True) == run(cut=False)


def test_new_data_set_under_way_is_seeded_too() -> None:
    def run() -> list[Any]:
        engine, drawn = drawing()
        at(engine, Events.ITERATION_COMPLETED, 2, lambda: engine.set_data(loader(batch_size=4)))
        engine.run(loader(), max_epochs=2, seed=1)
        return drawn

    assert run() == run()


def test_what_a_seeded_run_saves() -> None:
    engine, _ = drawing()
    at(engine, Events.ITERATION_COMPLETED, 6, engine.terminate)
    engine.run(loader(), max_epochs=2, seed=1)

    saved = engine.state_dict()
    assert {"epoch_length", "iteration", "max_epochs", "seed", "data_pass", "global_batch", "by_rank"} <= set(saved)
    assert (saved["seed"], saved["data_pass"], saved["global_batch"]) == (1, [2, 2], 5)
    (part,) = saved["by_rank"]
    assert (part["rank"], part["world_size"], sorted(part["rng"])) == (0, 1, ["numpy", "python", "torch"])


def same(one: Any, other: Any) -> bool:
    """Whether two nested states are equal, tensors included."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def test_saved_loaded_and_saved_again_nothing_has_changed() -> None:
    """R22, and however often it is loaded."""
    script = Script(accumulation=3)
    at(script.trainer, Events.ITERATION_COMPLETED, 5, script.trainer.terminate)
    script.trainer.run(loader(), max_epochs=3, seed=1)
    file = io.BytesIO()
    torch.save(script.trainer.state_dict(), file)
    saved = torch.load(io.BytesIO(file.getvalue()), weights_only=True)
    assert "step" in saved["by_rank"][0]

    again = Script(accumulation=3)
    again.trainer.load_state_dict(saved)
    random.random(), torch.rand(1)
    assert same(dict(again.trainer.state_dict()), dict(saved))

    others = {name: copy.deepcopy(one.state_dict()) for name, one in script.to_save.items()}
    runs = []
    for _ in range(2):
        for name, state in {**others, "trainer": saved}.items():
            again.to_save[name].load_state_dict(copy.deepcopy(state) if name != "trainer" else state)
        again.losses.clear()
        again.trainer.run(loader())
        runs.append(list(again.losses))
    assert runs[0] == runs[1]
    assert len(runs[0]) == 7
    assert same(dict(saved), dict(torch.load(io.BytesIO(file.getvalue()), weights_only=True)))


def test_what_one_rank_alone_saved_of_several_warns() -> None:
    engine, _ = drawing()
    at(engine, Events.ITERATION_COMPLETED, 2, engine.terminate)
    engine.run([0] * 4, seed=1)
    saved = dict(engine.state_dict())
    saved["by_rank"][0].update(world_size=1, rank=3)
    other, _ = drawing()
    other.load_state_dict(saved)

    with pytest.warns(UserWarning, match=r"what rank 0 of 1 had saved is missing, .* ranks \[3\] of 1") as caught:
        other.run([0] * 4)
    assert caught[0].filename == __file__


@pytest.mark.parametrize("kind", [Engine, DeterministicEngine])
@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("trainer_seed", [None, 5])
def test_a_seeded_run_inside_another_one_leaves_the_generators_of_that_alone(kind, fails, trainer_seed):
    def run(evaluates: bool) -> list[Any]:
        (trainer, drawn), (evaluator, _) = drawing(), drawing(kind)
        if fails:
            evaluator.add_event_handler(Events.EPOCH_COMPLETED, lambda: 1 / 0)

        def validate() -> None:
            with contextlib.suppress(ZeroDivisionError):
                evaluator.run([1, 2], seed=None if kind is DeterministicEngine else 0)

        if evaluates:
            trainer.add_event_handler(Events.ITERATION_COMPLETED(every=2), validate)
        torch.manual_seed(0), random.seed(0), np.random.seed(0)
        trainer.run(range(6), seed=trainer_seed)
        return drawn

    assert run(evaluates=True) == run(evaluates=False)
