"""The engine, as users call it; :mod:`ignite_core.engine.run` is the state of its run, ``loop`` the loop."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from importlib import import_module
from types import EllipsisType
from typing import TYPE_CHECKING, Any, TypeVar

from ignite_core.engine.describe import describe, draw
from ignite_core.engine.dispatch import Dispatch
from ignite_core.engine.events import BareEvent, EventEnum, EventName, Events, SingleEvent
from ignite_core.engine.lone_handlers import name_of_engine
from ignite_core.engine.loop import exclusive, execute
from ignite_core.engine.registration import Registration, RemovableEventHandle, RemovableHandle, Wrap, weak_call
from ignite_core.engine.run import Run, RunContext, Stop, innermost
from ignite_core.engine.run_arguments import Arguments, check_data, check_step
from ignite_core.engine.state import State
from ignite_core.rng import rng_state, set_rng_state

if TYPE_CHECKING:
    from ignite_core.debug.plan.calendar import Calendar

__all__ = ["Engine"]

Handler = TypeVar("Handler", bound=Callable[..., Any])


class Engine:
    """Runs a step function over batches and fires events around it.

    Args:
        process_function: The step, ``step(engine, batch) -> output``; what it returns becomes ``engine.state.output``.

    Attributes:
        state: Counters, batch, output and metrics of the run, and the user's own attributes.
        logger: A :class:`logging.Logger`; runs are reported at level INFO.
        last_event_name: The event reached last.
        parent: The engine inside whose run this one is running, in the same thread; else None.

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
        check_step(process_function)
        self.logger = logging.getLogger(f"{__name__}.{type(self).__name__}")
        self.state = State()
        self.last_event_name: SingleEvent | None = None
        self.parent: Engine | None = None
        self._process_function = process_function
        self._name = name_of_engine(process_function)
        self._state_dict_user_keys: list[str] = []
        self._run = Run()
        self._runner: dict[str, list[int]] = {}  # the thread that runs the engine
        self._dispatch = Dispatch()
        self._run_contexts: list[RunContext] = []
        self.register_events(*Events, event_to_attr={event: State.event_to_attr.get(event) for event in Events})

    def register_events(self, *event_names: BareEvent, event_to_attr: Mapping[Any, str | None] | None = None) -> None:
        """Allow custom events to be fired and to have handlers. The engine counts how often each is fired, for filters.

        Args:
            event_names: Members of an :class:`EventEnum`, or strings.
            event_to_attr: The attribute of ``state`` that counts an event, for events with their own counter. The user
                moves it, by any number at a time (see :class:`Events`); it starts at 0 if it does not exist.

        Example:
            >>> class BackpropEvents(EventEnum):
            ...     BACKWARD_COMPLETED = "backward_completed"
            >>> trainer = Engine(lambda engine, batch: engine.fire_event(BackpropEvents.BACKWARD_COMPLETED))
            >>> trainer.register_events(*BackpropEvents)
            >>> @trainer.on(BackpropEvents.BACKWARD_COMPLETED(every=2))
            ... def show():
            ...     print("backward", trainer.state.iteration)
            >>> state = trainer.run(range(3))
            backward 2
        """
        self._dispatch.register_events(event_names, {} if event_to_attr is None else event_to_attr, self.state)

    def has_registered_events(self, event: EventName) -> bool:
        """Whether the event may be fired on this engine."""
        return event in self._dispatch

    def add_event_handler(
        self, event_name: EventName, handler: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> RemovableEventHandle:
        """Call ``handler`` each time the event is fired; the handle removes exactly this registration.

        The handler is called with the engine first if its signature accepts it (any first parameter does, also one with
        a default; a method of this engine does not get it), then the argument of the event (the exception for
        ``EXCEPTION_RAISED``, ``iter_counter`` for ``TERMINATE_SINGLE_EPOCH``), then ``args`` and ``kwargs``. Handlers
        run by priority, then in the order of registration, also those that are added while their event is fired.

        Args:
            event_name: An event, with or without filter, or several joined by ``|``.
            handler: Any callable.
            args: Passed to the handler.
            kwargs: Passed to the handler.

        Raises:
            TypeError: If ``handler`` is not callable or ``event_name`` is not an event.
            ValueError: If the event is not known, or the handler does not accept these arguments.

        Example:
            >>> engine = Engine(lambda engine, batch: batch)
            >>> def show(engine, text):
            ...     print(text, engine.state.epoch)
            >>> with engine.add_event_handler(Events.STARTED | Events.COMPLETED, show, "epochs:"):
            ...     state = engine.run([1, 2], max_epochs=3)
            epochs: 0
            epochs: 3
        """
        return self._dispatch.add(self, event_name, handler, args, kwargs)

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
        return bool(self._dispatch.find(handler, event_name, unknown_is_error=False))

    def remove_event_handler(self, handler: Callable[..., Any], event_name: EventName) -> None:
        """Remove every registration of ``handler`` on the event.

        A bare event matches all its filters, a filtered one only the same filter. It is a ValueError if none matches.
        """
        found = self._dispatch.find(handler, event_name)
        if not found:
            raise ValueError(f"remove_event_handler: {describe(handler)} is not a handler of {event_name!r}")
        for registration in found:
            self._dispatch.remove(registration)

    def handlers(self, event_name: EventName | None = None) -> tuple[Registration, ...]:
        """The registered handlers in the order in which they run: by event, and within an event by priority.

        Args:
            event_name: Only those of this event, or of several joined by ``|``, with any filter. By default all:
                those of the loop in its order, then those of custom events. An unknown event is a ValueError.

        Example:
            >>> trainer = Engine(lambda engine, batch: batch)
            >>> handle = trainer.add_event_handler(Events.COMPLETED, print, "done")
            >>> handle = trainer.add_event_handler(Events.STARTED(priority=5), print)
            >>> [(one.event, one.handler.__name__, one.args) for one in trainer.handlers()]
            [(Events.STARTED(priority=5), 'print', ()), (Events.COMPLETED, 'print', ('done',))]
        """
        return tuple(self._dispatch.registrations(event_name))

    def instrument(self, wrap: Wrap, *, opens_filter: Callable[[Registration], bool] | None = None) -> RemovableHandle:
        """Run each call of each handler inside a wrap, including handlers added later, until the handle is removed.

        Args:
            wrap: ``wrap(registration, call)`` returns what runs in place of ``call(engine)``, and makes that call; or
                ``call`` itself. It is called again when the instruments change. The last instrument is outermost.
            opens_filter: ``opens_filter(registration)`` tells whether to ignore the numeric part of its filter, so that
                the handler is called at every occurrence of the event.

        Example:
            >>> trainer = Engine(lambda engine, batch: batch)
            >>> handle = trainer.add_event_handler(Events.COMPLETED, lambda: print("done"))
            >>> with trainer.instrument(lambda registration, call: lambda engine: print("before") or call(engine)):
            ...     state = trainer.run([0])
            before
            done
        """
        return self._dispatch.instrument(wrap, opens_filter)

    def add_run_context(self, factory: Callable[[Engine], AbstractContextManager[object]]) -> RemovableHandle:
        """Enter the context manager ``factory(engine)`` around every run, and around each part of an interrupted one.

        They are entered in the order in which they were added, and exited in reverse order, also if the run raises. If
        the handle is removed during a run, what was entered is exited at once.

        Example:
            >>> import torch
            >>> engine = Engine(lambda engine, batch: torch.is_grad_enabled())
            >>> with engine.add_run_context(lambda engine: torch.no_grad()):
            ...     engine.run([1]).output
            False
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
        """Run the handlers of an event, usually of a custom one; a ValueError if it is not known."""
        self._fire_event(event_name)

    def terminate(self, skip_completed: bool = False, *, final: bool = False) -> None:
        """End the run after the event at which this is called: ``TERMINATE`` and ``COMPLETED`` follow.

        The next :meth:`run`, also of a state saved after this call, continues with the next epoch, or starts from zero
        if this was the last.

        Args:
            skip_completed: Leave ``COMPLETED`` out.
            final: A state saved after this call is over where it is loaded: :meth:`run` returns at once, unless it gets
                a larger limit. :class:`~ignite_core.handlers.EarlyStopping` uses it.
        """
        self._run.request(Stop.RUN, skip_completed)
        self._run.is_final |= final

    def terminate_epoch(self, skip_epoch_completed: bool = False) -> None:
        """End the epoch after the event at which this is called: ``TERMINATE_SINGLE_EPOCH`` and ``EPOCH_COMPLETED``.

        The next epoch starts a new pass over the data. At ``EPOCH_COMPLETED`` the call has no effect; at ``STARTED``
        and ``EPOCH_STARTED`` it makes the run raise a RuntimeError. ``skip_epoch_completed`` leaves that event out.
        """
        self._run.request(Stop.EPOCH, skip_epoch_completed)

    def interrupt(self) -> None:
        """Pause the run after the event at which this is called (in the step: after ``ITERATION_COMPLETED``).

        ``INTERRUPT`` is fired and :meth:`run` returns. The next ``run()`` continues with the same iterator, without
        losing a batch. ``state.max_epochs = None`` drops the pause.

        Example:
            >>> engine = Engine(lambda engine, batch: print(batch))
            >>> handle = engine.add_event_handler(Events.ITERATION_COMPLETED(once=2), engine.interrupt)
            >>> state = engine.run([10, 20, 30])
            10
            20
            >>> state = engine.run([10, 20, 30])
            30
        """
        self._run.request(Stop.INTERRUPT)

    @property
    def should_terminate(self) -> bool | str:
        """Whether ``terminate()`` was called: False, True or ``"skip_completed"``."""
        return self._run.stop is Stop.RUN and ("skip_completed" if self._run.skip else True)

    @property
    def should_terminate_single_epoch(self) -> bool | str:
        """Whether ``terminate_epoch()`` was called: False, True or ``"skip_epoch_completed"``."""
        return self._run.stop is Stop.EPOCH and ("skip_epoch_completed" if self._run.skip else True)

    @property
    def should_interrupt(self) -> bool:
        """Whether ``interrupt()`` was called."""
        return self._run.stop is Stop.INTERRUPT

    @property
    def process_function(self) -> Callable[[Any, Any], Any]:
        return self._process_function

    @property
    def state_dict_user_keys(self) -> list[str]:
        """Names of attributes of ``state`` that :meth:`state_dict` saves too; append to it."""
        return self._state_dict_user_keys

    @property
    def is_running(self) -> bool:
        """Whether a run is in progress."""
        return self._run.is_running

    @property
    def is_paused(self) -> bool:
        """Whether the last run was interrupted, so that the next one continues it."""
        return self._run.is_paused(self.state)

    @property
    def run_started_at(self) -> float:
        """The :func:`time.perf_counter` at which the current or last run started; it stays so over pauses."""
        return self._run.started_at

    @property
    def iterations_done(self) -> int:
        """Iterations whose step has returned: ``state.iteration``, or one less inside an iteration."""
        return self._run.position.progress(self.state)[0]

    @property
    def epoch_iteration(self) -> int:
        """Number of the current batch in its epoch, the first is 1; 0 between epochs."""
        return self._run.position.place

    @property
    def is_resumed(self) -> bool:
        """At ``STARTED`` and ``EPOCH_STARTED``: this run, or this epoch, continues from what was loaded.

        At ``GET_BATCH_STARTED``, ``GET_BATCH_COMPLETED`` and ``ITERATION_STARTED``: the event was already fired before
        the run was saved, for an iteration that was not done and is run again. A handler whose state was loaded has
        counted it: it must neither reset what it accumulates over an epoch nor count the call again.
        """
        position = self._run.position
        return position.resumed or (position.again is not None and position.is_again(self.last_event_name, self.state))

    def state_dict(self) -> OrderedDict[str, Any]:
        """What is needed to continue: plain numbers, and the attributes named in ``state_dict_user_keys``.

        An iteration is done when its step has returned. If the state is saved before, or after the step raised, the
        resumed run runs the iteration as a whole; if it is saved at ``ITERATION_COMPLETED``, what is left of its epoch.

        Returns:
            ``iteration`` (those done), ``epoch_length``, and ``max_epochs`` or ``max_iters``. Where they do not follow
            from these: ``epochs_done`` and ``epoch_iteration``, as after ``terminate_epoch()``; ``left``, what is left
            of the run (the end of a cut epoch, nothing after ``terminate(final=True)``, everything for an evaluator);
            ``begun``, the last event fired before the step of an iteration that is not done. ``event_counts``: of
            events that nothing else counts. ``metrics`` and ``output``: numbers, strings and small tensors. A seeded
            run adds ``seed``, ``data_pass`` (the number of the pass over the data, and its batches done),
            ``global_batch`` (samples in a batch of all ranks, if known), ``num_workers`` (that share a stream) and
            ``by_rank``, a list with the state of this process; a :class:`~ignite_core.handlers.Checkpoint` collects
            those of all ranks. If epochs and data differ in length, ``data_pass`` and ``data_length`` (None if unknown)
            are saved without a seed, too. All of it loads with ``torch.load(weights_only=True)``.
        """
        return self._run.save(self, self._state_dict_user_keys)

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Load what :meth:`state_dict` saved, or numbers written by hand; the next :meth:`run` continues from there.

        A seeded run, one without data and one whose data has ``load_state_dict`` continue with the next batch, on any
        number of ranks that keeps the samples in a batch of all ranks. Any other run warns and repeats an epoch that
        was cut; ``iteration`` counts on. If nothing is left, :meth:`run` returns at once, unless its limit is larger.

        Args:
            state_dict: ``iteration`` or ``epoch`` (iterations or epochs done), ``epoch_length``, ``max_epochs`` or
                ``max_iters``, and all of ``state_dict_user_keys``. Inside an epoch of a run, only these are loaded.

        Raises:
            TypeError: If ``state_dict`` is not a mapping.
            ValueError: If a key is missing, or keys contradict each other; the engine is then unchanged.
            CheckpointError: If a random state is damaged; the engine is then unchanged.

        Example:
            >>> engine = Engine(lambda engine, batch: batch)
            >>> engine.load_state_dict({"epoch": 3, "epoch_length": 2, "max_epochs": 5})
            >>> state = engine.run([1, 2])
            >>> state.epoch, state.iteration
            (5, 10)
        """
        self._run.load(self, state_dict, self._state_dict_user_keys)

    def reopen(self) -> None:
        """Let a loaded run that was ended by ``terminate(final=True)`` continue up to its limit."""
        self._run.reopen()

    def set_data(self, data: Iterable[Any]) -> None:
        """Take the next batch from ``data``; outside a run, that of the next ``run()`` without data.

        The length of an epoch does not change. A TypeError if ``data`` cannot be iterated.
        """
        check_data("set_data", data)
        self.state.dataloader = data
        run = self._run
        run.data_is_set = not run.is_running
        run.position.iterate(run.resumption.go_over(data, self.state.seed))

    def run(
        self,
        data: Iterable[Any] | None = None,
        max_epochs: int | None = None,
        max_iters: int | None = None,
        epoch_length: int | None = None,
        seed: int | None = None,
    ) -> State:
        """Run the step over ``data``, and return the state.

        A new run starts from zero if none was requested yet, or as much is done as is requested: ``max_epochs`` equal
        to the epochs done restarts, a larger one continues. An interrupted run continues where it was, one that was
        terminated or raised with the next epoch, a loaded one from its iteration; one that is over fires no event,
        unless the limit is larger. Set ``engine.state.max_epochs = None`` (or ``max_iters``) to start from zero.

        Args:
            data: Any iterable of batches. If it ends inside an epoch it is iterated again; if an epoch ends inside it,
                the next one continues from there. None: every batch is None.
            max_epochs: Epochs to reach; 1 for a new run if neither limit is given.
            max_iters: Iterations to reach, instead of ``max_epochs``.
            epoch_length: Iterations of an epoch; by default ``len(data)``, or found when the data first ends.
            seed: An integer of at most 64 bits, usually the same on all ranks, stored in ``state.seed``. The run is
                then reproducible bit for bit, also if it is cut after any iteration, saved and resumed, with any number
                of workers. None leaves ``state.seed`` unchanged.

        Raises:
            TypeError: If ``data`` cannot be iterated or a number is not an integer.
            ValueError: If a number is below 1 or below what is done, or arguments contradict each other or the run that
                continues; without data and length; if a seeded run cannot continue inside a pass over this data.
            RuntimeError: If this engine is running already.

        Example:
            >>> engine = Engine(lambda engine, batch: batch)
            >>> engine.run([1, 2, 3], max_epochs=2).iteration
            6
            >>> engine.run([1, 2, 3], max_epochs=3).iteration
            9
        """
        run, outer = self._run, innermost.get()
        is_seeded = self._always_seeded or seed is not None or self.state.seed is not None
        with ExitStack() as stack:
            stack.enter_context(exclusive(self, self._runner))
            if outer is not None and is_seeded:
                stack.callback(set_rng_state, rng_state())
            if not run.set_up(self, Arguments(data, max_epochs, max_iters, epoch_length, seed)):
                return self.state
            run.overrides_firing = getattr(self._fire_event, "__func__", None) is not Engine._fire_event
            for context in self._run_contexts:
                stack.enter_context(context.enter(self))
            self.parent = outer
            run.was_nested = outer is not None
            execute(self, run)
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
        the handlers named in ``run`` act in it; calls of all others are recorded. The engine is restored afterwards.
        Filter functions are called. It warns of handlers of the loop's own events that are never called.

        Args:
            max_epochs: As of :meth:`run`.
            epoch_length: As of :meth:`run`.
            max_iters: As of :meth:`run`.
            data: As of :meth:`run`; only its length is used. Default: that of the last run, or of an epoch.
            run: Handlers that are called. They must change nothing but attributes of the state, which are restored.
            validations: Handlers that run an evaluator; they are not called, and the calendar marks them as such.
            seconds_per_iteration: Duration of a step and all that belongs to it, for handlers that read a clock.

        Raises:
            ValueError: As of :meth:`run`; if the length of an epoch is unknown, or a named handler is not registered.
            RuntimeError: If this engine is running.

        Example:
            >>> trainer, validate = Engine(lambda engine, batch: train(batch)), lambda: evaluator.run(validation_data)
            >>> handle = trainer.add_event_handler(Events.EPOCH_COMPLETED(every=2), validate)
            >>> handle = trainer.add_event_handler(Events.ITERATION_COMPLETED(once=25), trainer.terminate)
            >>> calendar = trainer.plan(max_epochs=9, epoch_length=10, validations=[validate])
            >>> [(mark.epoch, mark.iteration) for mark in calendar.validations], calendar.end, len(calendar.iterations)
            ([(2, 20)], 'TERMINATE', 25)
        """
        module: Any = import_module("ignite_core.debug.plan.plan")  # above the engine, and rarely needed
        arguments = module.Arguments(data, max_epochs, max_iters, epoch_length)
        return module.make_plan(self, arguments, run, validations, seconds_per_iteration)  # type: ignore[no-any-return]

    def _fire_event(self, event_name: SingleEvent, *event_args: Any, **event_kwargs: Any) -> None:
        """Run the handlers of an event, with more arguments for each. A subclass that overrides it sees every event."""
        channel = self._dispatch.channel(event_name)
        count = channel.count(self.state)
        self.last_event_name = channel.event
        if channel.event is Events.EXCEPTION_RAISED and event_args:
            self._run.suppressed = channel.fire_exception(self, count, event_args[0])
        elif event_args or event_kwargs:
            channel.fire_with(self, count, event_args, event_kwargs)
        elif not channel.lo < count < channel.hi:
            channel.fire(self, count)

    def _annotate(self, error: BaseException, culprit: str) -> None:
        self._run.annotate(error, culprit, self.state)

    def __str__(self) -> str:
        return draw(type(self).__name__, describe(self._process_function), self.handlers())
