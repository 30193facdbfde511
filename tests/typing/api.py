"""What a type checker must make of the public names. Read by pyright in ``make check``, never run."""

from typing import Any, assert_type

import torch

import ignite_core
import ignite_core.distributed as idist
from ignite_core import Engine, Events, State
from ignite_core.debug import DevRun, dev_run, sanity_check
from ignite_core.debug.plan.calendar import Calendar
from ignite_core.engine import CallableEventWithFilter, EventEnum, EventsList, RemovableEventHandle

# The names that are loaded lazily are no Any: they are the very classes of ignite_core.engine.
assert_type(ignite_core.Engine, type[ignite_core.engine.Engine])
assert_type(ignite_core.Events, type[ignite_core.engine.Events])
assert_type(ignite_core.State, type[ignite_core.engine.State])
assert_type(ignite_core.__version__, str)

assert_type((Engine, Events, State), tuple[type[Engine], type[Events], type[State]])


class OwnEvents(EventEnum):
    BACKWARD_COMPLETED = "backward_completed"


def step(engine: Engine, batch: list[float]) -> float:
    return sum(batch)


def log(engine: Engine, text: str, *, width: int = 80) -> None: ...


def is_due(engine: Engine, count: int) -> bool:
    return count % 2 == 0


def engines() -> None:
    """The engine hands on what it is given, and gives back what it says."""
    trainer = Engine(step)
    assert_type(trainer.run([[1.0]], max_epochs=3), State)
    assert_type(trainer.run([[1.0]], max_iters=3, epoch_length=2), State)
    assert_type(trainer.plan(3, 100, run=[log], seconds_per_iteration=0.1), Calendar)
    assert_type(dev_run(trainer, trainer, data=[[1.0]], batches=2), DevRun)
    assert_type(sanity_check(trainer, [[1.0]]), dict[str, Any])
    assert_type(trainer.run(), State)
    assert_type(trainer.run(iter([[1.0]])), State)
    assert_type(trainer.state, State)
    assert_type(trainer.parent, Engine | None)
    assert_type(trainer.should_terminate, bool | str)
    assert_type(trainer.has_event_handler(log), bool)
    trainer.set_data([[1.0]])
    trainer.terminate(skip_completed=True)
    trainer.load_state_dict(trainer.state_dict())
    trainer.register_events(*OwnEvents, "plain", event_to_attr={OwnEvents.BACKWARD_COMPLETED: "backwards"})
    trainer.fire_event("plain")
    assert_type(trainer.listens_to(OwnEvents), bool)


def events() -> None:
    """Calls give a filtered event, ``|`` a list of events."""
    assert_type(Events.EPOCH_COMPLETED(every=2, after=1, before=9), CallableEventWithFilter)
    assert_type(Events.EPOCH_COMPLETED(once=[1, 2], priority=3), CallableEventWithFilter)
    assert_type(Events.EPOCH_COMPLETED(is_due), CallableEventWithFilter)
    assert_type(Events.EPOCH_COMPLETED(lambda engine, count: count > 2), CallableEventWithFilter)
    assert_type(Events.EPOCH_COMPLETED(every=2)(priority=1), CallableEventWithFilter)
    assert_type(Events.STARTED | Events.COMPLETED, EventsList)
    assert_type(Events.STARTED(priority=1) | OwnEvents.BACKWARD_COMPLETED | Events.COMPLETED, EventsList)
    assert_type((Events.STARTED | Events.COMPLETED)[0], CallableEventWithFilter)
    assert_type([event.name for event in Events.STARTED | Events.COMPLETED], list[str])
    assert_type(Events.EPOCH_COMPLETED.priority, int | None)
    assert_type(Events.STARTED == "STARTED", bool)


def handlers() -> None:
    """``on`` keeps the type of the function; handles are context managers."""
    trainer = Engine(step)

    @trainer.on(Events.EPOCH_COMPLETED(every=2) | Events.COMPLETED, "text", width=3)
    def note(engine: Engine, text: str, *, width: int) -> float:
        return float(width)

    assert_type(note(trainer, "a", width=3), float)
    assert_type(trainer.on(Events.STARTED)(is_due)(trainer, 3), bool)
    handle = trainer.add_event_handler(Events.STARTED, log, "text")
    assert_type(handle, RemovableEventHandle)
    assert_type(handle.remove(), None)
    with trainer.add_event_handler("STARTED", print) as entered:
        assert_type(entered, RemovableEventHandle)


def states(state: State) -> None:
    """Counters are numbers; further attributes are the user's own, of any type."""
    assert_type(state.epoch, int)
    assert_type(state.iteration, int)
    assert_type(state.epoch_length, int | None)
    assert_type(state.max_epochs, int | None)
    assert_type(state.metrics["accuracy"], Any)
    state.metrics = {"accuracy": 0.5}
    state.max_epochs = None
    state.alpha = 0.1
    assert_type(state.beta, Any)
    state.batch = state.output = object()
    assert_type(State(alpha=0.1), State)


@idist.one_rank_only()
def report(text: str) -> int:
    return len(text)


def ranks() -> None:
    """What goes in comes out; what is gathered is a list of it."""
    assert_type(idist.get_rank(), int)
    assert_type(idist.device(), torch.device)
    assert_type(idist.backend(), str | None)
    assert_type(idist.all_reduce(1.5), float)
    assert_type(idist.all_reduce(torch.ones(2), "MAX", group=[0]), torch.Tensor)
    assert_type(idist.all_gather_object("a"), list[str])
    assert_type(idist.all_gather_tensors_with_shapes(torch.ones(2), [[2]]), list[torch.Tensor])
    assert_type(idist.agree(3), int)
    assert_type(idist.any(True), bool)
    assert_type(report("text"), int | None)
    assert_type(idist.auto_model(torch.nn.Linear(2, 1)), torch.nn.Module)
    with idist.one_rank_first(local=True):
        idist.barrier()
    with idist.Parallel("gloo", nproc_per_node=2) as parallel:
        parallel.run(report, "text")
