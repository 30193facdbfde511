"""What schedulers write, step by step: as pytorch-ignite where that is right, and as was said beforehand."""

import copy
import pickle
from typing import Any

import pytest
import torch

from ignite_core import handlers as ours
from ignite_core.engine import Engine, Events
from ignite_core.handlers.schedules.curves import cosine, linear
from tests.handlers.schedules.tables import MAKES, STATE_MAKES, optimizer_of

theirs = pytest.importorskip("ignite.handlers")

STEPS = 40


def written(scheduler: Any, optimizer: Any, steps: int = STEPS, engine: Any = None) -> list[float]:
    values = []
    for _ in range(steps):
        scheduler(engine)
        values.append(optimizer.param_groups[0]["lr"])
    return values


@pytest.mark.parametrize("kind", MAKES)
def test_the_values_are_those_of_pytorch_ignite_at_each_step(kind: str) -> None:
    own, other = optimizer_of(), optimizer_of()

    values = written(MAKES[kind](ours, own), own)

    assert values == pytest.approx(written(MAKES[kind](theirs, other), other), rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("kind", MAKES)
def test_what_was_said_beforehand_is_written_and_looking_changes_nothing(kind: str) -> None:
    optimizer = optimizer_of()
    scheduler = MAKES[kind](ours, optimizer)

    ahead = scheduler.next_values(STEPS)
    single = [scheduler.value_at(index) for index in range(STEPS)]

    assert (scheduler.event_index, optimizer.param_groups[0]["lr"]) == (0, 0.8)
    values = []
    for index in range(STEPS):
        assert scheduler.get_param() == ahead[index]
        assert scheduler.next_values(3) == [scheduler.value_at(index + skip) for skip in range(3)]
        scheduler(None)
        values.append(optimizer.param_groups[0]["lr"])
    assert values == ahead == single == [scheduler.value_at(index) for index in range(STEPS)]
    assert scheduler.event_index == STEPS


@pytest.mark.parametrize("kind", MAKES)
def test_a_scheduler_goes_on_from_its_state_at_every_cut(kind: str) -> None:
    optimizer = optimizer_of()
    scheduler = MAKES[kind](ours, optimizer)
    values, states = [], []
    for _ in range(STEPS):
        states.append(pickle.loads(pickle.dumps(scheduler.state_dict())))
        scheduler(None)
        values.append(optimizer.param_groups[0]["lr"])

    for cut, state in enumerate(states):
        fresh = optimizer_of()
        resumed = MAKES[kind](ours, fresh)
        written(resumed, fresh, steps=(7 * cut) % 11)  # wherever it was before
        resumed.load_state_dict(state)
        assert resumed.event_index == cut
        assert written(resumed, fresh, STEPS - cut) == values[cut:]


@pytest.mark.parametrize("kind", MAKES)
def test_a_scheduler_goes_on_from_a_state_of_pytorch_ignite_at_every_cut(kind: str) -> None:
    optimizer = optimizer_of()
    scheduler = MAKES[kind](theirs, optimizer)
    values, states = [], []
    for _ in range(STEPS):
        states.append(copy.deepcopy(scheduler.state_dict()))
        scheduler(None)
        values.append(optimizer.param_groups[0]["lr"])

    for cut, state in enumerate(states):
        fresh = optimizer_of()
        resumed = MAKES[kind](ours, fresh)
        resumed.load_state_dict(state)
        assert written(resumed, fresh, STEPS - cut) == pytest.approx(values[cut:], rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("kind", ["linear, warm-up", "cosine", "piecewise", "one point"])
def test_what_is_saved_is_one_integer(kind: str) -> None:
    optimizer = optimizer_of()
    scheduler = MAKES[kind](ours, optimizer)
    written(scheduler, optimizer, 13)

    assert scheduler.state_dict() == {"event_index": 13}


@pytest.mark.parametrize("kind", MAKES)
def test_a_copy_and_a_pickle_go_on_by_themselves(kind: str) -> None:
    optimizer = optimizer_of()
    scheduler = MAKES[kind](ours, optimizer)
    written(scheduler, optimizer, 6)
    ahead = scheduler.next_values(10)

    for other in (copy.deepcopy(scheduler), pickle.loads(pickle.dumps(scheduler))):
        assert written(other, _optimizer_in(other), 10) == ahead
    assert scheduler.event_index == 6


def _optimizer_in(scheduler: Any) -> Any:
    return scheduler.optimizer


@pytest.mark.parametrize("kind", ["linear, multipliers", "cosine, warm-up", "piecewise"])
def test_simulated_values_are_those_of_pytorch_ignite(kind: str) -> None:
    arguments: dict[str, dict[str, Any]] = {
        "linear, multipliers": {"start_value": 1.0, "end_value": 0.5, "cycle_size": 4, "start_value_mult": 0.9},
        "cosine, warm-up": {"start_value": 0.9, "end_value": 0.1, "cycle_size": 5, "warmup_duration": 2},
        "piecewise": {"milestones_values": [(2, 0.5), (6, 0.45), (6, 0.3)]},
    }
    name = {"linear": "LinearCyclicalScheduler", "cosine": "CosineAnnealingScheduler", "piecewise": "PiecewiseLinear"}
    kwargs = {"param_name": "lr", **arguments[kind]}
    which = name[kind.split(",")[0]]

    rows = getattr(ours, which).simulate_values(20, optimizer=None, save_history=True, **kwargs)

    expected = getattr(theirs, which).simulate_values(20, **copy.deepcopy(kwargs))
    assert [row[0] for row in rows] == list(range(20))
    assert [row[1] for row in rows] == pytest.approx([row[1] for row in expected], rel=1e-12)


@pytest.mark.parametrize("kind", STATE_MAKES)
def test_the_values_in_the_state_are_those_of_pytorch_ignite_at_each_epoch(kind: str) -> None:
    ignite_engine = pytest.importorskip("ignite.engine")
    seen: dict[str, list[Any]] = {"ours": [], "theirs": []}
    for name, handlers, engines in (("ours", ours, (Engine, Events)), ("theirs", theirs, _both(ignite_engine))):
        make_engine, events = engines
        trainer = make_engine(lambda engine, batch: None)
        scheduler = STATE_MAKES[kind](handlers)
        scheduler.attach(trainer, events.EPOCH_COMPLETED)
        trainer.add_event_handler(
            events.EPOCH_COMPLETED, lambda engine, name=name: seen[name].append(engine.state.alpha)
        )
        trainer.run([0], max_epochs=15)

    assert seen["ours"] == pytest.approx(seen["theirs"], rel=1e-12)
    assert STATE_MAKES[kind](ours).next_values(15) == seen["ours"]


def _both(module: Any) -> tuple[Any, Any]:
    return module.Engine, module.Events


@pytest.mark.parametrize("library", ["ours", "theirs"])
@pytest.mark.parametrize("kind", STATE_MAKES)
def test_a_state_scheduler_goes_on_from_its_state_at_every_cut(kind: str, library: str) -> None:
    engine = Engine(lambda engine, batch: None)
    scheduler = STATE_MAKES[kind](ours if library == "ours" else theirs)
    values, states = [], []
    for _ in range(15):
        states.append(copy.deepcopy(scheduler.state_dict()))
        scheduler(engine)
        values.append(engine.state.alpha)

    for cut, state in enumerate(states):
        resumed = STATE_MAKES[kind](ours)
        resumed.load_state_dict(state)
        assert resumed.next_values(15 - cut) == values[cut:]
    if library == "ours":
        assert states[3] == {"event_index": 3}


def test_all_groups_or_one_are_written() -> None:
    optimizer = optimizer_of(3)
    ours.PiecewiseLinear(optimizer, "lr", [(0, 0.5)], param_group_index=1)()
    ours.PiecewiseLinear(optimizer, "momentum", [(0, 0.25)])()

    assert [(group["lr"], group["momentum"]) for group in optimizer.param_groups] == [
        (0.8, 0.25),
        (0.5, 0.25),
        (0.2, 0.25),
    ]


def test_two_groups_follow_their_own_curves() -> None:
    optimizer = optimizer_of(2)
    scheduler = ours.ParamScheduler(optimizer, "lr", curve=[linear(1.0, 0.0, 4), cosine(0.1, 0.0, 4)])
    group = ours.ParamGroupScheduler(
        [
            ours.ParamScheduler(optimizer_of(2), "lr", param_group_index=0, curve=linear(1.0, 0.0, 4)),
            ours.ParamScheduler(optimizer_of(2), "lr", param_group_index=1, curve=cosine(0.1, 0.0, 4)),
        ]
    )
    expected = [[linear(1.0, 0.0, 4)(t), cosine(0.1, 0.0, 4)(t)] for t in range(6)]

    assert scheduler.next_values(6) == group.next_values(6) == expected
    for values in expected:
        scheduler()
        assert [one["lr"] for one in optimizer.param_groups] == values


@pytest.mark.parametrize("cut", range(12))
def test_groups_side_by_side_go_on_from_their_state(cut: int) -> None:
    def make(library: Any) -> tuple[Any, Any]:
        optimizer = optimizer_of(2)
        first = library.LinearCyclicalScheduler(optimizer, "lr", 1.0, 0.0, 4, param_group_index=0)
        second = library.PiecewiseLinear(optimizer, "lr", [(2, 0.1), (9, 0.0)], param_group_index=1)
        return library.ParamGroupScheduler([first, second], ["body", "head"]), optimizer

    expected = make(ours)[0].next_values(12)
    for library in (ours, theirs):
        scheduler, _ = make(library)
        for _ in range(cut):
            scheduler(None)
        resumed, fresh = make(ours)
        resumed.load_state_dict(copy.deepcopy(scheduler.state_dict()))
        assert resumed.event_index == cut
        for values in expected[cut:]:
            resumed()
            assert [one["lr"] for one in fresh.param_groups] == values


def test_schedulers_of_several_groups_stand_one_after_another() -> None:
    optimizer = optimizer_of(2)
    warm = [
        ours.PiecewiseLinear(optimizer, "lr", [(0, 0.0), (2, end)], param_group_index=i)
        for i, end in enumerate((1.0, 0.5))
    ]
    both = ours.ParamGroupScheduler(warm)
    scheduler = ours.ConcatScheduler([both, ours.PiecewiseLinear(optimizer, "lr", [(0, 0.3)])], [3])

    assert scheduler.next_values(5) == [[0.0, 0.0], [0.5, 0.25], [1.0, 0.5], 0.3, 0.3]
    for expected in ([0.0, 0.0], [0.5, 0.25], [1.0, 0.5], [0.3, 0.3]):
        scheduler()
        assert [group["lr"] for group in optimizer.param_groups] == expected
    assert both.event_index == 3


def test_the_optimizer_may_load_a_state_and_get_groups_in_between() -> None:
    """``load_state_dict`` of an optimizer puts other groups in place of those that were there."""
    optimizer = optimizer_of()
    scheduler = ours.PiecewiseLinear(optimizer, "lr", [(0, 1.0), (4, 0.0)])
    scheduler()
    optimizer.load_state_dict(optimizer.state_dict())
    scheduler()
    optimizer.add_param_group({"params": [torch.zeros(1)]})
    scheduler()

    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.5]


def test_a_tensor_in_the_optimizer_is_filled_in_place() -> None:
    optimizer = torch.optim.Adam([torch.zeros(1, requires_grad=True)], lr=torch.tensor(0.5), capturable=False)
    kept = optimizer.param_groups[0]["lr"]
    scheduler = ours.PiecewiseLinear(optimizer, "lr", [(0, 1.0), (4, 0.0)], save_history=True)
    engine = Engine(lambda engine, batch: None)
    for expected in (1.0, 0.75, 0.5):
        scheduler(engine)
        assert optimizer.param_groups[0]["lr"] is kept
        assert kept.item() == expected
    assert engine.state.param_history == {"lr": [[1.0], [0.75], [0.5]]}


def test_groups_that_share_a_tensor_are_told_of() -> None:
    shared = torch.optim.Adam([{"params": [torch.zeros(1)]}, {"params": [torch.zeros(1)]}], lr=torch.tensor(0.5))

    with pytest.raises(ValueError, match=r"share one tensor as 'lr'.*group\['lr'\].clone\(\)"):
        ours.PiecewiseLinear(shared, "lr", [(0, 1.0)], param_group_index=0)
    with pytest.raises(ValueError, match="share one tensor"):
        ours.ParamScheduler(shared, "lr", curve=[linear(1.0, 0.0, 4), linear(0.5, 0.0, 4)])
    for group in shared.param_groups:
        group["lr"] = group["lr"].clone()
    ours.PiecewiseLinear(shared, "lr", [(0, 1.0)], param_group_index=0)()
    assert [group["lr"].item() for group in shared.param_groups] == [1.0, 0.5]


def test_of_betas_a_number_is_the_first_and_a_tuple_all() -> None:
    optimizer = torch.optim.Adam([torch.zeros(1, requires_grad=True)])
    ours.ParamScheduler(optimizer, "betas", curve=linear(0.9, 0.5, 2))()
    assert optimizer.param_groups[0]["betas"] == (0.9, 0.999)
    ours.ParamScheduler(optimizer, "betas", curve=lambda step: (0.8, 0.99))()
    assert optimizer.param_groups[0]["betas"] == (0.8, 0.99)
    optimizer.step()


def test_the_history_is_that_of_pytorch_ignite() -> None:
    ignite_engine = pytest.importorskip("ignite.engine")
    histories = []
    for handlers, make_engine in ((ours, Engine), (theirs, ignite_engine.Engine)):
        optimizer = optimizer_of(2)
        engine = make_engine(lambda engine, batch: None)
        all_groups = handlers.LinearCyclicalScheduler(optimizer, "lr", 1.0, 0.5, 4, save_history=True)
        one = handlers.PiecewiseLinear(optimizer, "momentum", [(0, 0.5), (4, 0.1)], True, 1)
        pair = handlers.ParamGroupScheduler(
            [
                handlers.PiecewiseLinear(optimizer, "lr", [(0, 0.5)], param_group_index=0),
                handlers.PiecewiseLinear(optimizer, "lr", [(0, 0.6)], param_group_index=1),
            ],
            ["body", "head"],
            save_history=True,
        )
        for _ in range(3):
            all_groups(engine)
            one(engine, "beta")
            pair(engine)
        histories.append(dict(engine.state.param_history))

    assert histories[0] == {key: [pytest.approx(row) for row in rows] for key, rows in histories[1].items()}
    assert histories[0]["lr"] == [[1.0, 1.0], [0.75, 0.75], [0.5, 0.5]]


def test_the_history_of_schedulers_of_one_name_has_one_entry_an_event() -> None:
    """pytorch-ignite appends an entry for each of them, so that groups and events cannot be told apart."""
    optimizer, engine = optimizer_of(2), Engine(lambda engine, batch: None)
    parts = [
        ours.PiecewiseLinear(optimizer, "lr", [(0, value)], param_group_index=i) for i, value in enumerate((0.5, 0.6))
    ]
    scheduler = ours.ParamGroupScheduler(parts, save_history=True)
    scheduler(engine)
    scheduler(engine)

    assert engine.state.param_history == {"lr": [[0.5, 0.6], [0.5, 0.6]]}


def test_a_concatenation_records_each_event_once() -> None:
    optimizer, engine = optimizer_of(), Engine(lambda engine, batch: None)
    inner = MAKES["concat of concat"](ours, optimizer)
    inner.save_history = True
    values = written(inner, optimizer, 20, engine)

    assert engine.state.param_history == {"lr": [[value] for value in values]}


def test_without_history_the_state_has_none() -> None:
    engine = Engine(lambda engine, batch: None)
    ours.LinearCyclicalScheduler(optimizer_of(), "lr", 1.0, 0.5, 4)(engine)

    assert not hasattr(engine.state, "param_history")


@pytest.mark.parametrize(
    "attach",
    [
        lambda trainer, scheduler: scheduler.attach(trainer),
        lambda trainer, scheduler: trainer.add_event_handler(Events.ITERATION_STARTED, scheduler),
        lambda trainer, scheduler: trainer.on(Events.ITERATION_STARTED)(scheduler),
    ],
    ids=["attach", "add_event_handler", "on"],
)
def test_attached_to_the_start_of_an_iteration_the_step_sees_the_value(attach: Any) -> None:
    optimizer, seen = optimizer_of(), []
    trainer = Engine(lambda engine, batch: seen.append(optimizer.param_groups[0]["lr"]))
    attach(trainer, ours.LinearCyclicalScheduler(optimizer, "lr", 0.0, 1.0, 4))
    trainer.run(range(3), max_epochs=2)

    assert seen == [0.0, 0.5, 1.0, 0.5, 0.0, 0.5]


def test_events_with_filters_count_as_steps_only_where_they_are_due() -> None:
    optimizer, seen = optimizer_of(), []
    trainer = Engine(lambda engine, batch: seen.append(optimizer.param_groups[0]["lr"]))
    scheduler = ours.LinearCyclicalScheduler(optimizer, "lr", 0.0, 1.0, 4)
    scheduler.attach(trainer, Events.ITERATION_STARTED(every=2) | Events.EPOCH_STARTED)
    trainer.run(range(4))

    assert seen == [0.0, 0.5, 0.5, 1.0]
    assert scheduler.event_index == 3
