"""Lines of text about a run, on a clock that the test moves."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

import ignite_core.distributed as idist
from ignite_contrib.loggers import FBResearchLogger
from ignite_core.engine import Engine, Events
from ignite_core.testing import run_distributed


class Lines:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def info(self, line: str) -> None:
        self.lines.append(line)


class Batches:
    """Each takes a quarter of a second to come."""

    def __init__(self, clock: list[float], length: int) -> None:
        self.clock = clock
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[int]:
        for batch in range(self.length):
            self.clock[0] += 0.25
            yield batch


def run(length: int, max_epochs: int = 1, output: Any = None, show_output: bool = False, **arguments: Any) -> list[str]:
    """The lines of a run whose steps take a second."""
    lines, now = Lines(), [0.0]

    def step(engine: Engine, batch: Any) -> Any:
        now[0] += 1.0
        return output

    engine = Engine(step)
    engine.state.alpha = 0.5
    FBResearchLogger(lines, show_output=show_output, clock=lambda: now[0]).attach(engine, "Train", **arguments)
    engine.run(Batches(now, length), max_epochs=max_epochs)
    return lines.lines


def test_it_tells_where_the_run_is_and_where_its_time_goes() -> None:
    lines = run(4, every=2)

    assert lines[0] == "Train: start epoch [1/1]"
    assert lines[1:3] == [
        "Epoch [1/1]  [2/4]:  ETA: 0:00:02  Iter time: 1.0000 s  Data prep time: 0.2500 s",
        "Epoch [1/1]  [4/4]:  ETA: 0:00:00  Iter time: 1.0000 s  Data prep time: 0.2500 s",
    ]
    assert lines[3].startswith("Train: Epoch [1/1]  Total time: 0:00:0")
    assert len(lines) == 4


def test_several_epochs_end_with_the_time_of_all() -> None:
    lines = run(2, max_epochs=2, every=2)

    assert [line.partition("  ")[0] for line in lines] == [
        *("Train: start epoch [1/2]", "Epoch [1/2]", "Train: Epoch [1/2]"),
        *("Train: start epoch [2/2]", "Epoch [2/2]", "Train: Epoch [2/2]"),
        "Train: run completed",
    ]


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (0.5, "0.5000"),
        (torch.tensor(0.5), "0.5000"),
        ({"loss": torch.tensor(0.5), "count": 3}, "loss: 0.5000  count: 3"),
        ({"loss": {"d": [1.0, 2.0]}}, "loss/d/0: 1.0000  loss/d/1: 2.0000"),
        ((0.5, "a"), "0.5000  a"),
    ],
    ids=repr,
)
def test_it_shows_the_output(output: Any, expected: str) -> None:
    line = run(1, output=output, show_output=True)[1]

    assert f"ETA: 0:00:00  {expected}  Iter time" in line


def test_it_shows_what_a_function_makes_of_the_output_attributes_and_rates() -> None:
    parameters = [nn.Parameter(torch.ones(1)) for _ in range(2)]
    one = torch.optim.SGD(parameters, lr=0.125)
    two = torch.optim.SGD([{"params": [parameters[0]], "lr": 0.5}, {"params": [parameters[1]]}], lr=0.25)

    line = run(1, output=(1.0, 2.0), show_output=True, output_transform=lambda output: {"second": output[1]})[1]
    assert "second: 2.0000" in line
    assert "alpha: 0.5000  Iter time" in run(1, state_attributes=["alpha"])[1]
    assert "ETA: 0:00:00  lr: 0.12500  Iter" in run(1, optimizer=one)[1]
    assert "lr [g0]: 0.50000  lr [g1]: 0.25000" in run(1, optimizer=two)[1]


def test_an_unknown_length_has_no_end() -> None:
    lines = Lines()
    engine = Engine(lambda engine, batch: None)
    FBResearchLogger(lines, clock=lambda: 0.0).attach(engine, "Train", every=2)
    engine.run(iter([0, 0, 0]))

    assert lines.lines[1].startswith("Epoch [1/1]  [2/?]:  ETA: ?  Iter time")


def test_a_logger_of_the_standard_library_gets_the_lines(caplog: pytest.LogCaptureFixture) -> None:
    engine = Engine(lambda engine, batch: None)
    with caplog.at_level(logging.INFO, logger="training"):
        FBResearchLogger(logging.getLogger("training"), delimiter=" | ").attach(engine, "Train")
        engine.run([0])

    assert caplog.messages[0] == "Train: start epoch [1/1]"
    assert " | ETA: " in caplog.messages[1]


def log_on_a_rank() -> tuple[int, int]:
    lines, engine = Lines(), Engine(lambda engine, batch: None)
    FBResearchLogger(lines).attach(engine, "Train")
    engine.add_event_handler(Events.COMPLETED, lambda: None)
    engine.run([0])
    return idist.get_rank(), len(lines.lines)


def test_rank_0_alone_logs() -> None:
    assert run_distributed(log_on_a_rank, ranks=2) == [(0, 3), (1, 0)]


def test_nothing_is_logged_when_it_is_detached() -> None:
    lines, engine = Lines(), Engine(lambda engine, batch: None)
    with FBResearchLogger(lines).attach(engine, "Train"):
        engine.run([0])
    logged = len(lines.lines)
    engine.run([0], max_epochs=2)

    assert logged == len(lines.lines) == 3
