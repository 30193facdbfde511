"""What one rank asks for, all ranks do after the same iteration; and ranks that come apart are told so (R19)."""

import gc
import random
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import pytest

from ignite_core import distributed as idist
from ignite_core.engine import Engine, Events
from ignite_core.handlers import Vote, find_vote, vote_of
from ignite_core.testing import run_distributed
from tests.faults.sizes import sized

Trace = list[tuple[str, int]]


def nothing(engine: Engine, batch: Any) -> None:
    """A step."""


def traced(engine: Engine) -> Trace:
    """Every event that the engine reaches from now on, but those of each iteration, with the iteration."""
    seen: Trace = []
    for event in Events:
        if "ITERATION" not in event.name and "GET_BATCH" not in event.name:
            engine.add_event_handler(event, lambda *_, name=event.name: seen.append((name, engine.state.iteration)))
    return seen


def asker(vote: Vote, trace: Trace, act: Callable[[Engine], object] | None = None) -> Callable[..., None]:
    """Something that can be asked for: it notes the iteration in which it is done, and with which number."""

    def note(engine: Engine, number: int) -> None:
        trace.append((f"act {number}", engine.state.iteration))
        if act is not None:
            act(engine)

    return vote.add("note", note)


# ------------------------------------------------------------------------------------------------------ one process


def test_a_process_that_is_alone_acts_at_the_end_of_the_same_iteration_with_the_largest_number() -> None:
    engine = Engine(nothing)
    acted: Trace = []
    ask = asker(vote_of(engine), acted)

    @engine.on(Events.ITERATION_STARTED(once=[3, 7]))
    def ask_twice() -> None:
        ask(2)
        ask(engine.state.iteration)
        ask()

    last = []
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda: last.append(len(acted)))
    engine.run(range(20))

    assert acted == [("act 3", 3), ("act 7", 7)]
    assert last[2] == 0, "it acts after the other handlers of the iteration"


@pytest.mark.parametrize("event", [Events.EPOCH_COMPLETED, Events.TERMINATE, Events.COMPLETED], ids=str)
def test_what_is_asked_for_when_the_run_ends_is_still_done(event: Any) -> None:
    engine = Engine(nothing)
    acted: Trace = []
    ask = asker(vote_of(engine), acted)
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=4), engine.terminate)
    engine.add_event_handler(event, partial(ask, 1))

    engine.run(range(4))

    assert acted == [("act 1", 4)] if event is not Events.EPOCH_COMPLETED else not acted


def test_checks_are_made_every_k_iterations_at_the_end_of_each_epoch_and_to_settle() -> None:
    engine = Engine(nothing)
    vote = vote_of(engine, every=4)
    checked: list[int] = []
    vote.add_check(lambda: checked.append(engine.state.iteration))
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=6), vote.settle)

    engine.run(range(9), max_epochs=1)

    assert checked == [4, 6, 8, 9, 9], "the last ones at EPOCH_COMPLETED and COMPLETED"


def test_what_a_check_asks_for_is_done_at_once_by_settle() -> None:
    engine = Engine(nothing)
    vote = vote_of(engine)
    acted: Trace = []
    vote.add_check(asker(vote, acted))
    engine.add_event_handler(Events.ITERATION_STARTED(once=2), vote.settle)
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=2), lambda: acted.append(("after", 2)))

    engine.run(range(3))

    assert acted[:2] == [("act 1", 2), ("after", 2)]


def test_an_act_may_settle_and_each_thing_is_done_once() -> None:
    engine = Engine(nothing)
    vote = vote_of(engine)
    acted: Trace = []
    first = asker(vote, acted, lambda engine: vote.settle())
    second = asker(vote, acted)
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=2), lambda: (first(5), second(6)))

    engine.run(range(5))

    assert acted == [("act 5", 2), ("act 6", 2)]


def test_a_new_run_forgets_what_was_asked_for_and_what_was_bad() -> None:
    engine = Engine(nothing)
    vote = vote_of(engine)
    acted: Trace = []
    ask = asker(vote, acted)
    ask()
    vote.unsafe_to_save = "a NaN"

    engine.run(range(5))

    assert not acted
    assert vote.unsafe_to_save is None


def test_an_engine_has_one_vote_and_asking_for_it_again_changes_only_what_is_said() -> None:
    engine = Engine(nothing)

    assert find_vote(engine) is None
    vote = vote_of(engine, every=5)
    assert vote_of(engine) is vote is find_vote(engine)
    assert (vote.every, vote.uneven) == (5, False)
    assert (vote_of(engine, uneven=True).every, vote.uneven) == (5, True)


def test_a_number_of_iterations_that_is_none_is_refused() -> None:
    engine = Engine(nothing)

    with pytest.raises(ValueError, match="every must be at least 1, got 0"):
        vote_of(engine, every=0)
    for wrong in (True, 2.0, "3"):
        with pytest.raises(TypeError, match="every must be an integer, got"):
            vote_of(engine, every=wrong)  # type: ignore[arg-type]


def test_there_is_room_for_as_many_things_as_a_round_carries() -> None:
    vote = vote_of(Engine(nothing))
    for _ in range(54):
        vote.add("thing", lambda engine, number: None)

    with pytest.raises(RuntimeError, match="an engine has at most 54 requests, got 'one more'"):
        vote.add("one more", lambda engine, number: None)


def test_a_vote_dies_with_its_engine_and_so_does_who_asks() -> None:
    class Rule:
        def __init__(self, engine: Engine) -> None:
            vote = vote_of(engine)
            self.ask = vote.add("rule", self.act)
            vote.add_check(self.check)

        def act(self, engine: Engine, number: int) -> None:
            engine.terminate()

        def check(self) -> None:
            """Nothing is wrong."""

    gc.collect()
    gc.disable()
    try:
        engine = Engine(nothing)
        rule = Rule(engine)
        engine.add_event_handler(Events.ITERATION_COMPLETED(once=2), lambda: None)
        engine.run(range(4))
        watched: list[weakref.ref[Any]] = [weakref.ref(engine), weakref.ref(rule), weakref.ref(vote_of(engine))]
        del engine, rule

        assert [ref() for ref in watched] == [None] * 3
    finally:
        gc.enable()


# ------------------------------------------------------------------------------------------ several ranks: in time


def stop_at(every: int, asked_at: int, who: int, epoch_length: int) -> tuple[int, int]:
    """One rank asks at one iteration; where the run stops, and where it stood after the act."""
    engine = Engine(nothing)
    acted: Trace = []
    ask = asker(vote_of(engine, every=every), acted, Engine.terminate)
    if idist.get_rank() == who:
        engine.add_event_handler(Events.ITERATION_COMPLETED(once=asked_at), partial(ask, 3))
    state = engine.run(range(epoch_length), max_epochs=8)
    (name, at), *more = acted
    assert (name, more) == ("act 3", [])
    return at, state.iteration


def stop_everywhere() -> list[tuple[int, int, int, int]]:
    """For each length of an epoch, period and iteration, asked on either rank."""
    found = []
    for epoch_length in (7, 100):
        for every in (1, 2, 3, 10):
            for asked_at in range(1, 2 * every + 2):
                for who in range(idist.get_world_size()):
                    at, iteration = stop_at(every, asked_at, who, epoch_length)
                    assert at == iteration
                    found.append((epoch_length, every, asked_at, at))
    return found


def test_all_ranks_act_after_the_same_iteration_at_most_2k_later() -> None:
    """R19: whichever rank asks, wherever in the period."""
    one, other = run_distributed(stop_everywhere)

    assert one == other
    assert all(asked_at <= at <= asked_at + 2 * every for _, every, asked_at, at in one)
    assert {at - asked_at for length, every, asked_at, at in one if (length, every) == (100, 10)} == {*range(10, 20)}
    assert all(at <= -(-asked_at // 7) * 7 for length, _, asked_at, at in one if length == 7), "an epoch's end settles"


def ask_at_each_event() -> dict[str, Trace]:
    traces = {}
    for event in Events:
        if event in (Events.EXCEPTION_RAISED, Events.INTERRUPT, Events.TERMINATE, Events.TERMINATE_SINGLE_EPOCH):
            continue
        engine = Engine(nothing)
        trace = traced(engine)
        ask = asker(vote_of(engine, every=3), trace, Engine.terminate)
        if idist.get_rank() == 1:
            engine.add_event_handler(event, partial(ask, 7))
        engine.run([1, 2], epoch_length=8, max_epochs=3)  # it runs out inside each epoch
        traces[event.name] = trace
    return traces


def test_a_rank_may_ask_at_every_event_and_all_do_the_same() -> None:
    one, other = run_distributed(ask_at_each_event)

    assert one == other
    assert all(("act 7", trace[-1][1]) in trace for trace in one.values()), "none is forgotten"
    end = [("EPOCH_COMPLETED", 8), ("act 7", 8), ("TERMINATE", 8), ("COMPLETED", 8)]
    assert one["EPOCH_COMPLETED"][-4:] == end, "no other epoch begins"


# -------------------------------------------------------------------------------------- several ranks: ways to go


def in_the_middle(request: Callable[[Engine], object]) -> Callable[[Engine, int], None]:
    def step(engine: Engine, batch: int) -> None:
        if engine.state.iteration == 5:
            request(engine)

    return step


WAYS: dict[str, Callable[[Engine], object]] = {
    "terminate": Engine.terminate,
    "terminate, skip": lambda engine: engine.terminate(skip_completed=True),
    "terminate_epoch": Engine.terminate_epoch,
    "terminate_epoch, skip": lambda engine: engine.terminate_epoch(skip_epoch_completed=True),
    "interrupt": Engine.interrupt,
    "nothing": lambda engine: None,
}


def go_each_way() -> list[Trace]:
    """Every way to cut or end a run, on all ranks alike, with asks of one rank before and after; then on, and anew."""
    traces = []
    for request in WAYS.values():
        for limit in ({"max_epochs": 3}, {"max_iters": 17}):
            for data in (range(8), iter(range(8))):
                engine = Engine(in_the_middle(request))
                trace = traced(engine)
                ask = asker(vote_of(engine, every=3), trace)
                if idist.get_rank() == 1:
                    engine.add_event_handler(Events.ITERATION_COMPLETED(once=[4, 5, 6, 16]), partial(ask, 9))
                length = 8 if isinstance(data, Iterator) else None
                again: Iterable[int] = range(8)
                if isinstance(data, Iterator):
                    engine.add_event_handler(Events.DATALOADER_STOP_ITERATION, lambda e: e.set_data(range(8)))
                engine.run(data, epoch_length=length, **limit)
                engine.run(again, **limit)
                engine.state.max_epochs = engine.state.max_iters = None
                engine.run(again, max_epochs=1)
                saved = engine.state_dict()
                engine = Engine(nothing)
                traced(engine)
                asker(vote_of(engine, every=3), trace)
                engine.load_state_dict({**saved, "max_epochs": 3})
                engine.run(again)
                traces.append(trace)
    return traces


def test_ranks_that_go_the_same_way_stay_together_however_they_are_cut_ended_paused_or_run_again() -> None:
    one, other = run_distributed(go_each_way)

    assert one == other
    assert len(one) == 24
    assert all(any(name.startswith("act") for name, _ in trace) for trace in one)


def test_a_run_that_is_resumed_inside_an_epoch_votes_as_any_other() -> None:
    one, other = run_distributed(resume_quietly)

    assert one == other
    assert 20 <= one[1] <= 28


def resume_quietly() -> tuple[Trace, int]:
    engine = Engine(nothing)
    trace = traced(engine)
    ask = asker(vote_of(engine, every=4), trace, Engine.terminate)
    engine.load_state_dict({"iteration": 10, "epoch_length": 8, "max_epochs": 4})
    if idist.get_rank() == 0:
        engine.add_event_handler(Events.ITERATION_COMPLETED(once=20), partial(ask, 1))
    return trace, engine.run(epoch_length=8).iteration


def random_run(seed: int) -> Trace:
    """A program that all ranks run alike, but for what each of them asks for by itself."""
    shared, own = random.Random(seed), random.Random(f"{seed} {idist.get_rank()}")
    engine = Engine(nothing)
    trace = traced(engine)
    vote = vote_of(engine, every=shared.randint(1, 6))
    does = [lambda e: None, Engine.terminate, lambda e: e.terminate(skip_completed=True), lambda e: vote.settle()]
    asks = [asker(vote, trace, shared.choice(does)) for _ in range(shared.randint(1, 3))]
    requests = list(WAYS.values())
    length = shared.randint(1, 9)
    for _ in range(shared.randint(0, 3)):
        event = shared.choice([Events.ITERATION_STARTED, Events.ITERATION_COMPLETED])
        engine.add_event_handler(event(once=shared.randint(1, 30)), shared.choice([*requests, lambda e: vote.settle()]))
    chance = own.choice([0.0, 0.02, 0.2])
    events = [Events.GET_BATCH_STARTED, Events.ITERATION_COMPLETED, Events.EPOCH_COMPLETED, Events.COMPLETED]
    for event in events:
        engine.add_event_handler(event, lambda: own.random() < chance and own.choice(asks)(own.randint(1, 5)))
    for epochs in range(2, 2 + shared.randint(1, 3)):
        engine.run(range(length), max_epochs=epochs)
    return trace


def random_runs(seeds: range) -> list[Trace]:
    return [random_run(seed) for seed in seeds]


def test_ranks_that_ask_at_random_do_the_same_things_after_the_same_iterations() -> None:
    """R19: no run hangs, none differs."""
    seeds = range(sized(60, 1000))
    one, other = run_distributed(random_runs, seeds)

    for seed, *traces in zip(seeds, one, other, strict=True):
        assert traces[0] == traces[1], f"random_run({seed})"
    assert sum(any(name.startswith("act") for name, _ in trace) for trace in one) > len(seeds) // 3


def nested_runs() -> list[Trace]:
    """An evaluator with a vote of its own inside each epoch of a trainer whose vote is under way."""
    traces = []
    for asked_at in range(1, 12):
        trainer, evaluator = Engine(nothing), Engine(nothing)
        trace = traced(trainer)
        ask = asker(vote_of(trainer, every=4), trace, Engine.terminate)
        ask_evaluator = asker(vote_of(evaluator, every=2), trace, lambda e: e.terminate(skip_completed=True))
        trainer.add_event_handler(Events.ITERATION_COMPLETED(every=5), lambda _, e=evaluator: e.run(range(6)))
        if idist.get_rank() == 1:
            trainer.add_event_handler(Events.ITERATION_COMPLETED(once=asked_at), partial(ask, 2))
            evaluator.add_event_handler(Events.ITERATION_STARTED(once=2), partial(ask_evaluator, 3))
        trainer.run(range(20))
        traces.append(trace)
    return traces


def test_the_vote_of_an_evaluator_does_not_meet_that_of_the_trainer_around_it() -> None:
    one, other = run_distributed(nested_runs)

    assert one == other
    assert all(("act 2", trace[-1][1]) in trace for trace in one)


# ------------------------------------------------------------------------------- several ranks: unequal batches


class Unsized:
    """Data that does not know its length."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.number))


def evaluate(numbers: tuple[int, ...], is_sized: bool, ask_at: tuple[int, int] | None) -> tuple[Trace, int]:
    """An evaluation of so many batches on each rank; at its end the ranks exchange something, as metrics do."""
    rank = idist.get_rank()
    engine = Engine(nothing)
    trace: Trace = []
    ask = asker(vote_of(engine, every=3, uneven=True), [], lambda e: e.terminate(skip_completed=True))
    ends = Events.EPOCH_COMPLETED | Events.TERMINATE | Events.COMPLETED
    engine.add_event_handler(ends, lambda e: trace.append((e.last_event_name.name, idist.all_reduce(1))))
    if ask_at is not None and rank == ask_at[0]:
        engine.add_event_handler(Events.ITERATION_COMPLETED(once=ask_at[1]), partial(ask, 1))
    data: Any = range(numbers[rank]) if is_sized else Unsized(numbers[rank])
    for _ in range(2):
        engine.run(data)
    return trace, engine.state.iteration


def evaluations() -> list[tuple[Trace, int]]:
    cases = [(5, 5), (7, 2), (0, 4), (20, 1), (3, 0), (0, 0)]
    ask_ats = [None, (0, 1), (1, 1), (0, 4), (1, 2)]
    return [evaluate(numbers, True, ask_at) for numbers in cases for ask_at in ask_ats] + [
        evaluate(numbers, False, ask_at) for numbers in cases if 0 not in numbers for ask_at in ask_ats
    ]


def test_ranks_with_different_numbers_of_batches_end_together_stopped_or_not() -> None:
    """Whichever rank is out of batches first, all reach the same events at the end, so metrics find all ranks there."""
    one, other = run_distributed(evaluations)

    assert [trace for trace, _ in one] == [trace for trace, _ in other]
    assert [iteration for _, iteration in one[:10:5]] == [5, 7]
    assert [iteration for _, iteration in other[:10:5]] == [5, 2]
    stopped = one[5 * 3 + 1]  # 20 batches and 1, asked for at the first
    assert stopped == ([("TERMINATE", 2)] * 2, 6)


def apart(case: str) -> str:
    """One rank does something alone; what it is told."""
    rank = idist.get_rank()
    engine = Engine(nothing)
    vote = vote_of(engine, every=2)
    data: Any = range(6)
    arguments: dict[str, Any] = {"max_epochs": 3}
    if case == "length":
        data = range(6 + rank)
    elif case == "unknown length":
        data = Unsized(6 + 3 * rank)
    elif case == "given out":
        data, arguments["epoch_length"] = iter(range(6 if rank else 100)), 8
    elif case == "limit":
        arguments["max_epochs"] = 3 + rank
    elif case == "iteration":
        engine.load_state_dict({"iteration": 6 * rank, "epoch_length": 6, "max_epochs": 3})
    elif case == "names" and rank:
        vote.add("alone", lambda engine, number: None)
    elif case == "terminate" and rank:
        engine.add_event_handler(Events.ITERATION_COMPLETED(once=3), engine.terminate)
    elif case == "terminate_epoch" and rank:
        engine.add_event_handler(Events.ITERATION_COMPLETED(once=3), engine.terminate_epoch)
    elif case == "interrupt" and rank:
        engine.add_event_handler(Events.ITERATION_COMPLETED(once=3), engine.interrupt)
    elif case == "settle" and rank:
        engine.add_event_handler(Events.ITERATION_COMPLETED(once=3), vote.settle)
    with warnings.catch_warnings(action="ignore"), pytest.raises(RuntimeError) as caught:  # data that gives out warns
        engine.run(data, **arguments)
    again = Engine(nothing)
    vote_of(again)
    again.run(range(3))  # the next collectives work
    assert idist.all_reduce(1) == idist.get_world_size()
    return str(caught.value)


APART = {
    "length": "all ranks must have the same number of batches in an epoch, but rank 0 has 6 batches; rank 1 has 7",
    "unknown length": "rank 0 has no batch left after iteration 6; rank 1 continues after iteration 8; give all",
    "given out": "rank 0 continues after iteration 8; rank 1 has no batch left after iteration 6; give",
    "limit": "all ranks must run to the same limit, but rank 0 has max_epochs=3; rank 1 has max_epochs=4; pass",
    "iteration": "but rank 0 begins an epoch after iteration 0; rank 1 begins an epoch after iteration 6; start all",
    "names": "rank 0 has the requests [] with every=2 and uneven=False; rank 1 has the requests ['alone'] with every=2",
    "terminate": "rank 0 continues after iteration 4; rank 1 ends its run after iteration 3; give",
    "terminate_epoch": "rank 0 continues after iteration 4; rank 1 has no batch left after iteration 3; give",
    "interrupt": "rank 0 continues after iteration 4; rank 1 ends its run after iteration 3; give",
    "settle": "rank 0 continues after iteration 4; rank 1 saves, or ends an epoch, after iteration 3; give",
}


def all_apart() -> dict[str, str]:
    return {case: apart(case) for case in APART}


def test_ranks_that_come_apart_are_all_told_where_each_of_them_is() -> None:
    one, other = run_distributed(all_apart)

    assert one == other
    for case, told in APART.items():
        assert told in one[case], case
