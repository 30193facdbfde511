"""Code written for pytorch-ignite: subclasses, where names are, and what is told when something is wrong."""

import copy
import importlib
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch

from ignite_core import handlers as ours
from ignite_core.engine import Engine, Events
from ignite_core.handlers import (
    BaseParamScheduler,
    ConcatScheduler,
    CosineAnnealingScheduler,
    CyclicalScheduler,
    LinearCyclicalScheduler,
    LRScheduler,
    ParamGroupScheduler,
    ParamScheduler,
    PiecewiseLinear,
)
from ignite_core.handlers.schedules.curves import constant, linear
from tests.handlers.schedules.tables import optimizer_of

theirs = pytest.importorskip("ignite.handlers")


def with_library(library: Any) -> dict[str, Any]:
    """Subclasses as users write them, of one library or the other."""

    class Halving(library.ParamScheduler):  # type: ignore[misc]
        def get_param(self) -> float:
            return 1.0 / 2**self.event_index

    class Each(library.ParamScheduler):  # type: ignore[misc]
        def get_param(self) -> list[float]:
            return [(1.0 + self.event_index) / (index + 1) for index in range(len(self.optimizer_param_groups))]

    class Saw(library.CyclicalScheduler):  # type: ignore[misc]
        def get_param(self) -> float:
            part = self.event_index / self.cycle_size
            value: float = self.start_value + (self.end_value - self.start_value) * part**2 + 100 * self.cycle
            return value

    class Doubled(library.LinearCyclicalScheduler):  # type: ignore[misc]
        def get_param(self) -> float:
            return 2 * super().get_param() + self.event_index / self.cycle_size

    class Walk(library.ParamScheduler):  # type: ignore[misc]
        """With something of its own to save."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.place = 0.5
            self._state_attrs += ["place"]

        def get_param(self) -> float:
            self.place = self.place * 0.75 + self.event_index % 3
            return self.place

    class Loud(library.PiecewiseLinear):  # type: ignore[misc]
        """With more to do at each call."""

        calls = 0

        def __call__(self, engine: Any, name: str | None = None) -> None:
            self.calls += 1
            super().__call__(engine, name)

    return {
        "halving": lambda opt: Halving(opt, "lr"),
        "one for each group": lambda opt: Each(opt, "lr"),
        "saw": lambda opt: Saw(opt, "lr", 1.0, 0.5, 4, 1.5, 0.9, 0.8, 2),
        "doubled": lambda opt: Doubled(opt, "lr", 1.0, 0.5, 4, start_value_mult=0.5),
        "walk": lambda opt: Walk(opt, "lr"),
        "loud": lambda opt: Loud(opt, "lr", [(0, 1.0), (5, 0.0)]),
    }


def table(scheduler: Any, optimizer: Any, steps: int) -> list[list[float]]:
    rows = []
    for _ in range(steps):
        scheduler(None)
        rows.append([group["lr"] for group in optimizer.param_groups])
    return rows


@pytest.mark.parametrize("kind", with_library(ours))
def test_a_subclass_writes_here_what_it_writes_there(kind: str) -> None:
    own, other = optimizer_of(2), optimizer_of(2)

    rows = table(with_library(ours)[kind](own), own, 20)

    expected = table(with_library(theirs)[kind](other), other, 20)
    assert rows == [pytest.approx(row) for row in expected]


@pytest.mark.parametrize("kind", [kind for kind in with_library(ours) if kind != "walk"])
def test_what_a_subclass_will_write_is_told_beforehand(kind: str) -> None:
    optimizer = optimizer_of(2)
    scheduler = with_library(ours)[kind](optimizer)
    ahead = scheduler.next_values(20)

    assert [group["lr"] for group in optimizer.param_groups] == [0.8, 0.4]
    rows = table(scheduler, optimizer, 20)
    assert [value if isinstance(value, list) else [value] * 2 for value in ahead] == rows


@pytest.mark.parametrize("kind", with_library(ours))
def test_a_subclass_goes_on_from_its_state_at_every_cut(kind: str) -> None:
    optimizer = optimizer_of(2)
    scheduler = with_library(ours)[kind](optimizer)
    rows, states = [], []
    for _ in range(15):
        states.append(copy.deepcopy(scheduler.state_dict()))
        rows += table(scheduler, optimizer, 1)

    for cut, state in enumerate(states):
        fresh = optimizer_of(2)
        resumed = with_library(ours)[kind](fresh)
        resumed.load_state_dict(state)
        assert table(resumed, fresh, 15 - cut) == rows[cut:]


def test_a_subclass_with_more_to_do_does_it_in_a_list_too() -> None:
    optimizer = optimizer_of()
    first, second = (with_library(ours)["loud"](optimizer) for _ in range(2))
    scheduler = ConcatScheduler([first, ParamGroupScheduler([second])], [3])
    table(scheduler, optimizer, 5)

    assert (first.calls, second.calls) == (3, 2)


def test_a_subclass_of_the_base_writes_where_it_likes() -> None:
    class Temperature(BaseParamScheduler):
        def __init__(self) -> None:
            super().__init__("temperature")
            self.box: dict[str, float] = {}

        def get_param(self) -> float:
            return 10.0 - self.event_index

        def __call__(self, engine: Engine) -> None:
            self.box[self.param_name] = self.get_param()
            self.event_index += 1

        @classmethod
        def simulate_values(cls, num_events: int, **kwargs: Any) -> list[list[Any]]:
            return [[index, 10.0 - index] for index in range(num_events)]

    trainer, scheduler = Engine(lambda engine, batch: None), Temperature()
    trainer.add_event_handler(Events.ITERATION_STARTED, scheduler)
    trainer.run(range(3))

    assert scheduler.box == {"temperature": 8.0}
    assert (scheduler.state_dict(), scheduler.next_values(2)) == ({"event_index": 3}, [7.0, 6.0])


@pytest.mark.parametrize(
    ("module", "there"),
    [
        ("param_scheduler", "ignite.handlers.param_scheduler"),
        ("state_param_scheduler", "ignite.handlers.state_param_scheduler"),
    ],
)
def test_every_name_is_where_it_is_there(module: str, there: str) -> None:
    own, other = importlib.import_module(f"ignite_core.handlers.{module}"), importlib.import_module(there)
    public = [
        name
        for name, value in vars(other).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == there
    ]

    assert set(public) <= set(own.__all__)
    for name in public:
        assert getattr(own, name) is getattr(ours, name)


def test_lists_of_schedulers_are_simulated_and_left_alone() -> None:
    optimizer = optimizer_of()
    first = PiecewiseLinear(optimizer, "lr", [(0, 0.0), (2, 1.0)], save_history=True)
    second = CosineAnnealingScheduler(optimizer, "lr", 1.0, 0.0, 4)
    rows = ConcatScheduler.simulate_values(5, [first, second], [3], param_names=["lr"])
    pair = ParamGroupScheduler.simulate_values(2, [first, second])

    assert [row[0] for row in rows] == list(range(5))
    assert [row[1] for row in rows] == pytest.approx([0.0, 0.5, 1.0, 1.0, 0.8535533905932737])
    assert pair == [[0, 0.0, 1.0], [1, 0.5, pytest.approx(0.8535533905932737)]]
    assert (first.event_index, second.event_index, optimizer.param_groups[0]["lr"]) == (0, 0, 0.8)
    assert (first.save_history, second.save_history) == (True, False)


def test_values_are_drawn_into_the_present_axes(monkeypatch: pytest.MonkeyPatch) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    plt = pytest.importorskip("matplotlib.pyplot")
    figure = plt.figure()
    try:
        kwargs = {"param_name": "lr", "start_value": 0.0, "end_value": 1.0, "cycle_size": 4}
        (line,) = LinearCyclicalScheduler.plot_values(5, **kwargs)
        torch_scheduler = torch.optim.lr_scheduler.StepLR(optimizer_of(2), 1, 0.5)
        lines = LRScheduler.plot_values(3, lr_scheduler=torch_scheduler)
        assert line.get_ydata().tolist() == [0.0, 0.5, 1.0, 0.5, 0.0]
        assert line.axes is figure.gca()
        assert [one.get_ydata().tolist() for one in lines] == [[0.8, 0.4, 0.2], [0.4, 0.2, 0.1]]
    finally:
        plt.close(figure)

    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ModuleNotFoundError, match=r"plot_values needs .*pip install 'ignite-core\[plot\]'"):
        LinearCyclicalScheduler.plot_values(5, **kwargs)


def _linear(**kwargs: Any) -> Any:
    arguments = {"optimizer": optimizer_of(), "param_name": "lr", "start_value": 1.0, "end_value": 0.0, "cycle_size": 4}
    return LinearCyclicalScheduler(**{**arguments, **kwargs})


def _points(points: Any, **kwargs: Any) -> Any:
    return PiecewiseLinear(optimizer_of(), "lr", points, **kwargs)


def _two(first: Any = None, second: Any = None, durations: Any = (3,)) -> Any:
    optimizer = optimizer_of()
    made = [one if one is not None else ParamScheduler(optimizer, "lr", curve=constant(0.1)) for one in (first, second)]
    return ConcatScheduler(made, list(durations) if isinstance(durations, tuple) else durations)


def _twice() -> Any:
    one = _linear()
    return ConcatScheduler([one, one], [3])


WRONG: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: _linear(optimizer=5), TypeError, "LinearCyclicalScheduler: optimizer must be a torch.optim.Optimizer"),
    (lambda: _linear(param_name="rate"), ValueError, r"param_name must be one of \['lr', .*got 'rate'"),
    (lambda: _linear(param_group_index=1), ValueError, "one of the 1 parameter groups, got 1"),
    (lambda: _linear(param_group_index=True), TypeError, "param_group_index must be an integer or None, got True"),
    (lambda: _linear(cycle_size=1), ValueError, "cycle_size must be at least 2, got 1"),
    (lambda: _linear(start_value="1"), TypeError, "start must be a number, got '1'"),
    (lambda: _linear(warmup_duration=2), ValueError, "warmup_duration needs monotonic=True"),
    (lambda: _linear(cycle_mult=-1.0), ValueError, "steps_mult must be above 0, got -1.0"),
    (lambda: CyclicalScheduler(optimizer_of(), "lr", 1.0, 0.0, 4), TypeError, "there is nothing to write"),
    (lambda: ParamScheduler(optimizer_of(), "lr"), TypeError, "give a curve, or override get_param"),
    (lambda: ParamScheduler(optimizer_of(), "lr", curve=0.1), TypeError, r"got 0.1; constant\(0.1\) is one"),
    (lambda: ParamScheduler(optimizer_of(2), "lr", curve=[constant(0.1)]), ValueError, "2 parameter groups, got 1"),
    (lambda: _points([(3, 1.0), (2, 0.0)]), ValueError, "the steps must increase"),
    (lambda: _two(durations=5), TypeError, "durations must be a list or tuple, got 5"),
    (lambda: _two(durations=(1, 2)), ValueError, r"2 schedulers need 1 durations, .*got \[1, 2\]"),
    (lambda: _two(durations=(-1,)), ValueError, "a duration must be at least 0, got -1"),
    (lambda: _two(durations=(1.5,)), TypeError, "a duration must be an integer, got 1.5"),
    (lambda: _two(first=_linear()), ValueError, "must write to the same optimizer"),
    (lambda: _two(second="x"), TypeError, "must be parameter schedulers, got 'x'"),
    (lambda: ConcatScheduler([_linear()], []), ValueError, "at least 2 schedulers, got 1"),
    (lambda: ConcatScheduler(5, []), TypeError, "schedulers must be a list or tuple, got 5"),
    (_twice, ValueError, "a scheduler may occur only once"),
    (lambda: ParamGroupScheduler([]), ValueError, "at least 1 schedulers, got 0"),
    (lambda: ParamGroupScheduler([_linear()], ["a", "b"]), ValueError, "one name for each of 1 schedulers"),
    (lambda: ParamGroupScheduler([_linear()], "a"), TypeError, "names must be a list of strings, got 'a'"),
    (lambda: ParamGroupScheduler([ParamGroupScheduler([_linear()])]), TypeError, "must be parameter schedulers"),
    (lambda: _linear().attach("engine"), TypeError, "attach: engine must be an Engine, got 'engine'"),
    (lambda: _linear().load_state_dict(5), TypeError, "state_dict must be a mapping, got int"),
    (lambda: _linear().load_state_dict({}), ValueError, "the key 'event_index' is missing, got"),
    (lambda: _linear().load_state_dict({"event_index": -1}), ValueError, "event_index must be at least 0, got -1"),
    (lambda: _linear().load_state_dict({"event_index": 1.0}), TypeError, "event_index must be an integer, got 1.0"),
    (lambda: _two().load_state_dict({"event_index": 1}), ValueError, "the key 'schedulers' is missing"),
    (
        lambda: _two().load_state_dict({"event_index": 1, "schedulers": [{"event_index": 1}]}),
        ValueError,
        "states for 2 schedulers, got 1",
    ),
    (
        lambda: ParamGroupScheduler([_linear()]).load_state_dict({"schedulers": [("x", {"event_index": 1})]}),
        ValueError,
        r"the names must be \['lr'\], got \['x'\]",
    ),
    (lambda: _linear().next_values(-1), ValueError, "count must be at least 0, got -1"),
    (lambda: ConcatScheduler.simulate_values(3, [_linear()], [], "lr"), TypeError, "must be a list of strings"),
]


@pytest.mark.parametrize(("make", "kind", "message"), WRONG, ids=range(len(WRONG)))
def test_what_is_wrong_is_told_at_once(make: Callable[[], Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        make()


def test_another_number_of_values_than_groups_is_told() -> None:
    class Three(ParamScheduler):
        def get_param(self) -> list[float]:
            return [0.1, 0.2, 0.3]

    with pytest.raises(ValueError, match=r"one value for each of the 2 parameter groups, got \[0.1, 0.2, 0.3\]"):
        Three(optimizer_of(2), "lr")()


def test_anything_with_parameter_groups_will_do() -> None:
    class Wrapped:
        def __init__(self) -> None:
            self.param_groups = [{"lr": 0.1}]

    wrapped = Wrapped()
    ParamScheduler(wrapped, "lr", curve=linear(1.0, 0.0, 4))()

    assert wrapped.param_groups == [{"lr": 1.0}]
