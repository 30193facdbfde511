"""``assert_resumable`` passes what resumes exactly, and names what differs first where something was forgotten."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from ignite_core.engine import Engine, Events
from ignite_core.testing import assert_resumable
from tests.engine.scripts import Script, building, loader, one_thread

one_thread = pytest.fixture(autouse=True)(one_thread)

Built = tuple[Engine, dict[str, Any]]


def without(*names: str, **options: Any) -> Callable[[], Built]:
    def build() -> Built:
        script = Script(**options)
        return script.trainer, {name: one for name, one in script.to_save.items() if name not in names}

    return build


def test_a_script_that_saves_all_of_it_passes() -> None:
    assert_resumable(building(accumulation=2, amp=True), loader(2), max_epochs=2)


def test_cuts_may_be_chosen() -> None:
    assert_resumable(building(), loader(), [3, 5], max_epochs=2)


# ----------------------------------------------------------------------------------------- what was not saved is named


@pytest.mark.parametrize(
    ("forgotten", "first"),
    [
        (
            "schedule",
            r"cut after iteration 5 and resumed, at the end of epoch 2, optimizer\.param_groups\[0\]\.lr is 0\.009",
        ),
        ("optimizer", r"cut after iteration 5 and resumed, after iteration 6, model\."),
        ("model", r"cut after iteration 5 and resumed, after iteration 6, output"),
        ("loss", r"cut after iteration 5 and resumed, at the end of epoch 2, metrics\.loss"),
        ("running", r"cut after iteration 5 and resumed, after iteration 6, metrics\.running is"),
        ("trainer", r"went on with iterations \[1, 2, 3\] instead of 6: does build\(\) return the trainer"),
    ],
)
def test_what_was_forgotten_shows_where_it_does_first(forgotten: str, first: str) -> None:
    with pytest.raises(AssertionError, match=first):
        assert_resumable(without(forgotten), loader(), [5], max_epochs=3 if forgotten == "schedule" else 2)


def test_the_scaler_is_missed() -> None:
    def halve(engine: Engine) -> None:
        engine.state.scaler.update(engine.state.scaler.get_scale() / 2)

    def build() -> Built:
        trainer, to_save = without("scaler", amp=True)()
        trainer.add_event_handler(Events.ITERATION_COMPLETED(once=3), halve)
        trainer.add_event_handler(
            Events.ITERATION_COMPLETED,
            lambda engine: engine.state.metrics.update(scale=engine.state.scaler.get_scale()),
        )
        return trainer, to_save

    with pytest.raises(AssertionError, match=r"metrics\.scale is 65536\.0 instead of 32768\.0"):
        assert_resumable(build, loader(), [5], max_epochs=2)


class OwnGenerator(Dataset[Any]):
    """A dataset with a generator of its own: out of reach."""

    def __init__(self) -> None:
        self.generator = random.Random(0)

    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int) -> Any:
        return torch.full((3,), self.generator.random()), torch.tensor([float(index)])


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_generator_kept_inside_the_dataset_is_found(num_workers: int) -> None:
    def data() -> DataLoader[Any]:
        return loader(num_workers, OwnGenerator())

    with pytest.raises(AssertionError, match=r"cut after iteration 5 and resumed, after iteration [67], batch\[0\] is"):
        assert_resumable(building(), data, [5], max_epochs=2)


def test_a_dataset_that_goes_on_from_run_to_run_is_found_without_a_cut() -> None:
    with pytest.raises(AssertionError, match=r"a second run of the same script, uncut, after iteration 1, batch\[0\]"):
        assert_resumable(building(), loader(0, OwnGenerator()), max_epochs=2)


def test_weights_that_nobody_has_seeded_are_found_without_a_cut() -> None:
    def build() -> Built:
        script = Script()
        with torch.no_grad():
            script.model[0].weight.copy_(torch.randn(4, 3, generator=UNSEEDED))
        return script.trainer, script.to_save

    with pytest.raises(AssertionError, match="draws initial weights from generators without a seed"):
        assert_resumable(build, loader(), [1])


UNSEEDED = torch.Generator()


def test_a_run_without_a_seed_is_found() -> None:
    """The epoch is run again, so one iteration too many is seen, or another batch."""
    with pytest.raises(AssertionError, match="does not repeat itself, even uncut"):
        assert_resumable(building(), loader(), [2], max_epochs=2, seed=None)


def test_a_counter_of_a_handler_is_found() -> None:
    def build() -> Built:
        script = Script()
        seen: list[int] = []

        @script.trainer.on(Events.ITERATION_COMPLETED(priority=1))
        def shrink() -> None:
            seen.append(1)
            with torch.no_grad():
                script.model[0].weight.mul_(1 - 0.01 * len(seen))

        return script.trainer, script.to_save

    with pytest.raises(AssertionError, match=r"cut after iteration 2 and resumed, after iteration 3, model\.0\.weight"):
        assert_resumable(build, loader(), [2])


def test_what_is_saved_before_another_handler_of_the_event_is_no_concern() -> None:
    """It is saved when all of them have run, as a checkpoint should be."""

    def build() -> Built:
        script = Script()
        script.trainer.add_event_handler(
            Events.ITERATION_COMPLETED(priority=-1000), lambda: script.model[0].bias.data.mul_(0.9)
        )
        return script.trainer, script.to_save

    assert_resumable(build, loader(), [2])


# --------------------------------------------------------------------------------------------------- what cannot be


class Stubborn:
    """Saves something that no careful loader takes, or refuses what it saved."""

    def __init__(self, saves: Any, refuses: bool = False) -> None:
        self.saves = saves
        self.refuses = refuses

    def state_dict(self) -> dict[str, Any]:
        return {"it": self.saves}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if self.refuses:
            raise KeyError("it")


@pytest.mark.parametrize(
    ("stubborn", "message"),
    [
        (Stubborn(random.Random(0)), r"the state of 'own' does not load with torch\.load\(weights_only=True\)"),
        (Stubborn(1, refuses=True), r"cut after iteration 2, 'own' cannot load its saved state: KeyError\('it'\)"),
    ],
)
def test_what_cannot_be_saved_and_loaded_is_named(stubborn: Stubborn, message: str) -> None:
    def build() -> Built:
        trainer, to_save = building()()
        return trainer, {**to_save, "own": stubborn}

    with pytest.raises(AssertionError, match=message):
        assert_resumable(build, loader(), [2])


@pytest.mark.parametrize("cut_at", ["none", [0], [4], [True], [1.5], []])
def test_cuts_must_lie_inside_the_run(cut_at: Any) -> None:
    with pytest.raises(ValueError, match="cut_at must be 'all' or some of the iterations 1 to 3, got"):
        assert_resumable(building(), loader(), cut_at)


def test_every_kind_of_value_is_compared_by_its_bits() -> None:
    """Numbers that print alike are told apart; not-a-number is equal to itself."""
    one = nn.Parameter(torch.tensor([0.1, float("nan")], dtype=torch.float64))
    results: Iterator[Any] = iter([one, one.detach().clone(), one + 1e-19, one * (1 + 2**-52)])

    def build() -> Built:
        value = next(results)
        trainer = Engine(lambda engine, batch: {"values": [value.to(torch.float64)], "other": {1}})
        return trainer, {"trainer": trainer}

    assert_resumable(build, [0, 0], [1], epoch_length=2)
    results = iter([one, one * (1 + 2**-52)])
    with pytest.raises(AssertionError, match=r"output\.values\[0\] is a tensor of \(2,\), torch\.float64"):
        assert_resumable(build, [0, 0], [1], epoch_length=2)
