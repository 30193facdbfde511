"""Training ends when a score does not improve: as in pytorch-ignite but for its faults, alike on all ranks (R19)."""

import gc
import math
import random
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from ignite_core import distributed as idist
from ignite_core.engine import Engine, Events
from ignite_core.handlers import EarlyStopping
from ignite_core.metrics import Accuracy
from ignite_core.testing import run_distributed
from tests.faults.sizes import sized

NAN, INF = math.nan, math.inf


def nothing(engine: Engine, batch: Any) -> None:
    """A step."""


def follow(
    scores: list[Any], *args: Any, library: Any = EarlyStopping, engine: Any = Engine, event: Any = None, **kwargs: Any
) -> Any:
    """Counter and best score after each evaluation, and the epoch in which the training ended."""
    trainer = engine(nothing)
    values = iter(scores)
    patience, *others = args
    event = event or Events.EPOCH_COMPLETED
    stopping = library(patience, lambda engine: next(values), trainer, *others, **kwargs)
    trainer.add_event_handler(event, stopping)
    seen = []
    trainer.add_event_handler(event, lambda engine: seen.append((stopping.counter, stopping.best_score)))
    state = trainer.run([0], max_epochs=len(scores))
    return seen, state.epoch


#: Arguments after the trainer, as pytorch-ignite takes them.
ARGUMENTS: list[dict[str, Any]] = [
    {},
    {"threshold": 0.1},
    {"threshold": 0.1, "cumulative": True},
    {"threshold": 0.1, "threshold_mode": "rel"},
    {"threshold": 0.1, "threshold_mode": "rel", "cumulative": True},
    {"mode": "min"},
    {"threshold": 0.1, "mode": "min"},
    {"threshold": 0.1, "mode": "min", "cumulative": True},
    {"threshold": 0.1, "mode": "min", "threshold_mode": "rel"},
    {"threshold": 0.1, "mode": "min", "threshold_mode": "rel", "cumulative": True},
]


@pytest.mark.parametrize("kwargs", ARGUMENTS, ids=str)
def test_it_counts_as_pytorch_ignite_does_for_any_finite_scores_above_zero(kwargs: dict[str, Any]) -> None:
    """Side by side with the installed one; below zero its relative difference has the wrong sign."""
    handlers = pytest.importorskip("ignite.handlers")
    theirs = pytest.importorskip("ignite.engine")
    there = {"library": handlers.EarlyStopping, "engine": theirs.Engine, "event": theirs.Events.EPOCH_COMPLETED}
    drawn = random.Random(str(kwargs))
    for patience in (1, 2, 3):
        for _ in range(sized(30, 1000)):
            scores = [drawn.choice([0.5, 0.55, 0.6, 0.66, 0.7, 0.9, drawn.random()]) for _ in range(8)]

            assert follow(scores, patience, **kwargs) == follow(scores, patience, **there, **kwargs), scores


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((2, 0.1, True), {"min_delta": 0.1, "cumulative_delta": True}),
        ((2, 0.1, False, "rel", "min"), {"threshold": 0.1, "threshold_mode": "rel", "mode": "min"}),
    ],
)
def test_arguments_go_by_place_and_by_either_name(arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
    scores = [0.5, 0.55, 0.7, 0.4, 0.39, 0.38, 0.3]

    assert follow(scores, *arguments) == follow(scores, 2, **named)


@pytest.mark.parametrize(
    ("scores", "kwargs", "expected", "epoch"),
    [
        pytest.param([NAN, NAN, 0.5], {}, [(1, None), (2, None)], 2, id="NaN is never the best, not even the first"),
        pytest.param([0.5, NAN, 0.4, 0.6], {}, [(0, 0.5), (1, 0.5), (2, 0.5)], 3, id="NaN counts against patience"),
        pytest.param([NAN, 0.5, NAN, 0.6], {}, [(1, None), (0, 0.5), (1, 0.5), (0, 0.6)], 4, id="NaN is forgiven"),
        pytest.param([INF, 0.5, 0.6], {}, [(1, None), (0, 0.5), (0, 0.6)], 3, id="infinity cannot be beaten"),
        pytest.param([0.5, -INF, 0.6], {"mode": "min"}, [(0, 0.5), (1, 0.5), (2, 0.5)], 3, id="nor minus infinity"),
        pytest.param(
            [-10.0, -10.5, -9.5, -8.9],
            {"min_delta": 0.1, "min_delta_mode": "rel", "cumulative_delta": True},
            [(0, -10.0), (1, -10.0), (2, -10.0)],
            3,
            id="a share of a negative score is still an improvement upwards",
        ),
        pytest.param(
            [-10.0, -10.5, -11.1],
            {"min_delta": 0.1, "min_delta_mode": "rel", "mode": "min", "cumulative_delta": True},
            [(0, -10.0), (1, -10.0), (0, -11.1)],
            3,
            id="and downwards",
        ),
    ],
)
def test_what_is_mended(
    scores: list[float], kwargs: dict[str, Any], expected: list[tuple[int, float | None]], epoch: int
) -> None:
    assert follow(scores, 2, **kwargs) == (expected, epoch)


# ------------------------------------------------------------------------------------------------------ attaching


def evaluated(scores: Iterator[float], trainer: Engine) -> Engine:
    """An evaluator with a metric, run at the end of each epoch."""
    evaluator = Engine(nothing)
    evaluator.add_event_handler(Events.COMPLETED, lambda e: e.state.metrics.update(score=next(scores)))
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run([1, 2]))
    return evaluator


SCORES = [0.5, 0.6, 0.6, 0.5, 0.9, 0.1, 0.1, 0.1]


@pytest.mark.parametrize(
    "attach",
    [
        lambda t, e: EarlyStopping(2, mode="max").attach(t, e, metric="score"),
        lambda t, e: EarlyStopping(2, "score", mode="max").attach(t, e),
        lambda t, e: EarlyStopping(2, "score", t, mode="max").attach(e),
        lambda t, e: EarlyStopping(2, lambda engine: engine.state.metrics["score"], t).attach(e, Events.COMPLETED, t),
        lambda t, e: EarlyStopping(2, "score", t, mode="max").attach(e, reset_engine=t, reset_event=Events.STARTED),
        lambda t, e: EarlyStopping(2, mode="max").attach(t, e, metric="score", event=Events.COMPLETED),
    ],
)
def test_every_way_to_attach_it_ends_the_trainer_and_begins_anew_with_the_next_run(
    attach: Callable[[Engine, Engine], None],
) -> None:
    """`attach(evaluator)` alone never stops in pytorch-ignite: there each evaluation forgets the one before."""
    trainer = Engine(nothing)
    evaluator = evaluated(iter([*SCORES[:4], *SCORES]), trainer)
    attach(trainer, evaluator)

    assert trainer.run([0], max_epochs=8).epoch == 4
    trainer.state.max_epochs = None
    assert trainer.run([0], max_epochs=8).epoch == 4


def test_a_score_may_be_a_tensor_or_a_number_of_another_library() -> None:
    assert follow([torch.tensor(0.5), torch.tensor([0.7]), 1], 2) == ([(0, 0.5), (0, pytest.approx(0.7)), (0, 1.0)], 3)
    for wrong in ("0.5", None, 1j, torch.ones(2)):
        with pytest.raises(TypeError, match="a score must be a number, got"):
            follow([wrong], 2)


def test_a_metric_that_the_engine_does_not_have_is_an_error_that_says_which_it_has() -> None:
    trainer = Engine(nothing)
    evaluator = evaluated(iter(SCORES), trainer)
    EarlyStopping(2).attach(trainer, evaluator, metric="accuracy")

    with pytest.raises(ValueError, match=r"no metric 'accuracy', its metrics are \['score'\]; attach the metric"):
        trainer.run([0])


def test_a_metric_of_the_library_is_a_score() -> None:
    trainer, evaluator = Engine(nothing), Engine(lambda engine, batch: batch)
    Accuracy().attach(evaluator, "accuracy")
    stopping = EarlyStopping(1)
    stopping.attach(trainer, evaluator, metric="accuracy")
    trainer.add_event_handler(
        Events.EPOCH_COMPLETED, lambda: evaluator.run([(torch.tensor([0, 1]), torch.tensor([0, 0]))])
    )

    assert trainer.run([0], max_epochs=5).epoch == 2
    assert stopping.best_score == 0.5


def test_an_evaluation_that_runs_elsewhere_is_an_error_at_its_first_event() -> None:
    trainer, other = Engine(nothing), Engine(nothing)
    evaluator = evaluated(iter(SCORES), other)
    EarlyStopping(2).attach(trainer, evaluator, metric="score")

    with pytest.raises(
        RuntimeError, match=r"runs inside another engine than the trainer.*; pass as trainer the engine"
    ):
        other.run([0])


def test_a_score_before_the_training_counts_but_what_cannot_be_ended_is_an_error() -> None:
    trainer = Engine(nothing)
    evaluator = evaluated(iter(SCORES), trainer)
    stopping = EarlyStopping(2, "score", trainer, mode="max")
    evaluator.add_event_handler(Events.COMPLETED, stopping)
    evaluator.run([1])

    assert stopping.best_score == 0.5
    trainer.run([0], max_epochs=2)
    with pytest.raises(
        RuntimeError, match="the training must be ended now, but the trainer is not running; run the eval"
    ):
        evaluator.run([1])


def test_inside_an_engine_around_the_trainer_it_ends_the_trainer_alone() -> None:
    trainer, folds = Engine(nothing), Engine(lambda engine, batch: ends.append(trainer.run([0], max_epochs=8).epoch))
    ends: list[int] = []
    EarlyStopping(2, mode="max").attach(trainer, evaluated(iter([*SCORES[:4], *SCORES[:4]]), trainer), metric="score")

    def forget(engine: Engine) -> None:
        trainer.state.max_epochs = None

    folds.add_event_handler(Events.ITERATION_STARTED, forget)
    folds.run([0, 1])

    assert ends == [4, 4]


@pytest.mark.parametrize(
    ("arguments", "error", "told"),
    [
        ({"patience": 0}, ValueError, "patience must be at least 1, got 0"),
        ({"patience": 1.5}, TypeError, "patience must be an integer, got 1.5"),
        ({"score_function": 3}, TypeError, "score_function must be a callable or the name of a metric, got 3"),
        ({"trainer": 3}, TypeError, "trainer must be an Engine, got 3"),
        ({"min_delta": -0.1}, ValueError, "min_delta must be at least 0, got -0.1"),
        ({"min_delta": "0.1"}, TypeError, "min_delta must be a number, got '0.1'"),
        ({"min_delta_mode": "max"}, ValueError, r"min_delta_mode must be one of \['abs', 'rel'\], got 'max'"),
        ({"mode": "rel"}, ValueError, r"mode must be one of \['max', 'min'\], got 'rel'"),
        (
            {"min_delta": 0.1, "threshold": 0.2},
            ValueError,
            "min_delta and threshold are the same argument, got 0.1 and 0.2",
        ),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, Any], error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        EarlyStopping(**{"patience": 2, **arguments})


def test_a_handler_without_score_or_trainer_is_refused() -> None:
    trainer, evaluator = Engine(nothing), Engine(nothing)

    with pytest.raises(ValueError, match="there is no score; pass score_function"):
        EarlyStopping(2).attach(trainer, evaluator)
    with pytest.raises(ValueError, match="there is no trainer; call attach"):
        EarlyStopping(2, "score").attach(evaluator)
    with pytest.raises(ValueError, match="already has another trainer"):
        EarlyStopping(2, "score", trainer).attach(Engine(nothing), evaluator)
    with pytest.raises(ValueError, match="the score is already 'score', got metric='loss' as well"):
        EarlyStopping(2, "score").attach(trainer, evaluator, metric="loss")
    with pytest.raises(TypeError, match="engine must be an Engine, got 3"):
        EarlyStopping(2, "score", trainer).attach(3)  # type: ignore[arg-type]
    for stopping in (EarlyStopping(2, "score"), EarlyStopping(2, trainer=evaluator)):
        engine = Engine(nothing)
        engine.add_event_handler(Events.COMPLETED, stopping)
        with pytest.raises((RuntimeError, ValueError), match=r"there is no (trainer|score)"):
            engine.run([0])


def test_it_holds_no_trainer_alive() -> None:
    gc.collect()
    gc.disable()
    try:
        trainer = Engine(nothing)
        EarlyStopping(2, lambda engine: 0.5, trainer).attach(trainer, Events.EPOCH_COMPLETED)
        trainer.run([0])
        watched = weakref.ref(trainer)
        del trainer

        assert watched() is None
    finally:
        gc.enable()


# ------------------------------------------------------------------------------------------------- saving, resuming


def test_a_training_that_is_resumed_counts_on() -> None:
    trainer = Engine(nothing)
    stopping = EarlyStopping(2, mode="max")
    stopping.attach(trainer, evaluated(iter(SCORES[:3]), trainer), metric="score")
    trainer.run([0], max_epochs=3)
    saved = stopping.state_dict(), {**trainer.state_dict(), "max_epochs": 8}
    assert dict(saved[0]) == {"counter": 1, "best_score": 0.6}

    trainer = Engine(nothing)
    stopping = EarlyStopping(2, mode="max")
    stopping.attach(trainer, evaluated(iter(SCORES[3:]), trainer), metric="score")
    stopping.load_state_dict(saved[0])
    trainer.load_state_dict(saved[1])

    assert trainer.run([0]).epoch == 4


def test_what_was_loaded_stays_also_where_the_trainer_begins_anew() -> None:
    trainer = Engine(nothing)
    stopping = EarlyStopping(2, mode="max")
    stopping.attach(trainer, evaluated(iter([0.5, 0.5]), trainer), metric="score")
    stopping.load_state_dict({"counter": 0, "best_score": 0.7, "threshold_mode": "abs"})  # of pytorch-ignite

    assert trainer.run([0], max_epochs=5).epoch == 2


@pytest.mark.parametrize(
    ("state", "error", "told"),
    [
        ([], TypeError, "state_dict must be a mapping, got list"),
        ({"counter": 1}, ValueError, r"the key 'best_score' is missing, got \['counter'\]"),
        ({"counter": "1", "best_score": None}, TypeError, "counter must be an integer, got '1'"),
        ({"counter": -1, "best_score": None}, ValueError, "counter must be at least 0, got -1"),
        ({"counter": 1, "best_score": "1"}, TypeError, "a score must be a number, got '1'"),
    ],
)
def test_a_state_that_is_none_is_refused_and_changes_nothing(state: Any, error: type[Exception], told: str) -> None:
    stopping = EarlyStopping(2)

    with pytest.raises(error, match=told):
        stopping.load_state_dict(state)
    assert dict(stopping.state_dict()) == {"counter": 0, "best_score": None}


# ------------------------------------------------------------------------------------------------- several ranks


def decide(seed: int) -> Any:
    """A training whose scores are of each rank's own, some of them NaN."""
    shared, own = random.Random(seed), random.Random(f"{seed} {idist.get_rank()}")
    scores = [own.choice([NAN, INF, 0.5, own.random(), own.random()]) for _ in range(8)]
    kwargs = shared.choice(ARGUMENTS)
    return follow(scores, shared.randint(1, 4), **kwargs)


def decisions(seeds: range) -> list[Any]:
    return [decide(seed) for seed in seeds]


def test_ranks_with_scores_of_their_own_decide_alike() -> None:
    """R19: the score of rank 0 counts."""
    seeds = range(sized(60, 1000))
    one, other = run_distributed(decisions, seeds)

    for seed, *results in zip(seeds, one, other, strict=True):
        assert repr(results[0]) == repr(results[1]), f"decide({seed})"
    assert repr(one) == repr(decisions(seeds)), "as rank 0 would alone"
    assert len({epoch for _, epoch in one}) > 3
