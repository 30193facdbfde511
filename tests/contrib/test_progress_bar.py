"""What a person sees: the last state of each bar, drawn to a file, on a clock that the test moves."""

from __future__ import annotations

import contextlib
import fractions
import io
import sys
from typing import Any

import pytest
import torch

from ignite_contrib.loggers import ProgressBar
from ignite_core.engine import Engine, Events
from ignite_core.metrics import RunningAverage

PLAIN = "{desc}{n_fmt}/{total_fmt}{postfix}"


class Screen:
    """A file for bars, and what stood on it."""

    def __init__(self) -> None:
        self.file = io.StringIO()
        self.now = 0.0

    def bar(self, **arguments: Any) -> ProgressBar:
        options = {"persist": True, "bar_format": PLAIN, "file": self.file, "clock": lambda: self.now, **arguments}
        return ProgressBar(**options)

    @property
    def drawn(self) -> list[str]:
        """Every state that was drawn, once each where it was drawn twice in a row."""
        states = [state.strip() for state in self.file.getvalue().replace("\n", "\r").split("\r")]
        return [one for one, before in zip(states, ["", *states], strict=False) if one and one != before]


@pytest.fixture
def screen() -> Screen:
    return Screen()


def echo() -> Engine:
    return Engine(lambda engine, batch: batch)


def test_each_epoch_has_a_bar_that_ends_full(screen: Screen) -> None:
    engine = echo()
    screen.bar().attach(engine, output_transform=lambda output: {"loss": output})
    engine.run([3.0, 2.0, 1.0], max_epochs=2)

    assert screen.drawn == [
        "Epoch [1/2]: 0/3",
        "Epoch [1/2]: 1/3, loss=3",
        "Epoch [1/2]: 3/3, loss=1",
        "Epoch [2/2]: 0/3",
        "Epoch [2/2]: 1/3, loss=3",
        "Epoch [2/2]: 3/3, loss=1",
    ]


def test_it_is_drawn_when_time_has_passed_and_not_in_between(screen: Screen) -> None:
    """Ten iterations of 40 ms each, a refresh every 100 ms: drawn at 0, 120, 240 and 360 ms, and at the end."""
    engine, reads = echo(), []
    screen.bar().attach(engine, output_transform=lambda output: reads.append(output) or output)

    @engine.on(Events.ITERATION_COMPLETED(priority=-1000))
    def time_passes() -> None:
        screen.now += 0.04

    engine.run(range(1, 11))

    assert reads == [1, 4, 7, 10, 10]
    assert screen.drawn[-1] == "Iteration: 10/10, output=10"


def test_metrics_are_shown_by_name_whoever_was_attached_first(screen: Screen) -> None:
    engine = echo()
    screen.bar().attach(engine, ["average"])
    RunningAverage(alpha=0.5, output_transform=lambda output: output).attach(engine, "average")
    RunningAverage(alpha=1.0, output_transform=lambda output: output).attach(engine, "first")
    engine.run([4.0])

    assert screen.drawn[-1] == "Iteration: 1/1, average=4"


def test_all_metrics_and_attributes_of_the_state_are_shown(screen: Screen) -> None:
    engine = echo()
    engine.state.alpha = 0.25
    screen.bar().attach(engine, "all", state_attributes=["alpha"])
    RunningAverage(output_transform=lambda output: output).attach(engine, "loss")
    engine.state.metrics["pair"] = torch.tensor([1.0, 2.0])
    engine.run([4.0])

    assert screen.drawn[-1] == "Iteration: 1/1, pair_0=1, pair_1=2, loss=4, alpha=0.25"


def test_a_metric_that_is_never_there_warns_once(screen: Screen) -> None:
    engine = echo()
    screen.bar().attach(engine, ["los"])

    with pytest.warns(UserWarning, match="no metric of this engine is called 'los'") as warned:
        engine.run([4.0], max_epochs=3)
    assert len(warned) == 1


def test_an_unknown_length_is_found_on_the_way(screen: Screen) -> None:
    engine = echo()
    screen.bar().attach(engine)
    engine.run(iter([1, 2]))

    assert screen.drawn == ["Iteration: 0/?", "Iteration: 1/?", "Iteration: 2/2"]


def test_a_bar_may_count_epochs(screen: Screen) -> None:
    engine = echo()
    screen.bar(desc="Training").attach(engine, event_name=Events.EPOCH_STARTED, closing_event_name=Events.COMPLETED)
    engine.run([1, 2], max_epochs=3)

    assert screen.drawn == ["Training: 0/3", "Training: 1/3", "Training: 3/3"]


def test_a_bar_may_count_the_iterations_of_the_whole_run(screen: Screen) -> None:
    engine = echo()
    screen.bar().attach(engine, event_name=Events.ITERATION_COMPLETED(every=2), closing_event_name=Events.COMPLETED)
    engine.run([1, 2, 3], max_epochs=2)

    assert screen.drawn == ["Iteration: 1/6", "Iteration: 2/6", "Iteration: 6/6"]


def test_a_resumed_epoch_starts_where_it_was_left(screen: Screen) -> None:
    engine = echo()
    engine.load_state_dict({"iteration": 7, "epoch_length": 5, "max_epochs": 2})
    screen.bar().attach(engine)
    engine.run([1, 2, 3, 4, 5], seed=0)

    assert screen.drawn == ["Epoch [2/2]: 2/5", "Epoch [2/2]: 3/5", "Epoch [2/2]: 5/5"]


def test_bars_of_a_trainer_and_its_evaluator_both_end(screen: Screen) -> None:
    trainer, evaluator = echo(), echo()
    screen.bar(desc="Train").attach(trainer)
    screen.bar(desc="Valid").attach(evaluator)
    trainer.add_event_handler(Events.ITERATION_COMPLETED(once=2), lambda: evaluator.run([1, 2, 3]))
    trainer.run([1, 2])

    assert [state for state in screen.drawn if "Valid" in state][-1].endswith("Valid: 3/3")
    assert screen.drawn[-1].endswith("Train: 2/2")


def _terminate(engine: Engine) -> None:
    engine.terminate(skip_completed=True)


def _fail(engine: Engine) -> None:
    raise ValueError("bad batch")


@pytest.mark.parametrize("leave", [_terminate, Engine.interrupt, _fail], ids=["terminate", "interrupt", "exception"])
def test_no_bar_is_left_open_when_a_run_is_left(screen: Screen, leave: Any) -> None:
    """A bar that stays ends with a line break, so that what is printed next stands on a line of its own."""
    engine = echo()
    screen.bar().attach(engine)
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=2), lambda: leave(engine))
    with contextlib.suppress(ValueError):
        engine.run([1, 2, 3])

    assert screen.file.getvalue().endswith("\n")


def test_a_bar_opens_again_after_a_pause(screen: Screen) -> None:
    engine = echo()
    screen.bar().attach(engine)
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=2), engine.interrupt)
    engine.run([1, 2, 3])
    engine.run([1, 2, 3])

    assert screen.drawn == ["Iteration: 0/3", "Iteration: 1/3", "Iteration: 2/3", "Iteration: 2/3", "Iteration: 3/3"]


def test_a_bar_that_is_detached_in_the_middle_of_an_epoch_is_closed(screen: Screen) -> None:
    engine = echo()
    handle = screen.bar().attach(engine)
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=2), handle.remove)
    engine.run([1, 2, 3])
    drawn = screen.drawn
    engine.run([1, 2, 3])

    assert screen.drawn == drawn == ["Iteration: 0/3", "Iteration: 1/3"]
    assert screen.file.getvalue().endswith("\n")


def test_a_message_stands_on_a_line_of_its_own(screen: Screen) -> None:
    bar = screen.bar()
    engine = echo()
    bar.attach(engine)
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=2), lambda: bar.log_message("half way"))
    engine.run([1, 2, 3, 4])

    assert "half way\n" in screen.file.getvalue()


def test_without_tqdm_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "tqdm"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tqdm", None)

    with pytest.raises(
        ModuleNotFoundError, match=r"ProgressBar needs the package 'tqdm': pip install 'ignite-core\[tqdm\]'"
    ):
        ProgressBar()


def test_it_is_drawn_once_a_refresh(screen: Screen) -> None:
    engine = echo()
    screen.bar(bar_format="{n}").attach(engine)
    engine.run([1, 2])

    assert screen.file.getvalue() == "\r0\r1\r2\r2\n"  # opened, moved, drawn a last time, and left by tqdm


def test_an_epoch_that_was_cut_unheard_does_not_go_on_in_the_next(screen: Screen) -> None:
    engine = echo()
    screen.bar().attach(engine)
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=1), lambda: engine.terminate_epoch(True))
    engine.run([1, 2, 3], max_epochs=2)

    assert screen.drawn == [
        *("Epoch [1/2]: 0/3", "Epoch [1/2]: 1/3"),
        *("Epoch [2/2]: 0/3", "Epoch [2/2]: 1/3", "Epoch [2/2]: 3/3"),
    ]


def test_mappings_are_shown_one_by_one(screen: Screen) -> None:
    engine = echo()
    screen.bar().attach(engine, output_transform=lambda output: {"loss": {"main": output, "parts": [1.0, "?"]}})
    engine.run([4.0])

    assert screen.drawn[-1] == "Iteration: 1/1, loss_main=4, loss_parts_0=1, loss_parts_1=?"


def test_what_the_bar_sets_itself_cannot_be_given() -> None:
    with pytest.raises(TypeError, match="initial, total cannot be given"):
        ProgressBar(total=3, initial=1)


def test_the_interval_of_tqdm_is_that_of_the_bar(screen: Screen) -> None:
    engine = echo()
    screen.bar(mininterval=5.0).attach(engine)
    engine.add_event_handler(Events.ITERATION_STARTED, lambda: setattr(screen, "now", screen.now + 2.0))
    engine.run(range(6))

    assert [state.split()[-1] for state in screen.drawn] == ["0/6", "1/6", "4/6", "6/6"]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"closing_event_name": Events.EPOCH_COMPLETED(every=2)}, ValueError, "must not have a filter"),
        ({"event_name": Events.COMPLETED}, ValueError, "must come after event_name"),
        ({"event_name": Events.EPOCH_COMPLETED}, ValueError, "must come after event_name"),
        ({"event_name": Events.GET_BATCH_STARTED}, ValueError, "got event_name=Events.GET_BATCH_STARTED"),
        ({"closing_event_name": "nothing"}, ValueError, "closing_event_name='nothing'"),
        ({"output_transform": "loss"}, TypeError, "output_transform must be callable, got str"),
        ({"metric_names": "loss"}, ValueError, "metric_names must be a list of names or 'all', got 'loss'"),
    ],
)
def test_wrong_arguments_are_refused_when_it_is_attached(
    screen: Screen, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        screen.bar().attach(echo(), **arguments)


class Console(io.TextIOWrapper):
    """One of Windows, say."""

    def __init__(self, encoding: str) -> None:
        super().__init__(io.BytesIO(), encoding=encoding)

    @property
    def shown(self) -> str:
        self.flush()
        self.seek(0)
        return self.read()


@pytest.mark.parametrize("name", ["损失", "bad \udcff", "µ → ∞"])
@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
@pytest.mark.parametrize("is_given", [True, False])
def test_text_that_the_console_cannot_show_ends_no_run(
    name: str, encoding: str, is_given: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    console = Console(encoding)
    monkeypatch.setattr(sys, "stdout", console)
    monkeypatch.setattr(sys, "stderr", console)
    engine = Engine(lambda engine, batch: {name: name})
    bar = ProgressBar(persist=True, desc=name, unit=name, **{"file": console} if is_given else {})
    bar.attach(engine, output_transform=lambda output: output)
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda: bar.log_message(name))

    assert engine.run([1, 2, 3]).iteration == 3
    assert "[3/3]" in console.shown


class Hostile:
    def __repr__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize("value", [fractions.Fraction(1, 3), 1j, {1}, None, object(), Hostile(), 10**400, b"a"])
def test_no_value_ends_a_run(screen: Screen, value: Any) -> None:
    engine = echo()
    screen.bar().attach(engine, output_transform=lambda output: {"x": value, "loss": output})
    engine.run([1.0])

    assert screen.drawn[-1].endswith("loss=1")
