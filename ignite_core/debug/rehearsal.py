"""Runs that are undone afterwards: one batch of everything, and a validation before the training."""

from __future__ import annotations

import functools
import inspect
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

from ignite_core.engine.data.position import length_of
from ignite_core.engine.describe import describe
from ignite_core.engine.engine import Engine
from ignite_core.engine.registration import Registration
from ignite_core.engine.supervised.step import EvaluationStep, TrainingStep
from ignite_core.handlers._arguments import integer
from ignite_core.handlers.checkpoint.checkpoint import Checkpoint
from ignite_core.snapshot import Snapshot, can_be_saved

__all__ = ["DevRun", "dev_run", "is_request", "overfit", "sanity_check"]

#: Methods of an engine that end or pause its run, if they are handlers.
_REQUESTS: Final = ("terminate", "terminate_epoch", "interrupt")


@dataclass(frozen=True)
class DevRun:
    """Result of :func:`dev_run`.

    Attributes:
        called: The handlers that were called, each with its event.
        not_called: The handlers that were not called, and so were not tried.
        metrics: The final metrics of each engine, the trainer first.
    """

    called: tuple[str, ...]
    not_called: tuple[str, ...]
    metrics: tuple[dict[str, Any], ...]

    def __str__(self) -> str:
        lines = [f"{len(self.called)} handlers were called, {len(self.not_called)} were not"]
        return "\n".join([*lines, *(f"  not called: {one}" for one in self.not_called)])


def dev_run(
    trainer: Engine,
    *evaluators: Engine,
    data: Iterable[Any] | None,
    batches: int = 1,
    restore: Iterable[Any] = (),
) -> DevRun:
    """Run one epoch of one batch, with all handlers, and restore everything afterwards.

    Numeric filters are ignored: a handler of ``every=1000`` is called too (but not the engine's own ``terminate``,
    ``terminate_epoch`` and ``interrupt``). Filter functions are called. Checkpoints are written into a temporary folder
    that is removed.

    Restored, also after an error, are the states and positions of the engines; the states of all random generators; and
    the states of the objects that the step and the handlers refer to: models, with gradients and modes, optimizers,
    schedulers, metrics, and others with ``state_dict`` and ``load_state_dict``, found as arguments, attributes, and
    variables that a function uses directly. Not restored: what handlers write elsewhere (as a logger does), other
    objects that they change in place, handlers that they add, and the batch taken from a one-shot iterator.

    Args:
        trainer: The engine to try.
        evaluators: Engines that it runs in its handlers; their runs have as many batches.
        data: Data of the trainer; None as in ``run``.
        batches: Number of batches, at least 1.
        restore: More objects to restore, which are not found as above.

    Raises:
        TypeError: If an engine is not an Engine, or ``batches`` is not an integer.
        ValueError: If ``batches`` is below 1, or a model has lazy modules that are not initialized.
        Exception: If the step or a handler raises it.

    Example:
        >>> from ignite_core.engine import Events
        >>> trainer, evaluator = Engine(lambda engine, batch: batch), Engine(lambda engine, batch: batch)
        >>> @trainer.on(Events.EPOCH_COMPLETED(every=10))
        ... def validate():
        ...     evaluator.run(range(100))
        ...     print("evaluated", evaluator.state.iteration)
        >>> tried = dev_run(trainer, evaluator, data=range(1000))
        evaluated 1
        >>> trainer.state.iteration, len(tried.called), tried.not_called
        (0, 1, ())
    """
    batches = integer("dev_run", "batches", batches, least=1)
    engines = _checked("dev_run", trainer, *evaluators)
    called: set[tuple[int, int]] = set()
    with ExitStack() as stack:
        stack.enter_context(_rehearsal(engines, data, restore))
        for number, engine in enumerate(engines):
            wrap = functools.partial(_record, called, number)
            opens_filter = functools.partial(_opens_filter, engine)
            stack.enter_context(engine.instrument(wrap, opens_filter=opens_filter))
            stack.enter_context(_limited(engine, batches))
        trainer.run(data)
        metrics = tuple(dict(engine.state.metrics) for engine in engines)
    lists: tuple[list[str], list[str]] = [], []
    for number, engine in enumerate(engines):
        for registration in sorted(engine.handlers(), key=lambda one: one.number):
            if not getattr(type(registration.owner), "not_in_calendar", False):
                is_missing = (number, registration.number) not in called
                lists[is_missing].append(f"{describe(registration.handler)} of {registration.event!r}")
    return DevRun(tuple(lists[0]), tuple(lists[1]), metrics)


def sanity_check(
    evaluator: Engine, data: Iterable[Any], batches: int = 2, *, restore: Iterable[Any] = ()
) -> dict[str, Any]:
    """Run an evaluation over a few batches before the training, and restore everything as :func:`dev_run` does.

    Args:
        evaluator: The engine.
        data: Its data.
        batches: Largest number of batches, at least 1.
        restore: More objects to restore.

    Returns:
        The metrics.

    Raises:
        TypeError: If ``evaluator`` is not an Engine, or ``batches`` is not an integer.
        ValueError: If ``batches`` is below 1, or a model has lazy modules that are not initialized.
        Exception: If the step or a handler raises it.

    Example:
        >>> import torch
        >>> from ignite_core.metrics import Accuracy
        >>> evaluator = Engine(lambda engine, batch: batch)
        >>> Accuracy().attach(evaluator, "accuracy")
        >>> sanity_check(evaluator, [(torch.eye(3), torch.arange(3))] * 100)
        {'accuracy': 1.0}
        >>> evaluator.state.iteration, dict(evaluator.state.metrics)
        (0, {})
    """
    batches = integer("sanity_check", "batches", batches, least=1)
    (engine,) = _checked("sanity_check", evaluator)
    with _rehearsal([engine], data, restore), _limited(engine, batches):
        return dict(engine.run(data).metrics)


def overfit(loader: Iterable[Any], batches: int = 1) -> list[Any]:
    """Return the first batches of a loader, to train on them only: a model that cannot overfit them has a bug.

    Random generators are restored, so the rest of the script draws the same numbers.

    Args:
        loader: The data.
        batches: Number of batches, at least 1.

    Returns:
        A list of the batches; each epoch over it has the same batches in the same order.

    Raises:
        TypeError: If ``batches`` is not an integer.
        ValueError: If it is below 1, or the loader has fewer batches.

    Example:
        >>> overfit(range(1000), batches=3)
        [0, 1, 2]
    """
    batches = integer("overfit", "batches", batches, least=1)
    with Snapshot() as snapshot:
        snapshot.save_data(loader)
        first = list(islice(loader, batches))
    if len(first) < batches:
        raise ValueError(f"overfit: the loader must have at least {batches} batches, got {len(first)}; ask for fewer")
    return first


# -------------------------------------------------------------------------------------------------- around the runs


def _checked(where: str, *engines: Engine) -> tuple[Engine, ...]:
    for engine in engines:
        if not isinstance(engine, Engine):
            raise TypeError(f"{where}: takes engines, got {engine!r}")
    return engines


@contextmanager
def _rehearsal(engines: Sequence[Engine], data: Any, restore: Iterable[Any]) -> Iterator[None]:
    """Restore engines, objects and data on exit; inside, handlers write into a temporary folder."""
    objects = [one for engine in engines for one in _objects_of(engine)]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ignite_core_rehearsal_")))
        snapshot = stack.enter_context(Snapshot())
        for one in {id(one): one for one in (*objects, *restore)}.values():
            if can_be_saved(one):
                snapshot.save(one)
        snapshot.save_data(data)
        for owner in _rehearsing(engines):
            stack.enter_context(owner.rehearse(folder))
        for engine in engines:
            snapshot.save_engine(engine)
        yield


def _rehearsing(engines: Iterable[Engine]) -> list[Any]:
    """The handlers and run contexts that have a method ``rehearse``."""
    owners: dict[int, Any] = {}
    for engine in engines:
        functions = [registration.handler for registration in engine.handlers()]
        for function in (*functions, *engine.run_contexts()):
            owner = getattr(function, "__self__", function)
            owner = getattr(owner, "handler", owner)  # a timer in front of a checkpoint
            if hasattr(type(owner), "rehearse"):
                owners[id(owner)] = owner
    return list(owners.values())


@contextmanager
def _limited(engine: Engine, batches: int) -> Iterator[None]:
    """Inside, each run of an engine is one epoch of at most ``batches`` batches."""
    run = engine.run

    def limited(
        data: Any = None, max_epochs: Any = None, max_iters: Any = None, epoch_length: Any = None, seed: Any = None
    ) -> Any:
        known = None if data is None else length_of(data)
        lengths = [length for length in (batches, known, epoch_length, max_iters) if length is not None]
        engine.state.max_epochs = engine.state.max_iters = None  # each run is a new one
        return run(data, max_epochs=1, epoch_length=min(lengths), seed=seed)

    engine.run = limited  # type: ignore[method-assign]
    try:
        yield
    finally:
        del engine.run


def _record(
    called: set[tuple[int, int]], number: int, registration: Registration, call: Callable[[Any], Any]
) -> Callable[[Any], Any]:
    """Wrap a handler of engine ``number`` to record that it was called."""

    def recorded(engine: Engine) -> Any:
        called.add((number, registration.number))
        return call(engine)

    return recorded


def _opens_filter(engine: Engine, registration: Registration) -> bool:
    """Whether to ignore the numeric filter of a handler: not if it would cut the run short."""
    return not is_request(engine, registration)


def is_request(engine: Engine, registration: Registration) -> bool:
    """Whether a handler is ``terminate``, ``terminate_epoch`` or ``interrupt`` of the engine itself."""
    handler: Any = registration.handler
    while isinstance(handler, functools.partial):
        handler = handler.func
    return registration.owner is engine and handler.__name__ in _REQUESTS


# ------------------------------------------------------------------------------------------- which objects are saved


def _objects_of(engine: Engine) -> Iterator[Any]:
    """The objects that the step and the handlers of an engine refer to."""
    step = engine.process_function
    if isinstance(step, TrainingStep | EvaluationStep):
        yield step.options.model
    if isinstance(step, TrainingStep):
        yield from (step.options.optimizer, step.scaler)
    yield from _named_by(step)
    for registration in engine.handlers():
        yield from _named_by(registration.handler)
        yield from _flat((*registration.args, *registration.kwargs.values()))
        if isinstance(registration.owner, Checkpoint):
            yield from _flat([registration.owner.to_save])


def _named_by(function: Callable[..., Any]) -> Iterator[Any]:
    """The objects that a function refers to: its owner and the owner's attributes, closure variables, globals."""
    while isinstance(function, functools.partial):
        yield from _flat((*function.args, *function.keywords.values()))
        function = function.func
    owner = getattr(function, "__self__", None)
    if owner is not None:
        yield from _flat([owner, *getattr(owner, "__dict__", {}).values()])
    function = getattr(function, "__func__", function)
    if inspect.isfunction(function):
        found = inspect.getclosurevars(function)
        yield from _flat((*found.nonlocals.values(), *found.globals.values()))
    elif not inspect.isbuiltin(function):
        yield from _flat([function, *getattr(function, "__dict__", {}).values()])


def _flat(values: Iterable[Any]) -> Iterator[Any]:
    """The values, with lists and mappings replaced by their items."""
    for value in values:
        if isinstance(value, Mapping):
            yield from value.values()
        elif isinstance(value, list | tuple):
            yield from value
        else:
            yield value
