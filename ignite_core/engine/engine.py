"""The engine: one loop over batches, with events around the user's step.

What is kept apart: where the run stands (:class:`State` and ``Position``), who listens (``Dispatch``), what was asked
(:class:`Stop`), what the arguments of ``run`` mean (``plan_run``), and the walk through the events (``_walk`` and
``_run_batches`` below; there is no second copy of it).
"""

from __future__ import annotations

import inspect
import logging
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from contextvars import ContextVar
from enum import IntEnum
from importlib import import_module
from types import EllipsisType
from typing import TYPE_CHECKING, Any, TypeVar

import torch.distributed as dist

from ignite_core.distributed.failures import api as failures
from ignite_core.engine.channel import EventChannel, ForwardingChannel
from ignite_core.engine.data.position import Position
from ignite_core.engine.data.reproducibility import Resumption, check_seed, drawn_seed
from ignite_core.engine.describe import describe, draw
from ignite_core.engine.dispatch import Dispatch, Instrument
from ignite_core.engine.events import BareEvent, EventEnum, EventName, Events, EventsList, SingleEvent
from ignite_core.engine.lone_handlers import name_of_engine, separate_lone_handlers
from ignite_core.engine.registration import (
    Registration,
    RemovableEventHandle,
    RemovableHandle,
    RunContext,
    Wrap,
    weak_call,
)
from ignite_core.engine.run_arguments import check_data, check_not_empty, is_done, plan_run, said_over
from ignite_core.engine.state import State
from ignite_core.engine.state_dict import BEFORE_STEP, CUTS, read_carried, read_progress, results_of
from ignite_core.exceptions import RankFailed
from ignite_core.rng import rng_state, set_rng_state

if TYPE_CHECKING:
    from ignite_core.debug.plan.calendar import Calendar

__all__ = ["Engine", "Stop"]

Handler = TypeVar("Handler", bound=Callable[..., Any])

#: The engine whose run is the innermost one in this thread (or task).
_innermost: ContextVar[Engine | None] = ContextVar("ignite_core_innermost_engine", default=None)


class Stop(IntEnum):
    """What a handler, the step or the data asked for; the stronger request wins."""

    NO = 0
    EPOCH = 1
    INTERRUPT = 2
    RUN = 3
    FAILED = 4  # another rank has; nobody here asks for it


class Engine:
    """Runs a step function over batches and fires events around it.

    Args:
        process_function: The step, ``step(engine, batch) -> output``; what it returns becomes ``engine.state.output``.

    Attributes:
        state: Counters, batch, output and metrics of the run, and the user's own attributes.
        logger: A :class:`logging.Logger`; runs are reported at level INFO.
        last_event_name: The event reached last.
        parent: While this engine runs inside the run of another one (in the same thread), that engine; else None.
        state_dict_user_keys: Names of attributes of ``state`` that :meth:`state_dict` saves too; append to it.

    Raises:
        TypeError: If ``process_function`` is not callable.
        ValueError: If it cannot be called with an engine and a batch.

    Example:
        >>> trainer = Engine(lambda engine, batch: 2 * batch)
        >>> @trainer.on(Events.ITERATION_COMPLETED(every=2))
        ... def show(engine):
        ...     print(engine.state.epoch, engine.state.iteration, engine.state.output)
        >>> state = trainer.run([1, 2, 3], max_epochs=2)
        1 2 4
        2 4 2
        2 6 6
    """

    _always_seeded = False  # a run without a seed draws one

    def __init__(self, process_function: Callable[[Any, Any], Any]) -> None:
        _check_step(process_function)
        self.logger = logging.getLogger(f"{__name__}.{type(self).__name__}")
        self.state = State()
        self.last_event_name: SingleEvent | None = None
        self.parent: Engine | None = None
        self._dispatch = Dispatch()
        self._suppressed = False  # a handler of EXCEPTION_RAISED returned True
        self._note: str | None = None  # what was noted on the exception of this run
        self._process_function = process_function
        self._name = name_of_engine(process_function)
        self._state_dict_user_keys: list[str] = []
        self._position = Position()
        self._resumption = Resumption()
        self._stop = Stop.NO
        self._skip = False  # the request is to skip the COMPLETED event that belongs to it
        self._is_final = False  # the run was terminated for good
        self._was_nested = False  # the last run was inside that of another engine
        self._is_running = False
        self._runner: dict[str, list[int]] = {}  # the thread that runs it
        self._paused_at: Any = None  # the event after which the run was interrupted
        self._data_is_set = False  # by set_data, for the next run
        self._length_is_found = False  # state.epoch_length was told by the data, not by the user
        self._relays = False  # the class, or the user, has its own _fire_event
        self._rank_failed: RankFailed | None = None  # what Stop.FAILED is to raise
        self._run_contexts: list[RunContext] = []
        self.register_events(*Events, event_to_attr={event: State.event_to_attr.get(event) for event in Events})

    # ------------------------------------------------------------------------------------------ events and handlers

    def register_events(self, *event_names: BareEvent, event_to_attr: Mapping[Any, str | None] | None = None) -> None:
        """Allow custom events to be fired, and handlers to be registered on them.

        The engine counts how often it fires each of them, so filters work without further set-up.

        Args:
            event_names: Members of an :class:`EventEnum`, or strings.
            event_to_attr: For events with their own counter: the attribute of ``state`` that counts them. The user
                moves it, by any number at a time (see :class:`Events`); it starts at 0 if it does not exist.

        Raises:
            TypeError: If an event is of another type, or ``event_to_attr`` is not a mapping.

        Example:
            >>> from ignite_core.engine import EventEnum
            >>> class BackpropEvents(EventEnum):
            ...     BACKWARD_COMPLETED = "backward_completed"
            >>> def step(engine, batch):
            ...     engine.fire_event(BackpropEvents.BACKWARD_COMPLETED)
            >>> trainer = Engine(step)
            >>> trainer.register_events(*BackpropEvents)
            >>> @trainer.on(BackpropEvents.BACKWARD_COMPLETED(every=2))
            ... def show():
            ...     print("backward", trainer.state.iteration)
            >>> state = trainer.run(range(5))
            backward 2
            backward 4
        """
        if event_to_attr is not None and not isinstance(event_to_attr, Mapping):
            raise TypeError(f"register_events: event_to_attr must be a mapping, got {type(event_to_attr).__name__}")
        for event in event_names:
            if not isinstance(event, str | EventEnum):
                raise TypeError(f"register_events: an event must be a str or a member of an EventEnum, got {event!r}")
        for event in event_names:
            attribute = (event_to_attr or {}).get(event)
            self._dispatch.register(event, attribute)
            if attribute is not None and not isinstance(event, Events):
                self.state.event_to_attr = {**self.state.event_to_attr, event: attribute}
                if not hasattr(self.state, attribute):
                    setattr(self.state, attribute, 0)
                self._dispatch.note_counters(self.state)

    def has_registered_events(self, event: EventName) -> bool:
        """Whether the event may be fired on this engine."""
        return event in self._dispatch

    def add_event_handler(
        self, event_name: EventName, handler: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> RemovableEventHandle:
        """Call ``handler`` each time the event is fired.

        The handler is called with the engine first if its signature accepts it (any first parameter does, also one with
        a default; a method of this engine does not get it), then the argument of the event (the exception for
        ``EXCEPTION_RAISED``, ``iter_counter`` for ``TERMINATE_SINGLE_EPOCH``), then ``args`` and ``kwargs``. Handlers
        run by priority, then in the order in which they were added. A handler that is removed while its event is fired
        and has not run yet does not run; one that is added runs after the present ones.

        Args:
            event_name: An event, with or without filter, or several joined by ``|``.
            handler: Any callable.
            args: Passed to the handler.
            kwargs: Passed to the handler.

        Returns:
            A handle that removes exactly this registration, also as a context manager.

        Raises:
            TypeError: If ``handler`` is not callable or ``event_name`` is not an event.
            ValueError: If the event is not known, or the handler does not accept these arguments.

        Example:
            >>> engine = Engine(lambda engine, batch: batch)
            >>> def show(engine, text):
            ...     print(text, engine.state.epoch)
            >>> handle = engine.add_event_handler(Events.STARTED | Events.COMPLETED, show, "epochs:")
            >>> state = engine.run([1, 2], max_epochs=3)
            epochs: 0
            epochs: 3
            >>> handle.remove()
        """
        added = self._dispatch.add(self, event_name, handler, args, kwargs)
        return RemovableEventHandle(event_name, weak_call(self._dispatch.remove, added))

    def on(self, event_name: EventName, *args: Any, **kwargs: Any) -> Callable[[Handler], Handler]:
        """Decorator for :meth:`add_event_handler`; it returns the function itself."""

        def decorator(handler: Handler) -> Handler:
            self.add_event_handler(event_name, handler, *args, **kwargs)
            return handler

        return decorator

    def has_event_handler(self, handler: Callable[..., Any], event_name: EventName | None = None) -> bool:
        """Whether ``handler`` is registered on the event, or on any event if none is named.

        A bare event matches all its filters, a filtered one only the same filter. False for an unknown event.
        """
        if not isinstance(event_name, EventsList | None) and event_name not in self._dispatch:
            return False
        return bool(self._dispatch.find(handler, event_name))

    def remove_event_handler(self, handler: Callable[..., Any], event_name: EventName) -> None:
        """Remove every registration of ``handler`` on the event.

        A bare event matches all its filters, a filtered one only the same filter.

        Raises:
            ValueError: If the handler is not registered on the event.
        """
        found = self._dispatch.find(handler, event_name)
        if not found:
            raise ValueError(f"remove_event_handler: {describe(handler)} is not a handler of {event_name!r}")
        for registration in found:
            self._dispatch.remove(registration)

    def handlers(self, event_name: EventName | None = None) -> tuple[Registration, ...]:
        """The registered handlers in the order in which they run: by event, and within an event by priority.

        Args:
            event_name: Only those of this event, or of several joined by ``|``; filters are ignored. By default all:
                first the events of the loop, in its order, then custom events.

        Returns:
            Registrations, to be read only; each has ``event``, ``handler``, ``args``, ``kwargs``, ``priority`` and
            ``where``, the file and line of the handler.

        Raises:
            ValueError: If the event is not known.

        Example:
            >>> def log(engine, text): ...
            >>> trainer = Engine(lambda engine, batch: batch)
            >>> handle = trainer.add_event_handler(Events.COMPLETED, log, "done")
            >>> handle = trainer.add_event_handler(Events.EPOCH_COMPLETED(every=2, priority=5), log, "epoch")
            >>> for registration in trainer.handlers():
            ...     print(registration.event, registration.handler.__name__, registration.args, registration.priority)
            Events.EPOCH_COMPLETED(every=2, priority=5) log ('epoch',) 5
            Events.COMPLETED log ('done',) 0
        """
        return tuple(self._dispatch.registrations(event_name))

    def instrument(self, wrap: Wrap, *, opens_filter: Callable[[Registration], bool] | None = None) -> RemovableHandle:
        """Run each call of each handler inside a wrap, including handlers that are added later.

        Args:
            wrap: ``wrap(registration, call)`` returns the function that runs in place of ``call(engine)``. It must make
                that call and return its result; returning ``call`` leaves the handler alone. It is called again
                whenever what instruments the engine changes. Of several wraps, the last one is outermost.
            opens_filter: ``opens_filter(registration)`` tells whether to ignore the numeric part of its filter, so that
                the handler is called at every occurrence of the event.

        Returns:
            A handle that removes it. Without instruments, calls cost nothing extra.

        Example:
            >>> def announce(registration, call):
            ...     def announced(engine):
            ...         print("calling", registration.handler.__name__)
            ...         return call(engine)
            ...
            ...     return announced
            >>> def log(engine): ...
            >>> trainer = Engine(lambda engine, batch: batch)
            >>> handle = trainer.add_event_handler(Events.EPOCH_COMPLETED(every=2), log)
            >>> with trainer.instrument(announce):
            ...     state = trainer.run([0], max_epochs=2)
            calling log
        """
        instrument = Instrument(wrap, opens_filter)
        self._dispatch.instrument(instrument)
        return RemovableHandle(weak_call(self._dispatch.remove_instrument, [instrument]))

    def add_run_context(self, factory: Callable[[Engine], AbstractContextManager[object]]) -> RemovableHandle:
        """Enter the context manager ``factory(engine)`` around every run.

        It is entered before the first event of a run, or of a run that goes on after a pause, in the order in which
        factories were added, and exited in reverse order after the last one, also if the run raises.

        Args:
            factory: Called with the engine when a run begins.

        Returns:
            A handle that removes it; during a run, what it has entered is exited at once.

        Example:
            >>> from contextlib import contextmanager
            >>> @contextmanager
            ... def announced(engine):
            ...     print("before")
            ...     yield
            ...     print("after")
            >>> engine = Engine(lambda engine, batch: print(batch))
            >>> with engine.add_run_context(announced):
            ...     state = engine.run([1, 2])
            before
            1
            2
            after
        """
        context = RunContext(factory)
        self._run_contexts.append(context)
        return RemovableHandle(weak_call(self._remove_run_context, [context]))

    def run_contexts(self) -> tuple[Callable[[Engine], AbstractContextManager[object]], ...]:
        """The factories given to :meth:`add_run_context`, in their order."""
        return tuple(context.factory for context in self._run_contexts)

    def _remove_run_context(self, context: RunContext) -> None:
        self._run_contexts.remove(context)
        context.exit()

    def listens_to(self, events: type[EventEnum]) -> bool:
        """Whether any handler is registered on any event of ``events``; if not, a step may skip firing them."""
        return self._dispatch.listens_to(events)

    def fire_event(self, event_name: SingleEvent) -> None:
        """Run the handlers of an event, usually of a custom one.

        Raises:
            ValueError: If the event is not known.
        """
        self._fire_event(event_name)

    # ----------------------------------------------------------------------------------------------- stop requests

    def terminate(self, skip_completed: bool = False, *, final: bool = False) -> None:
        """End the run after the event at which this is called: ``TERMINATE`` and ``COMPLETED`` follow.

        The next :meth:`run` goes on with the next epoch, or starts from zero if this was the last. A run that was saved
        from here on goes on, too, where it is loaded.

        Args:
            skip_completed: Leave ``COMPLETED`` out.
            final: The run is over, as after :class:`~ignite_core.handlers.EarlyStopping`: where it was saved from here
                on and is loaded, :meth:`run` returns at once, unless it gets a larger limit.
        """
        self._request(Stop.RUN, skip_completed)
        self._is_final |= final

    def terminate_epoch(self, skip_epoch_completed: bool = False) -> None:
        """End the epoch after the event at which this is called: ``TERMINATE_SINGLE_EPOCH`` and ``EPOCH_COMPLETED``.

        The next epoch iterates the data anew. At ``EPOCH_COMPLETED`` there is nothing left to end and the call is
        ignored; at ``STARTED`` and ``EPOCH_STARTED`` it makes the run raise a RuntimeError.

        Args:
            skip_epoch_completed: Leave ``EPOCH_COMPLETED`` out.
        """
        self._request(Stop.EPOCH, skip_epoch_completed)

    def interrupt(self) -> None:
        """Pause the run after the event at which this is called (in the step: after ``ITERATION_COMPLETED``).

        ``INTERRUPT`` is fired and :meth:`run` returns. The next ``run()`` goes on from there with the same iterator:
        nothing is fired twice and no batch is lost. ``state.max_epochs = None`` drops the pause.

        Example:
            >>> engine = Engine(lambda engine, batch: print(batch))
            >>> handle = engine.add_event_handler(Events.ITERATION_COMPLETED(once=2), engine.interrupt)
            >>> state = engine.run([10, 20, 30])
            10
            20
            >>> state = engine.run([10, 20, 30])
            30
        """
        self._request(Stop.INTERRUPT, False)

    def _request(self, stop: Stop, skip: bool) -> None:
        if stop >= self._stop:
            self._stop, self._skip = stop, skip

    @property
    def should_terminate(self) -> bool | str:
        """Whether ``terminate()`` was asked for: False, True or ``"skip_completed"``."""
        return self._stop is Stop.RUN and ("skip_completed" if self._skip else True)

    @property
    def should_terminate_single_epoch(self) -> bool | str:
        """Whether ``terminate_epoch()`` was asked for: False, True or ``"skip_epoch_completed"``."""
        return self._stop is Stop.EPOCH and ("skip_epoch_completed" if self._skip else True)

    @property
    def should_interrupt(self) -> bool:
        """Whether ``interrupt()`` was asked for."""
        return self._stop is Stop.INTERRUPT

    # ------------------------------------------------------------------------------------------------- save and load

    @property
    def process_function(self) -> Callable[[Any, Any], Any]:
        """The step."""
        return self._process_function

    @property
    def state_dict_user_keys(self) -> list[str]:
        return self._state_dict_user_keys

    @property
    def epoch_iteration(self) -> int:
        """Number of the current batch in its epoch, the first is 1; 0 between epochs."""
        return self._position.place

    @property
    def is_resumed(self) -> bool:
        """At ``STARTED`` and ``EPOCH_STARTED``: this run, or this epoch, goes on from what was loaded.

        At ``GET_BATCH_STARTED``, ``GET_BATCH_COMPLETED`` and ``ITERATION_STARTED``: the event was fired already before
        the run was saved, for the iteration that was not done and is run again. A handler whose own state was loaded
        has counted it: one that accumulates over an epoch must not reset here, and one that counts its calls must not
        move on.
        """
        position = self._position
        return position.resumed or (position.again is not None and position.is_again(self.last_event_name, self.state))

    def state_dict(self) -> OrderedDict[str, Any]:
        """What is needed to go on: plain numbers, and the attributes named in ``state_dict_user_keys``.

        An iteration is done when its step has returned. Saved at ``GET_BATCH_STARTED``, ``GET_BATCH_COMPLETED`` or
        ``ITERATION_STARTED``, inside the step, or after the step raised, the iteration is run as a whole where the run
        goes on; saved at ``ITERATION_COMPLETED``, what is left of its epoch, if only ``EPOCH_COMPLETED``.

        Returns:
            ``iteration`` (those done), ``epoch_length``, ``max_epochs`` or ``max_iters``; ``event_counts`` if events
            were fired that nothing else counts; ``epochs_done`` and ``epoch_iteration`` only where they do not follow
            from ``iteration`` and ``epoch_length``, as after ``terminate_epoch()``; ``left``, what is left of the run,
            only where that does not follow either: the end of an epoch that ``terminate_epoch()`` cuts, nothing after
            ``terminate(final=True)``, everything for an evaluator that has run; ``begun``, the last event that was
            fired before the step of an iteration that is not done. ``metrics`` and ``output`` hold what is there, as
            far as it is numbers, strings and small tensors. A seeded run adds ``seed``, ``data_pass`` (the number of
            the pass over the data, and its batches done), ``global_batch`` (samples in a batch of all ranks, where that
            can be told), ``num_workers`` (that share a stream) and ``by_rank``, a list of one: what only this process
            knows, as the states of its random generators. Where epochs are of another length than the data, there are
            ``data_pass`` and ``data_length`` (None if unknown) without a seed, too. A
            :class:`~ignite_core.handlers.Checkpoint` puts together the lists of all ranks. All of it loads with
            ``torch.load(weights_only=True)``.
        """
        state = self.state
        limit = "max_epochs" if state.max_iters is None else "max_iters"
        left = self._left()
        is_cut = left in CUTS
        iteration, *progress = self._position.progress(state, is_cut)
        saved: OrderedDict[str, Any] = OrderedDict(
            epoch_length=state.epoch_length, iteration=iteration, **{limit: getattr(state, limit)}
        )
        follows = divmod(iteration, state.epoch_length or 1)
        if tuple(progress) != follows or (iteration and not state.epoch_length):
            saved["epochs_done"], saved["epoch_iteration"] = progress
        at = self._paused_at or self._position.failed_at or self.last_event_name
        begun = 0 if is_cut else self._position.begun(state, at)
        saved.update({"left": left} if left else {}, **({"begun": list(BEFORE_STEP)[begun - 1]} if begun else {}))
        saved.update(self._resumption.state_dict(state, self._position, self._process_function, is_cut))
        counts = self._dispatch.counts
        if counts:
            saved["event_counts"] = counts
        saved.update(results_of(state))
        for key in self._state_dict_user_keys:
            saved[key] = getattr(state, key)
        return saved

    def _left(self) -> str | None:
        """What is left of the run; None where that follows from its numbers."""
        position, stop = self._position, self._stop
        if position.left is not None:
            return position.left
        if position.in_epoch and (position.epoch_is_over or stop is Stop.EPOCH):
            if position.epoch_is_over:
                return "epoch_completed" if position.completes else None
            return "skip_epoch_completed" if self._skip else "terminate_epoch"
        if stop is Stop.RUN and self._is_final:
            return "nothing"
        is_evaluator = self._was_nested and self.state.max_epochs == 1 == self.state.epoch
        return "everything" if is_evaluator and not position.in_epoch else None

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over what :meth:`state_dict` saved, or numbers written by hand; the next :meth:`run` goes on from there.

        A seeded run goes on with the very next batch, on as many ranks or, if the samples of a batch of all of them
        stay as many, on another number. So does one whose data has ``load_state_dict``, or that has no data. Any other
        one runs an epoch that was cut again from its start, and warns; ``iteration`` counts on. Where nothing is left,
        :meth:`run` returns at once, and says so, unless it gets a larger limit.

        Args:
            state_dict: ``iteration`` or ``epoch`` (iterations or epochs done), ``epoch_length``, ``max_epochs`` or
                ``max_iters``, and all of ``state_dict_user_keys``. Inside an epoch of a run, only these are taken over.

        Raises:
            TypeError: If ``state_dict`` is not a mapping.
            ValueError: If a key is missing, or keys contradict each other. The engine is then left as it was.
            CheckpointError: If a random state is damaged; the same.

        Example:
            >>> engine = Engine(lambda engine, batch: batch)
            >>> engine.load_state_dict({"epoch": 3, "epoch_length": 2, "max_epochs": 5})
            >>> state = engine.run([1, 2])
            >>> state.epoch, state.iteration
            (5, 10)
        """
        progress, carried = read_progress(state_dict, self._state_dict_user_keys), read_carried(state_dict)
        state, position = self.state, self._position
        if not self._is_running:
            position = self._position = Position()
            self._paused_at = None
        if not position.in_epoch:
            position.place, position.left = progress.epoch_iteration, progress.left
            begun = BEFORE_STEP.get(progress.begun or "", 0)
            position.again = (progress.epochs_done + 1, progress.iteration, begun) if begun else None
            self._resumption.load(state, carried)
            state.metrics.update(progress.results.get("metrics", {}))
            state.output = progress.results.get("output", state.output)
        state.iteration, state.epoch = progress.iteration, progress.epochs_done
        state.epoch_length = progress.epoch_length
        state.max_epochs, state.max_iters = progress.max_epochs, progress.max_iters
        self._length_is_found = False
        self._dispatch.counts = progress.event_counts
        for key in self._state_dict_user_keys:
            setattr(state, key, state_dict[key])

    # ------------------------------------------------------------------------------------------------------ the run

    def set_data(self, data: Iterable[Any]) -> None:
        """Take the next batch from ``data``; the length of an epoch stays what it is.

        Outside a run: the next ``run()`` without data iterates it.

        Raises:
            TypeError: If ``data`` cannot be iterated.
        """
        check_data("set_data", data)
        self.state.dataloader = data
        self._data_is_set = not self._is_running
        self._position.iterate(self._resumption.go_over(data, self.state.seed))

    def run(
        self,
        data: Iterable[Any] | None = None,
        max_epochs: int | None = None,
        max_iters: int | None = None,
        epoch_length: int | None = None,
        seed: int | None = None,
    ) -> State:
        """Run the step over ``data``.

        A new run starts from zero if none was asked for before or as much is done as is asked for: ``max_epochs`` equal
        to the epochs done restarts, a larger one goes on. A run that was interrupted goes on where it was, one that was
        terminated or that raised goes on with the next epoch, and a loaded one from its iteration. A loaded run that
        is over stays over: no event is fired, unless the limit is larger than it was. Setting
        ``engine.state.max_epochs = None`` (``max_iters``, if that ruled) makes the next run start from zero.

        Args:
            data: Batches; anything that can be iterated. Where it runs out inside an epoch it is iterated anew, and
                where an epoch ends inside it the next one goes on from there. None: every batch is None.
            max_epochs: Epochs to reach; 1 for a new run if neither limit is given.
            max_iters: Iterations to reach, instead of ``max_epochs``.
            epoch_length: Iterations of an epoch; by default ``len(data)``, or found when the data first ends.
            seed: An integer of at most 64 bits, usually the same on all ranks (each goes on with its own otherwise):
                the run repeats bit for bit, also when it is cut after any iteration, saved and resumed, with any number
                of workers. It is kept in ``state.seed``, which decides: None leaves that as it is.

        Returns:
            The state.

        Raises:
            TypeError: If ``data`` cannot be iterated or a number is not an integer.
            ValueError: If a number is below 1, below what is done, or contradicts another argument or the run that goes
                on; if the data is empty; if there is neither data nor a length; if a seeded run cannot go on inside a
                pass over this data.
            RuntimeError: If this engine is running already.

        Example:
            >>> engine = Engine(lambda engine, batch: batch)
            >>> engine.run([1, 2, 3], max_epochs=2).iteration
            6
            >>> engine.run([1, 2, 3], max_epochs=3).iteration
            9
            >>> engine.run(epoch_length=5, max_epochs=3).iteration
            15
        """
        outer = _innermost.get()
        is_seeded = self._always_seeded or seed is not None or self.state.seed is not None
        with ExitStack() as scope:
            scope.enter_context(self._alone())
            if outer is not None and is_seeded:
                scope.callback(set_rng_state, rng_state())
            if not self._set_up(data, max_epochs, max_iters, epoch_length, seed):
                return self.state
            for context in self._run_contexts:
                scope.enter_context(context.enter(self))
            self.parent = outer
            self._was_nested = outer is not None
            token = _innermost.set(self)
            failures.add_listener(self._hear)
            try:
                self._is_running = True
                self._walk()
            except BaseException as error:
                self._paused_at = None
                self._position.leave()
                self._position.failed_at = self.last_event_name
                self._annotate(error, "the engine")
                if not self._is_suppressed(error):
                    raise
            finally:
                failures.remove_listener(self._hear)
                if self._stop is Stop.FAILED:
                    self._stop, self._rank_failed = Stop.NO, None
                _innermost.reset(token)
                self.parent = None
                self._is_running = False
                for event in _IN_ITERATION:
                    self._dispatch.channel(event).muted = False
        return self.state

    def plan(
        self,
        max_epochs: int | None = None,
        epoch_length: int | None = None,
        max_iters: int | None = None,
        data: Iterable[Any] | EllipsisType | None = ...,
        *,
        run: Sequence[Callable[..., Any]] = (),
        validations: Sequence[Callable[..., Any]] = (),
        seconds_per_iteration: float | None = None,
    ) -> Calendar:
        """Return a calendar of what :meth:`run` would do now: a dry run of the same loop, without data and step.

        Schedules, checkpoints, time limits, this engine's own ``terminate``, ``terminate_epoch`` and ``interrupt``, and
        the handlers named in ``run`` act in it; the calls of all others are only recorded. Filter functions are called.
        The engine is restored afterwards, and nothing that is attached to it is changed. A handler of the loop's own
        events that is never called is warned about.

        Args:
            max_epochs: As of :meth:`run`, with the same rules; as are the next two.
            epoch_length: See ``max_epochs``.
            max_iters: See ``max_epochs``.
            data: As of :meth:`run`; only its length is used. Default: the data of the run before, or else
                ``epoch_length`` batches.
            run: Handlers that are called, as a rule that counts epochs. They must change nothing but the attributes of
                this engine's state, which are restored.
            validations: Handlers that run an evaluator; they are not called, and the calendar marks them as such.
            seconds_per_iteration: Duration of a step and all that belongs to it, for handlers that read a clock.

        Raises:
            TypeError: As of :meth:`run`.
            ValueError: As of :meth:`run`; if the data has no length, and there is no ``epoch_length``; if a handler in
                ``run`` or ``validations`` is not a handler of this engine.
            RuntimeError: If this engine is running.

        Example:
            >>> trainer = Engine(lambda engine, batch: train(batch))
            >>> def validate(engine):
            ...     evaluator.run(validation_data)
            >>> handle = trainer.add_event_handler(Events.EPOCH_COMPLETED(every=2), validate)
            >>> handle = trainer.add_event_handler(Events.ITERATION_COMPLETED(once=25), trainer.terminate)
            >>> calendar = trainer.plan(max_epochs=9, epoch_length=10, validations=[validate])
            >>> [(mark.epoch, mark.iteration) for mark in calendar.validations], calendar.end, len(calendar.iterations)
            ([(2, 20)], 'TERMINATE', 25)
        """
        module = import_module("ignite_core.debug.plan.plan")  # above the engine, and rarely needed
        limits = module.Limits(data, max_epochs, max_iters, epoch_length)
        calendar: Calendar = module.make_plan(self, limits, run, validations, seconds_per_iteration)
        return calendar

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Let nothing else run this engine meanwhile, in this thread or in another one."""
        thread = threading.get_ident()
        own = [thread]
        running = self._runner.setdefault("run", own)  # one call alone finds its own, without a lock
        if running is not own:
            remedy = "a handler or step may run another engine, not its own"
            if running != own:
                remedy = "another thread runs it: make an engine for each thread"
            raise RuntimeError(
                f"Engine.run: this engine is running already (epoch {self.state.epoch}, iteration "
                f"{self.state.iteration}); {remedy}"
            )
        try:
            yield
        finally:
            del self._runner["run"]

    def _hear(self, found: RankFailed) -> None:
        """Another rank has failed, says another thread: the run raises it after the current step or handler."""
        self._rank_failed, self._stop = found, Stop.FAILED

    def _is_suppressed(self, error: BaseException) -> bool:
        """Tell the other ranks, then the handlers of EXCEPTION_RAISED; whether one of these suppresses the error.

        Raises:
            RankFailed: In place of an error that came of the failure or loss of another rank, unless suppressed.
        """
        self._suppressed = False
        with failures.reported(error) as told:
            self._fire_event(Events.EXCEPTION_RAISED, told)
        is_suppressed = self._suppressed and not isinstance(error, KeyboardInterrupt | SystemExit)
        try:
            if told is not error and not is_suppressed:
                raise told from error
            return is_suppressed
        finally:
            del told, error  # what is raised would refer to this frame, and it to that

    def _set_up(
        self,
        data: Iterable[Any] | None,
        max_epochs: int | None,
        max_iters: int | None,
        epoch_length: int | None,
        seed: int | None,
    ) -> bool:
        """Check the arguments of ``run`` and put state and position where it starts; False: there is nothing to run."""
        state = self.state
        if data is None and self._data_is_set:
            data = state.dataloader
        paused = self._paused_at is not None and not (state.max_epochs is None and state.max_iters is None)
        known_length = None if self._length_is_found and data is not None else state.epoch_length
        plan = plan_run(
            state,
            data,
            max_epochs,
            max_iters,
            epoch_length,
            paused=paused,
            known_length=known_length,
            loaded=self._loaded_position(max_epochs),
        )
        if plan.is_over:
            self.logger.warning("Engine.run: %s", said_over(state, plan))
            return False
        check_seed(seed, None if plan.is_new else state.seed)  # up to here nothing is changed
        state.seed = state.seed if seed is None else int(seed)
        if plan.is_new:
            self._begin_anew()
            self._length_is_found = data is not None and epoch_length is None and plan.epoch_length != known_length
        state.max_epochs, state.max_iters, state.epoch_length = plan.max_epochs, plan.max_iters, plan.epoch_length
        self._data_is_set = False
        self._note = None
        fire = self._fire_event
        self._relays = getattr(fire, "__func__", None) is not Engine._fire_event
        if paused:
            self._continue()
        else:
            self._start(data)
        limit = f"max_epochs={state.max_epochs}" if state.max_iters is None else f"max_iters={state.max_iters}"
        begun = "starting" if plan.is_new else f"going on from epoch {state.epoch}, iteration {state.iteration},"
        self.logger.info("Engine run %s with %s.", begun, limit)
        return True

    def _loaded_position(self, max_epochs: int | None) -> Position | None:
        """Where a loaded run goes on; None without one, and for an evaluator, which runs again and again."""
        limit = self.state.max_epochs if max_epochs is None else max_epochs
        is_evaluator = self._position.left == "everything" or (limit == 1 and _innermost.get() is not None)
        return self._position if self._resumption.is_waiting and not is_evaluator else None

    def _begin_anew(self) -> None:
        """Forget how far an earlier run had come."""
        self.state.iteration = self.state.epoch = 0
        self._position = Position()
        self._resumption.load(self.state, None)
        self._dispatch.counts = {}

    def _start(self, data: Iterable[Any] | None) -> None:
        """Get ready to fire STARTED: at zero, at the next epoch, or inside the epoch that was loaded."""
        if self._always_seeded and self.state.seed is None:
            self.state.seed = drawn_seed()
        before = self._position
        if before.started:
            position = Position(0, before.passes)
        else:
            position = Position(before.place, left=before.left if before.left in CUTS else None)
            position.epoch_is_over, position.again = before.left == "epoch_completed", before.again
        self._resumption.begin(self.state, data, position, self._process_function)
        self._position = position
        self._stop, self._skip, self._is_final, self._paused_at = Stop.NO, False, False, None
        self._dispatch.note_counters(self.state)
        self.state.dataloader = data
        self.state.times = {"EPOCH_COMPLETED": 0.0, "COMPLETED": 0.0}

    def _continue(self) -> None:
        """Get ready to go on after the event at which the run was interrupted; what was fired is not fired again."""
        state, position, at = self.state, self._position, self._paused_at
        position.resume_clock()
        self._resumption.go_on()
        self._paused_at = None
        nothing_to_end = not position.in_epoch or position.epoch_is_over
        if self._stop is Stop.INTERRUPT or (self._stop is Stop.EPOCH and nothing_to_end):  # asked for during the pause
            self._stop = Stop.NO
        if self._stop or position.epoch_is_over or at not in _FIRED_BEFORE_PAUSE:
            return
        fired = _IN_ITERATION[: _FIRED_BEFORE_PAUSE[at]]
        for event in fired if state.dataloader is not None else fired[2:]:
            self._dispatch.channel(event).mute()
        position.place -= 1
        if Events.GET_BATCH_COMPLETED in fired:
            position.put_back(state.batch)
        if Events.ITERATION_STARTED in fired:
            state.iteration -= 1

    def _walk(self) -> None:
        """Go through the events of a run, from where it stands.

        ::

            STARTED
            per epoch:
                EPOCH_STARTED
                per batch:
                    GET_BATCH_STARTED, <next batch>, GET_BATCH_COMPLETED
                    ITERATION_STARTED, output = step(engine, batch), ITERATION_COMPLETED
                EPOCH_COMPLETED
            COMPLETED

        After each event the request to stop is looked at: ``EPOCH`` leads to TERMINATE_SINGLE_EPOCH and the end of
        the epoch, ``INTERRUPT`` to INTERRUPT and out, ``RUN`` to TERMINATE and COMPLETED.
        """
        state, position = self.state, self._position
        at: Any = self._paused_at
        if not position.started:
            separate_lone_handlers(self)
            position.start_clock()
            position.started = True
            self._resumption.begin_epoch(state, 0)
            at = self._reach(Events.STARTED)
            self._dispatch.note_counters(state)
            self._refuse_to_cut_epoch(at)
        while self._stop < Stop.INTERRUPT and (position.in_epoch or not self._is_done()):
            if not position.in_epoch:
                if self._resumption.is_waiting:  # loaded by a handler of STARTED, say
                    self._resumption.begin(state, state.dataloader, position, self._process_function)
                position.begin_epoch(state)
                position.resumed = position.place > 0 or position.is_again(Events.EPOCH_STARTED, state)
                self._resumption.begin_epoch(state, state.epoch)
                at = self._reach(Events.EPOCH_STARTED)
                self._dispatch.note_counters(state)
                position.resumed = False
                self._refuse_to_cut_epoch(at)
                self._resumption.go_on()
                self._cut_loaded_epoch(position)
            if not self._stop and not position.epoch_is_over:
                at = self._run_batches(position)
            if self._stop < Stop.INTERRUPT:
                at = self._end_epoch(position, at)
        if self._stop is Stop.INTERRUPT:
            self._pause(position, at)
        elif self._stop < Stop.FAILED:
            self._complete(position)
        if self._stop is Stop.FAILED:
            failures.raise_if_failed()
            assert self._rank_failed is not None
            raise self._rank_failed  # it was withdrawn this very moment

    def _run_batches(self, position: Position) -> Any:
        """Run what is left of the epoch; returns the event reached last."""
        state, step = self.state, self._process_function
        get_started, get_completed, started, completed = self._channels_of_iteration()
        getting, starting = Events.GET_BATCH_STARTED, Events.ITERATION_STARTED
        for position.place in position.batches(state):  # noqa: B020 - counted where it is kept: an assignment less
            self.last_event_name = getting
            if not get_started.lo < state.iteration < get_started.hi:
                get_started.fire(self, state.iteration)
                if self._stop:
                    return getting
            state.batch = None
            exhausted = False
            try:
                state.batch = next(position.iterator)
            except StopIteration:
                exhausted = True
            except BaseException as error:
                self._annotate(error, "the data")
                raise
            if exhausted:
                self._refill(position)
                if self._stop or position.epoch_is_over:
                    return Events.DATALOADER_STOP_ITERATION
            state.output = None
            if not get_completed.lo < state.iteration < get_completed.hi:
                get_completed.fire(self, state.iteration)
            if self._stop:
                return Events.GET_BATCH_COMPLETED
            state.iteration += 1
            self.last_event_name = starting
            if not started.lo < state.iteration < started.hi:
                started.fire(self, state.iteration)
                if self._stop:
                    return starting
            try:
                state.output = step(self, state.batch)
            except BaseException as error:
                self._annotate(error, f"the step {describe(step)}")
                raise
            position.done = iteration = state.iteration
            if not completed.lo < iteration < completed.hi:
                completed.fire(self, iteration)
            if self._stop:
                return Events.ITERATION_COMPLETED
        if position.place != state.epoch_length and state.max_iters is not None and state.iteration >= state.max_iters:
            self._request(Stop.RUN, False)
        return Events.ITERATION_COMPLETED

    def _channels_of_iteration(self) -> list[EventChannel]:
        """The channels of the events that every batch reaches; without data, nobody hears of batches being fetched."""
        channels = [self._dispatch.channel(event) for event in _IN_ITERATION]
        if self._relays:
            channels = [ForwardingChannel(channel) for channel in channels]
        if self.state.dataloader is None:
            channels[:2] = (EventChannel(event, None) for event in _IN_ITERATION[:2])
        return channels

    def _refill(self, position: Position) -> None:
        """The data ran out where a batch is needed: fetch the first one of the next pass, or end the epoch."""
        state = self.state
        if state.epoch_length is None:
            position.place -= 1
            check_not_empty(position.place)
            position.epoch_is_over = True
            state.epoch_length = self._resumption.data_length = position.place
            self._length_is_found = True
            return
        if not position.restarted:
            position.restarted = True
            self._reach(Events.DATALOADER_STOP_ITERATION)
            position.iterate(self._resumption.passes)
            if self._stop:
                return
            try:
                state.batch = next(position.iterator)
            except StopIteration:
                pass
            except BaseException as error:
                self._annotate(error, "the data")
                raise
            else:
                return
        position.place -= 1
        position.epoch_is_over = position.exhausted = True
        warnings.warn(
            f"Engine.run: the data gave {position.place} of the {state.epoch_length} batches of epoch {state.epoch} "
            "and has no more: it is an iterator that cannot be iterated twice. Pass data that can, or give a new "
            "iterator to engine.set_data() in a handler of DATALOADER_STOP_ITERATION.",
            stacklevel=5,
        )

    def _end_epoch(self, position: Position, at: Any) -> Any:
        """Fire what belongs to the end of an epoch, run through or cut; returns the event reached last."""
        state = self.state
        skip = False
        if self._stop is Stop.EPOCH:
            skip = self._skip
            position.cut_epoch(completes=not skip)
            at = self._reach(Events.TERMINATE_SINGLE_EPOCH, position.begun_in_epoch(state))
            position.iterate(self._resumption.passes)
            if self._stop > Stop.EPOCH and not skip:
                return at
        position.end_epoch()
        if not skip:
            state.times["EPOCH_COMPLETED"] = position.seconds_in_epoch()
            at = self._reach(Events.EPOCH_COMPLETED)
            state.times["EPOCH_COMPLETED"] = position.seconds_in_epoch()
        if self._stop is Stop.EPOCH:  # answered; there is nothing left to end
            self._stop = Stop.NO
        self.logger.info("Epoch %d of the run completed in %.3f s.", state.epoch, position.seconds_in_epoch())
        return at

    def _is_done(self) -> bool:
        """Whether the run is at its end; one that goes by iterations ends with data that has no more, too."""
        position = self._position
        if position.exhausted and self.state.max_iters is not None:
            return True
        return is_done(self.state) and not position.has_epoch_to_end(self.state)

    def _complete(self, position: Position) -> None:
        """Fire what belongs to the end of a run, run through or terminated."""
        state = self.state
        position.leave()
        terminated, skip = self._stop is Stop.RUN, self._skip
        if terminated:
            self._reach(Events.TERMINATE)
        state.times["COMPLETED"] = position.seconds_in_run()
        if not (terminated and skip):
            self._reach(Events.COMPLETED)
            state.times["COMPLETED"] = position.seconds_in_run()
        self.logger.info("Engine run completed in %.3f s.", position.seconds_in_run())

    def _pause(self, position: Position, at: Any) -> None:
        self._stop, self._paused_at = Stop.NO, at
        position.stop_clock()
        self._resumption.pause(self.state)
        self._reach(Events.INTERRUPT)
        if self._stop is Stop.INTERRUPT:  # asked for by a handler of INTERRUPT: it is being answered
            self._stop = Stop.NO

    def _reach(self, event: Events, *extras: Any) -> Events:
        self._fire_event(event, *extras)
        return event

    def _refuse_to_cut_epoch(self, at: Events) -> None:
        if self._stop is Stop.EPOCH:
            self._stop = Stop.NO
            raise RuntimeError(
                f"terminate_epoch() was called at {at!r}, where no epoch has begun to run that it could end; "
                "call it at GET_BATCH_STARTED or later, or call terminate()"
            )

    def _cut_loaded_epoch(self, position: Position) -> None:
        """Go on with what was left of an epoch that was cut when it was saved."""
        left, position.left = position.left, None
        if left in ("terminate_epoch", "skip_epoch_completed"):
            self._request(Stop.EPOCH, left == "skip_epoch_completed")

    def _fire_event(self, event_name: Any, *event_args: Any, **event_kwargs: Any) -> None:
        """Run the handlers of an event, with more arguments for each. A subclass that overrides it sees every event."""
        channel = self._dispatch.channel(event_name)
        count = self._count(channel)
        self.last_event_name = channel.event
        if channel.event is Events.EXCEPTION_RAISED and event_args:
            self._suppressed = self._show_exception(channel, count, event_args[0])
        elif event_args or event_kwargs:
            channel.fire_with(self, count, event_args, event_kwargs)
        elif not channel.lo < count < channel.hi:
            channel.fire(self, count)

    def _show_exception(self, channel: EventChannel, count: int, error: BaseException) -> bool:
        """Run all handlers of EXCEPTION_RAISED, whatever they raise; whether one of them suppresses ``error``.

        The first exception of theirs, other than ``error`` itself, is raised when all have run.
        """
        suppressed = False
        raised: BaseException | None = None
        for registration in channel.due(self, count):
            try:
                suppressed |= registration.invoke(self, (error,), {}) is True
            except BaseException as other:
                if other is error:
                    continue
                if raised is None:
                    raised = other
                    self._annotate(other, registration.culprit)
                else:
                    raised.add_note(
                        f"Another handler of {channel.event!r}, {describe(registration.handler)}, raised {other!r}"
                    )
        if raised is not None:
            raise raised
        return suppressed

    def _count(self, channel: EventChannel) -> int:
        """The count of an event that is fired now."""
        if channel.counter is None:
            channel.fired += 1
            return int(channel.fired)
        count: int = getattr(self.state, channel.counter)
        if channel.jumps:
            channel.move_to(count)
        return count

    def _annotate(self, error: BaseException, culprit: str) -> None:
        """Note on an exception where it came from: once a run, by whoever was nearest."""
        if self._note is None or self._note not in getattr(error, "__notes__", ()):
            state = self.state
            rank = dist.get_rank() if dist.is_available() and dist.is_initialized() else 0
            self._note = f"Raised by {culprit}, epoch {state.epoch}, iteration {state.iteration}, rank {rank}."
            error.add_note(self._note)

    def __str__(self) -> str:
        return draw(type(self).__name__, describe(self._process_function), self.handlers())


#: The events that every batch reaches, in their order.
_IN_ITERATION = (
    Events.GET_BATCH_STARTED,
    Events.GET_BATCH_COMPLETED,
    Events.ITERATION_STARTED,
    Events.ITERATION_COMPLETED,
)

#: How many of them were fired, for the batch at hand, when a run is interrupted after the event.
_FIRED_BEFORE_PAUSE = {
    Events.GET_BATCH_STARTED: 1,
    Events.DATALOADER_STOP_ITERATION: 1,
    Events.GET_BATCH_COMPLETED: 2,
    Events.ITERATION_STARTED: 3,
}


def _check_step(step: Any) -> None:
    if not callable(step):
        raise TypeError(
            f"Engine: the step must be callable as step(engine, batch), got {step!r} of {type(step).__name__}"
        )
    try:
        signature = inspect.signature(step)
    except (TypeError, ValueError):  # a builtin that does not tell
        return
    try:
        signature.bind(None, None)
    except TypeError as error:
        raise ValueError(
            f"Engine: the step must take (engine, batch), got {describe(step)} with the signature {signature}: {error}"
        ) from error
