"""The anomaly mode of autograd is on while it should be, and afterwards what it was."""

from typing import Any

import pytest
import torch

from ignite_core.engine import Engine, Events
from ignite_core.handlers import DetectAnomaly


def modes(engine: Engine, batch: Any) -> tuple[bool, bool]:
    if batch is None:
        raise ValueError("no batch")
    return torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()


@pytest.mark.parametrize("before", [(False, True), (True, False)])
@pytest.mark.parametrize("check_nan", [True, False])
def test_the_mode_is_that_of_before_after_a_run_and_after_an_exception(check_nan: bool, before: Any) -> None:
    trainer = Engine(modes)
    DetectAnomaly(check_nan).attach(trainer)

    with torch.autograd.set_detect_anomaly(*before):
        assert trainer.run([1]).output == (True, check_nan)
        assert (torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()) == before
        with pytest.raises(ValueError, match="no batch"):
            trainer.run([None])
        assert (torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()) == before


def test_an_exception_between_start_and_stop_turns_it_off_too() -> None:
    trainer = Engine(modes)
    DetectAnomaly().attach(trainer, start=Events.ITERATION_STARTED(once=2), stop=Events.EPOCH_COMPLETED)
    seen = []
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda: seen.append(trainer.state.output[0]))

    with pytest.raises(ValueError, match="no batch"):
        trainer.run([1, 2, None])

    assert seen == [False, True]
    assert not torch.is_anomaly_enabled()


def test_stop_alone_ends_what_began_with_the_run() -> None:
    trainer = Engine(modes)
    DetectAnomaly().attach(trainer, stop=Events.ITERATION_COMPLETED(once=1))
    seen = []
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda: seen.append(trainer.state.output[0]))

    trainer.run([1, 2])

    assert seen == [True, False]


def test_the_operation_that_made_a_nan_is_named() -> None:
    weight = torch.nn.Parameter(torch.zeros(1))
    trainer = Engine(lambda engine, batch: (weight.sqrt() * 0).sum().backward())
    DetectAnomaly().attach(trainer)

    with pytest.warns(UserWarning, match="Error detected in SqrtBackward0"), pytest.raises(RuntimeError, match="Sqrt"):
        trainer.run([0])


def test_what_is_no_engine_is_refused() -> None:
    with pytest.raises(TypeError, match="engine must be an Engine, got 3"):
        DetectAnomaly().attach(3)  # type: ignore[arg-type]
