"""The engine: what users call. The state of a run and its loop are in :mod:`ignite_core.engine.run`."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from importlib import import_module
from types import EllipsisType
from typing import TYPE_CHECKING, Any, TypeVar

import torch.distributed as dist

from ignite_core.distributed.failures import api as failures
from ignite_core.engine.describe import describe, draw
from ignite_core.engine.dispatch import Dispatch, Instrument
from ignite_core.engine.events import BareEvent, EventEnum, EventName, Events, EventsList, SingleEvent
from ignite_core.engine.lone_handlers import name_of_engine
from ignite_core.engine.registration import (
    Registration,
    RemovableEventHandle,
    RemovableHandle,
    RunContext,
    Wrap,
    weak_call,
)
from ignite_core.engine.run import ITERATION_EVENTS, Run, Stop, innermost
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
        self._run.request(Stop.RUN, skip_completed)
        self._run.is_final |= final

    def terminate_epoch(self, skip_epoch_completed: bool = False) -> None:
        """End the epoch after the event at which this is called: ``TERMINATE_SINGLE_EPOCH`` and ``EPOCH_COMPLETED``.

        The next epoch iterates the data anew. At ``EPOCH_COMPLETED`` there is nothing left to end and the call is
        ignored; at ``STARTED`` and ``EPOCH_STARTED`` it makes the run raise a RuntimeError.

        Args:
            skip_epoch_completed: Leave ``EPOCH_COMPLETED`` out.
        """
        self._run.request(Stop.EPOCH, skip_epoch_completed)

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
        self._run.request(Stop.INTERRUPT)

    @property
    def should_terminate(self) -> bool | str:
        """Whether ``terminate()`` was asked for: False, True or ``"skip_completed"``."""
        return self._run.stop is Stop.RUN and ("skip_completed" if self._run.skip else True)

    @property
    def should_terminate_single_epoch(self) -> bool | str:
        """Whether ``terminate_epoch()`` was asked for: False, True or ``"skip_epoch_completed"``."""
        return self._run.stop is Stop.EPOCH and ("skip_epoch_completed" if self._run.skip else True)

    @property
    def should_interrupt(self) -> bool:
        """Whether ``interrupt()`` was asked for."""
        return self._run.stop is Stop.INTERRUPT

    # ------------------------------------------------------------------------------------------------- save and load

    @property
    def process_function(self) -> Callable[[Any, Any], Any]:
        """The step."""
        return self._process_function

    @property
    def state_dict_user_keys(self) -> list[str]:
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
    def iterations_done(self) -> int:
        """Iterations whose step has returned: ``state.iteration``, or one less inside an iteration."""
        return self._run.position.progress(self.state)[0]

    @property
    def epoch_iteration(self) -> int:
        """Number of the current batch in its epoch, the first is 1; 0 between epochs."""
        return self._run.position.place

    @property
    def is_resumed(self) -> bool:
        """At ``STARTED`` and ``EPOCH_STARTED``: this run, or this epoch, goes on from what was loaded.

        At ``GET_BATCH_STARTED``, ``GET_BATCH_COMPLETED`` and ``ITERATION_STARTED``: the event was fired already before
        the run was saved, for the iteration that was not done and is run again. A handler whose own state was loaded
        has counted it: one that accumulates over an epoch must not reset here, and one that counts its calls must not
        move on.
        """
        position = self._run.position
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
        return self._run.save(self, self._state_dict_user_keys)

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
        self._run.load(self, state_dict, self._state_dict_user_keys)

    # ------------------------------------------------------------------------------------------------------ the run

    def seconds_in_run(self) -> float:
        """Seconds since the run began, without pauses."""
        return self._run.position.seconds_in_run()

    def set_data(self, data: Iterable[Any]) -> None:
        """Take the next batch from ``data``; the length of an epoch stays what it is.

        Outside a run: the next ``run()`` without data iterates it.

        Raises:
            TypeError: If ``data`` cannot be iterated.
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
        run, outer = self._run, innermost.get()
        is_seeded = self._always_seeded or seed is not None or self.state.seed is not None
        with ExitStack() as stack:
            stack.enter_context(self._exclusive())
            if outer is not None and is_seeded:
                stack.callback(set_rng_state, rng_state())
            if not run.set_up(self, Arguments(data, max_epochs, max_iters, epoch_length, seed)):
                return self.state
            run.overrides_firing = getattr(self._fire_event, "__func__", None) is not Engine._fire_event
            for context in self._run_contexts:
                stack.enter_context(context.enter(self))
            self.parent = outer
            run.was_nested = outer is not None
            token = innermost.set(self)
            failures.add_listener(run.on_rank_failed)
            try:
                run.is_running = True
                run.walk(self)
            except BaseException as error:
                run.paused_at = None
                run.position.leave()
                run.position.failed_at = self.last_event_name
                self._annotate(error, "the engine")
                if not self._is_suppressed(error):
                    raise
            finally:
                failures.remove_listener(run.on_rank_failed)
                if run.stop is Stop.FAILED:
                    run.stop, run.rank_failed = Stop.NO, None
                innermost.reset(token)
                self.parent = None
                run.is_running = False
                for event in ITERATION_EVENTS:
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
        given: Any = data
        arguments = Arguments(given, max_epochs, max_iters, epoch_length)
        calendar: Calendar = module.make_plan(self, arguments, run, validations, seconds_per_iteration)
        return calendar

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Refuse further runs of this engine meanwhile, in this thread and in others."""
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

    def _is_suppressed(self, error: BaseException) -> bool:
        """Tell the other ranks, then the handlers of EXCEPTION_RAISED; whether one of these suppresses the error.

        Raises:
            RankFailed: In place of an error that came of the failure or loss of another rank, unless suppressed.
        """
        self._run.suppressed = False
        with failures.reported(error) as told:
            self._fire_event(Events.EXCEPTION_RAISED, told)
        is_suppressed = self._run.suppressed and not isinstance(error, KeyboardInterrupt | SystemExit)
        try:
            if told is not error and not is_suppressed:
                raise told from error
            return is_suppressed
        finally:
            del told, error  # what is raised would refer to this frame, and it to that

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
        """Note on an exception where it came from; only the first note of a run is added."""
        run, state = self._run, self.state
        if run.note is None or run.note not in getattr(error, "__notes__", ()):
            rank = dist.get_rank() if dist.is_available() and dist.is_initialized() else 0
            run.note = f"Raised by {culprit}, epoch {state.epoch}, iteration {state.iteration}, rank {rank}."
            error.add_note(run.note)

    @property
    def _position(self) -> Any:
        return self._run.position

    @property
    def _paused_at(self) -> Any:
        return self._run.paused_at

    @property
    def _is_running(self) -> bool:
        return self._run.is_running

    def __str__(self) -> str:
        return draw(type(self).__name__, describe(self._process_function), self.handlers())
