"""Random programs run alike on the engine and on a model of it that is written in plain lines (``reference.py``).

A normal run takes a few hundred programs, always the same ones. ``IGNITE_CORE_EXAMPLES=100000`` takes as many new ones.
"""

import os
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ignite_core.engine import Engine, Events
from tests.engine.reference import EPOCH, INTERRUPT, RUN, Model, When
from tests.engine.tracing import NoLength, Own

EXAMPLES = os.environ.get("IGNITE_CORE_EXAMPLES")

ANY_EVENT = [*Events, *Own]
WATCHER = 3  # the number of a handler that has no script


class BoomError(Exception):
    """What programs raise."""


class Breaking:
    """Data that raises after its batches."""

    def __init__(self, batches: list[Any]) -> None:
        self.batches = batches

    def __iter__(self) -> Iterator[Any]:
        yield from self.batches
        raise BoomError("data")


# --------------------------------------------------------------------------------------------------------- programs

Action = tuple[Any, ...]
Script = dict[int, list[Action]]  # what to do at the k-th call


@dataclass
class Run:
    """Things to do outside a run, then a run to so many epochs or iterations more than there are."""

    before: list[Action]
    data: int | None
    limit: str
    more: int | None
    epoch_length: int | None


@dataclass
class Program:
    """What is set up, what the step and three handlers do when, and the runs."""

    data: tuple[tuple[Callable[[list[Any]], Any], int], ...]
    handlers: tuple[Script, ...]
    step: Script
    events: list[Any]  # the few that registrations name by their place in this list
    registrations: list[tuple[int, When, int]]
    is_watched: bool
    runs: list[Run]


def optional(strategy: st.SearchStrategy[int]) -> st.SearchStrategy[int | None]:
    return st.none() | strategy


priorities = st.sampled_from([None, None, None, 0, 1, -1])
conditions = st.sampled_from([None, None, None, 1, 2, 3])
windows = st.builds(
    When,
    every=optional(st.integers(1, 4)),
    after=optional(st.integers(0, 4)),
    before=optional(st.integers(1, 9)),
    condition=conditions,
    priority=priorities,
)
moments = st.builds(
    When,
    once=st.lists(st.integers(1, 8), min_size=1, max_size=3).map(tuple),
    condition=conditions,
    priority=priorities,
)
whens = (st.just(When()) | windows | moments).filter(lambda when: any(when.due(count) for count in range(1, 60)))
of_an_iteration = [event for event in Events if event.name.startswith(("GET", "ITER"))]
events = st.sampled_from([*ANY_EVENT, *of_an_iteration * 3])
handlers = st.sampled_from([0, 0, 0, 1, 1, 2, 2, WATCHER])
registrations = st.tuples(st.integers(0, 3), whens, handlers)
pool = st.integers(0, 2)

plain_actions = [
    st.tuples(st.just("add"), registrations),
    st.tuples(st.just("undo"), st.integers(0, 9)),
    st.tuples(st.just("remove"), registrations),
    st.tuples(
        st.just("fire"),
        st.sampled_from([*Own, Own.MOVED, Own.MOVED, Events.ITERATION_COMPLETED, Events.EPOCH_COMPLETED]),
    ),
    st.tuples(st.just("set data"), pool),
    st.tuples(st.just("move"), st.integers(-4, 9)),
    st.tuples(st.just("save")),
    st.tuples(st.just("nest"), st.sampled_from(["", "", "terminate", "interrupt", "raise"])),
    *[st.tuples(st.just("ask"), st.sampled_from([EPOCH, EPOCH, INTERRUPT, INTERRUPT, INTERRUPT, RUN]), st.booleans())]
    * 8,
]
inner_actions = st.one_of(
    *plain_actions,
    st.tuples(st.just("raise"), st.sampled_from([BoomError, BoomError, KeyboardInterrupt])),
    st.tuples(st.sampled_from(["reraise", "return True", "more", "run itself"])),
)
outer_actions = st.one_of(
    *plain_actions, *[st.tuples(st.just("load"), st.integers(0, 5))] * 2, st.tuples(st.sampled_from(["save", "drop"]))
)
scripts = st.dictionaries(st.integers(1, 6), st.lists(inner_actions, min_size=1, max_size=2), min_size=1, max_size=4)
kinds_of_data = st.tuples(
    st.sampled_from([list, list, list, NoLength, NoLength, iter, Breaking]), st.sampled_from([1, 2, 3, 3, 4])
)
runs = st.builds(
    Run,
    before=st.lists(outer_actions, max_size=2),
    data=st.sampled_from([0, 0, 1, 2, None]),
    limit=st.sampled_from(["max_epochs"] * 5 + ["max_iters"] * 3),
    more=optional(st.integers(0, 4)),
    epoch_length=st.sampled_from([None] * 7 + [1, 2, 3, 4]),
)
programs = st.builds(
    Program,
    data=st.tuples(kinds_of_data, kinds_of_data, kinds_of_data),
    handlers=st.tuples(scripts, scripts, scripts),
    step=scripts | st.just({}),
    events=st.lists(events, min_size=4, max_size=4),
    registrations=st.lists(registrations, min_size=3, max_size=8),
    is_watched=st.sampled_from([True, True, False]),
    runs=st.lists(runs, min_size=2, max_size=4),
)

# -------------------------------------------------------------------------------------------------------- the engine


class Real(Engine):
    """The engine, with the method names of the model."""

    def __init__(self, step: Callable[[Any, Any], Any]) -> None:
        super().__init__(step)
        self.register_events(*Own, event_to_attr={Own.MOVED: "moved"})

    def add(self, event: Any, when: When, handler: Callable[..., Any], extra: int, condition: Any) -> Any:
        return self.add_event_handler(filtered(event, when, condition), handler, extra)

    def remove(self, handler: Callable[..., Any], event: Any, when: When, condition: Any) -> None:
        self.remove_event_handler(handler, filtered(event, when, condition))

    def fire(self, event: Any) -> None:
        self.fire_event(event)

    def ask(self, request: int, skip: bool) -> None:
        asking = {EPOCH: self.terminate_epoch, RUN: self.terminate}
        self.interrupt() if request == INTERRUPT else asking[request](skip)

    def save(self) -> dict[str, Any]:
        """The state dict, with what it leaves to be reckoned."""
        # the model has no passes over the data; test_other_data.py looks at what is saved and said of them
        left_out = (
            "data_pass",
            "data_length",
            "output",
            "begun",
        )  # only handlers whose own state is loaded look at begun
        saved = {key: value for key, value in self.state_dict().items() if key not in left_out}
        saved = {"max_epochs": None, "max_iters": None, "event_counts": {}, "left": None} | saved
        if "epochs_done" not in saved:
            done = divmod(saved["iteration"], saved["epoch_length"] or 1) if saved["iteration"] else (0, 0)
            saved["epochs_done"], saved["epoch_iteration"] = done
        return saved

    def load(self, saved: dict[str, Any]) -> None:
        other = "max_iters" if saved["max_iters"] is None else "max_epochs"
        self.load_state_dict({key: value for key, value in saved.items() if key != other})


def filtered(event: Any, when: When, condition: Any) -> Any:
    if when.once is not None:
        return event(condition, once=list(when.once), priority=when.priority)
    if when.filter is None and when.every is None:
        return event if when.priority is None else event(priority=when.priority)
    return event(condition, every=when.every, after=when.after, before=when.before, priority=when.priority)


@dataclass
class Player:
    """Plays a program on an engine or on the model, and writes down all that can be seen of it."""

    program: Program
    kind: type[Real] | type[Model]
    trace: list[Any] = field(default_factory=list)
    handles: list[Any] = field(default_factory=list)
    saved: list[Any] = field(default_factory=list)
    calls: dict[Any, int] = field(default_factory=lambda: defaultdict(int))
    is_running: bool = False

    def play(self) -> list[Any]:
        program, subject = self.program, self.kind(self.step)
        self.conditions = {divisor: self.condition(divisor) for divisor in (1, 2, 3)}
        self.handlers = [self.handler(number) for number in range(WATCHER + 1)]
        self.data = [kind([100 * i + k for k in range(length)]) for i, (kind, length) in enumerate(program.data)]
        if program.is_watched:
            for event in ANY_EVENT:
                self.add(subject, event, When(), WATCHER)
        for place, when, number in program.registrations:
            self.add(subject, program.events[place], when, number)
        for run in program.runs:
            for action in run.before:
                self.guarded(lambda: self.do(subject, action, ()))  # noqa: B023
            self.is_running = True
            self.guarded(lambda: self.run(subject, run))  # noqa: B023
            self.is_running = False
            last = self.subject_last(subject)
            self.trace.append(("after the run", self.look(subject), subject.save(), last, subject.parent is None))
        return self.trace

    def run(self, subject: Any, run: Run) -> None:
        data = None if run.data is None else self.data[run.data]
        done = subject.state.epoch if run.limit == "max_epochs" else subject.state.iteration
        limit = {} if run.more is None else {run.limit: max(1, done + run.more)}
        subject.run(data, **limit, epoch_length=run.epoch_length)

    def subject_last(self, subject: Any) -> Any:
        return subject.last if isinstance(subject, Model) else subject.last_event_name

    def look(self, subject: Any) -> tuple[Any, ...]:
        state = subject.state
        limits = state.max_epochs, state.max_iters, state.epoch_length
        return state.epoch, state.iteration, state.batch, state.output, limits

    def guarded(self, action: Callable[[], Any]) -> None:
        try:
            action()
        except (BoomError, ValueError, RuntimeError, KeyboardInterrupt) as error:
            self.trace.append(("raised", self.name(error)))

    def name(self, error: BaseException) -> Any:
        return (type(error).__name__, *(error.args if isinstance(error, BoomError) else ()))

    def add(self, subject: Any, event: Any, when: When, number: int) -> None:
        condition = None if when.condition is None else self.conditions[when.condition]
        self.handles.append(subject.add(event, when, self.handlers[number], len(self.handles), condition))

    def condition(self, divisor: int) -> Callable[[Any, int], bool]:
        def asked(subject: Any, count: int) -> bool:
            self.trace.append(("asked", divisor, count))
            return count % divisor == 0

        return asked

    def handler(self, number: int) -> Callable[..., Any]:
        def call(subject: Any, *rest: Any) -> Any:
            *extras, registration = rest
            shown = [self.name(extra) if isinstance(extra, BaseException) else extra for extra in extras]
            self.trace.append((number, registration, shown, self.look(subject)))
            return number != WATCHER and self.follow(subject, number, self.program.handlers[number], extras)

        return call

    def step(self, subject: Any, batch: Any) -> Any:
        self.trace.append(("step", batch, self.look(subject)))
        self.follow(subject, "step", self.program.step, ())
        return ("output", batch)

    def follow(self, subject: Any, who: Any, script: Script, extras: Any) -> bool:
        self.calls[who] += 1
        answers = [self.do(subject, action, extras) for action in script.get(self.calls[who], ())]
        return any(answers)

    def do(self, subject: Any, action: Action, extras: Any) -> bool:
        match action:
            case "add", (place, when, number):
                self.add(subject, self.program.events[place], when, number)
            case "undo", place:
                if self.handles:
                    self.handles[-1 - place % len(self.handles)].remove()
            case "remove", (place, when, number):
                self.remove(subject, self.handlers[number], self.program.events[place], when)
            case "fire", event:
                subject.fire(event)
            case "ask", request, skip:
                subject.ask(request, skip and request != INTERRUPT)
            case "set data", place:
                if not self.is_running or self.data_of(subject) is not None:
                    subject.set_data(self.data[place])
            case "move", by:
                subject.state.moved += by
            case ("save",):
                self.saved.append(subject.save())
                self.trace.append(("saved", self.saved[-1]))
            case "load", place:
                if self.saved:
                    subject.load(self.saved[place % len(self.saved)])
            case ("drop",):
                subject.state.max_epochs = subject.state.max_iters = None
            case ("more",):
                if subject.state.max_epochs is not None and self.is_running:
                    subject.state.max_epochs += 1
            case "nest", what:
                self.nest(subject, what)
            case "raise", kind:
                raise kind(len(self.trace))
            case ("reraise",):
                for error in extras:
                    if isinstance(error, BaseException):
                        raise error
            case ("run itself",):
                if self.is_running:
                    subject.run([1])
            case ("return True",):
                return True
            case _:
                raise AssertionError(action)
        return False

    def data_of(self, subject: Any) -> Any:
        return subject.data if isinstance(subject, Model) else subject.state.dataloader

    def remove(self, subject: Any, handler: Any, event: Any, when: When) -> None:
        condition = None if when.condition is None else self.conditions[when.condition]
        try:
            subject.remove(handler, event, when, condition)
        except ValueError:
            self.trace.append("nothing to remove")

    def nest(self, subject: Any, what: str) -> None:
        """Run another engine, here."""

        def step(inner: Any, batch: Any) -> None:
            self.trace.append(("inner step", batch, inner.parent is (subject if self.is_running else None)))
            if batch == 8 and what == "raise":
                raise BoomError("inner")
            if batch == 8 and what:
                inner.ask({"terminate": RUN, "interrupt": INTERRUPT}[what], False)

        inner = self.kind(step)
        inner.add(Events.EPOCH_COMPLETED, When(), self.handlers[WATCHER], -1, None)
        inner.run([7, 8, 9])
        inner.run([7, 8, 9])
        self.trace.append(("inner", self.look(inner), inner.parent))


def play(program: Program, kind: type[Real] | type[Model]) -> list[Any]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        player = Player(program, kind)
        trace = player.play()
    of_data = ("had data of", "inside a pass over the data")
    said = [one for one in caught if not any(text in str(one.message) for text in of_data)]
    return [*trace, ("warnings", len(said))]


@settings(
    max_examples=int(EXAMPLES or 800),
    derandomize=EXAMPLES is None,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(programs)
def test_the_engine_does_what_the_model_does(program):
    """Same calls with the same state, same filters asked with the same counts, same errors, same final state."""
    expected = play(program, Model)

    assert play(program, Real) == expected
