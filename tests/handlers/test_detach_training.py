"""Each ``attach`` returns a handle, and removing it leaves no trace on the engine, the model and the optimizer."""

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from ignite_core.engine import Engine, EventEnum, Events
from ignite_core.handlers import (
    SWA,
    BaseLogger,
    BatchSizeScheduler,
    ConcatScheduler,
    DetectAnomaly,
    EMAHandler,
    ExpStateScheduler,
    FastaiLRFinder,
    Freeze,
    GarbageCollection,
    GradientClipping,
    GradientStats,
    LRScheduler,
    OneCycle,
    OutputHandler,
    ParamGroupScheduler,
    PiecewiseLinear,
    ReduceLROnPlateauScheduler,
    Unfreeze,
)


class Script:
    """A model, its optimizer and a trainer."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5), nn.Linear(2, 1))
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1, momentum=0.9)
        self.loader = DataLoader([torch.ones(2)] * 4, batch_size=2)
        self.trainer = Engine(self.step)

    def step(self, engine: Engine, batch: torch.Tensor) -> float:
        self.optimizer.zero_grad()
        loss = self.model(batch).square().sum()
        loss.backward()
        self.optimizer.step()
        engine.state.metrics["loss"] = loss.item()
        return loss.item()

    def linear(self) -> PiecewiseLinear:
        return PiecewiseLinear(self.optimizer, "lr", [(0, 0.1), (9, 0.0)])

    def traces(self) -> Any:
        hooks = [len(one._forward_pre_hooks) for one in self.model.modules()]
        return (
            str(self.trainer),
            len(self.trainer.run_contexts()),
            sorted(vars(self.trainer.state)),
            hooks,
            len(self.optimizer._optimizer_step_pre_hooks),
            [(one.training, [p.requires_grad for p in one.parameters()]) for one in self.model.modules()],
            torch.is_anomaly_enabled(),
            gc.isenabled(),
        )


class Book(BaseLogger):
    def scalars(self, step: int, values: Any) -> None:
        """Forget them."""


ATTACH: dict[str, Callable[[Script], Any]] = {
    "ParamScheduler": lambda script: script.linear().attach(script.trainer),
    "ParamGroupScheduler": lambda script: ParamGroupScheduler([script.linear()]).attach(script.trainer),
    "ConcatScheduler": lambda script: ConcatScheduler([script.linear(), script.linear()], [2]).attach(script.trainer),
    "OneCycle": lambda script: OneCycle(script.optimizer, 1.0, 9).attach(script.trainer),
    "LRScheduler": lambda script: LRScheduler(torch.optim.lr_scheduler.StepLR(script.optimizer, 2)).attach(
        script.trainer
    ),
    "plateau": lambda script: ReduceLROnPlateauScheduler(script.optimizer, "loss").attach(script.trainer),
    "state": lambda script: ExpStateScheduler(1.0, 0.5, "alpha", create_new=True).attach(script.trainer),
    "batch size": lambda script: BatchSizeScheduler(script.loader, lambda epoch: 1).attach(script.trainer),
    "EMA": lambda script: EMAHandler(script.model, 0.1, 0.2, 3).attach(
        script.trainer, event=Events.ITERATION_COMPLETED(after=1)
    ),
    "SWA": lambda script: SWA(script.model).attach(script.trainer),
    "swap_in_during": lambda script: SWA(script.model).swap_in_during(script.trainer),
    "Freeze": lambda script: Freeze(script.model[0], Events.EPOCH_STARTED(once=9)).attach(script.trainer),
    "Unfreeze": lambda script: Unfreeze(script.model[0], Events.EPOCH_STARTED(once=9)).attach(script.trainer),
    "DetectAnomaly": lambda script: DetectAnomaly().attach(script.trainer),
    "DetectAnomaly in a window": lambda script: DetectAnomaly().attach(
        script.trainer, Events.ITERATION_STARTED(once=1), Events.EPOCH_COMPLETED(once=9)
    ),
    "GarbageCollection": lambda script: GarbageCollection().attach(script.trainer),
    "GradientClipping": lambda script: GradientClipping(script.optimizer, max_norm=0.1).attach(script.trainer),
    "GradientStats": lambda script: GradientStats(script.optimizer).attach(script.trainer),
    "logger": lambda script: Book().attach(script.trainer, OutputHandler("x", "all"), Events.EPOCH_COMPLETED),
    "logger of outputs": lambda script: Book().attach_output_handler(
        script.trainer, Events.EPOCH_STARTED(once=2) | Events.COMPLETED, "x", ["loss"]
    ),
    "logger of parameters": lambda script: Book().attach_opt_params_handler(
        script.trainer, Events.EPOCH_COMPLETED, script.optimizer
    ),
}

#: Attributes of the state that are there after a run, with any handler: values that were written stay.
WRITTEN = {"state": {"alpha"}}


@pytest.mark.parametrize("kind", ATTACH)
def test_detached_before_a_run(kind: str) -> None:
    script = Script()
    before = script.traces()

    with ATTACH[kind](script) as handle:
        assert script.traces() != before
    assert script.traces() == before
    handle.remove()
    assert script.traces() == before


@pytest.mark.parametrize("kind", ATTACH)
def test_detached_in_the_middle_of_a_run(kind: str) -> None:
    script = Script()
    before = script.traces()
    handle = ATTACH[kind](script)
    during: list[Any] = []
    detach = script.trainer.add_event_handler(Events.ITERATION_COMPLETED(once=2), handle.remove)
    note = script.trainer.add_event_handler(Events.ITERATION_COMPLETED(once=3), lambda: during.append(script.traces()))
    script.trainer.run(script.loader, max_epochs=2)
    detach.remove()
    note.remove()

    (now,) = during
    written = WRITTEN.get(kind, set())
    for at in (now, script.traces()):
        assert set(at[2]) - written == set(before[2])
        assert at[3:] == before[3:]
    assert script.traces()[:2] == before[:2]


UNKNOWN: dict[str, Callable[[Script], Any]] = {
    "state": lambda script: ExpStateScheduler(1.0, 0.5, "alpha", create_new=True).attach(script.trainer, "unknown"),
    "EMA": lambda script: EMAHandler(script.model, 0.1).attach(script.trainer, event="unknown"),
    "SWA": lambda script: SWA(script.model).attach(script.trainer, bn_event="unknown"),
    "Freeze": lambda script: Freeze(script.model[0], "unknown").attach(script.trainer),
    "DetectAnomaly": lambda script: DetectAnomaly().attach(script.trainer, Events.STARTED, "unknown"),
    "GarbageCollection": lambda script: GarbageCollection().attach(script.trainer, everything="unknown"),
    "logger": lambda script: Book().attach(
        script.trainer, OutputHandler("x", "all"), Events.STARTED | CustomEvents.UNKNOWN
    ),
}


class CustomEvents(EventEnum):
    UNKNOWN = "unknown"


@pytest.mark.parametrize("kind", UNKNOWN)
def test_an_unknown_event_leaves_no_trace(kind: str) -> None:
    """Either all parts of a handler are attached, or none."""
    script = Script()
    before = script.traces()

    with pytest.raises(ValueError, match="unknown event"):
        UNKNOWN[kind](script)
    assert script.traces() == before


def test_after_detaching_nothing_is_clipped_in_the_same_run() -> None:
    script, norms = Script(), []
    clipping = GradientClipping(script.optimizer, max_norm=1e-3)
    handle = clipping.attach(script.trainer)
    script.trainer.add_event_handler(
        Events.ITERATION_COMPLETED,
        lambda: norms.append(torch.nn.utils.get_total_norm([p.grad for p in script.model.parameters()]).item()),
    )
    script.trainer.add_event_handler(Events.ITERATION_COMPLETED(once=1), handle.remove)
    script.trainer.run([torch.ones(1, 2), torch.full((1, 2), 5.0)])

    assert norms[0] == pytest.approx(1e-3, rel=1e-3)
    assert norms[1] > 1e-2


def test_a_detached_handler_can_be_attached_again() -> None:
    script = Script()
    clipping = GradientClipping(script.optimizer, max_norm=0.1)
    clipping.attach(script.trainer).remove()
    clipping.attach(script.trainer)
    script.trainer.run(script.loader)

    assert clipping.norm is not None


def test_one_of_two_log_handlers_is_detached_and_the_logger_still_flushes() -> None:
    class Flushed(Book):
        flushes = 0

        def flush(self) -> None:
            self.flushes += 1

    script, book = Script(), Flushed()
    first = book.attach(script.trainer, OutputHandler("x", "all"), Events.EPOCH_COMPLETED)
    second = book.attach(script.trainer, OutputHandler("y", "all"), Events.EPOCH_COMPLETED)
    first.remove()
    first.remove()
    script.trainer.run(script.loader)
    assert book.flushes == 1

    second.remove()
    script.trainer.run(script.loader)
    assert book.flushes == 1


def test_a_handle_keeps_no_engine_alive() -> None:
    for kind in ATTACH:
        script = Script()
        handle, gone = ATTACH[kind](script), weakref.ref(script.trainer)
        gc.collect()
        del script
        gc.collect()
        assert gone() is None, kind
        handle.remove()


def test_the_finder_leaves_no_trace_either() -> None:
    script = Script()
    before = script.traces()
    with FastaiLRFinder().attach(script.trainer, {"optimizer": script.optimizer}, num_iter=3):
        assert script.traces() != before
    assert script.traces() == before
