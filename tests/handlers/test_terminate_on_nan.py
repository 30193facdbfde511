"""A NaN ends the run on all ranks, without waits, and nothing is saved after it (R18)."""

import logging
import warnings
from collections import OrderedDict, namedtuple
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import torch
from torch import nn

from ignite_core import distributed as idist
from ignite_core.engine import Engine, Events
from ignite_core.handlers import Checkpoint, TerminateOnNan, vote_of
from ignite_core.testing import run_distributed
from tests.faults.sizes import FULL
from tests.metrics.table import Unwaited

NAN, INF = float("nan"), float("inf")
Pair = namedtuple("Pair", ["x", "y"])


def csr(tensor: torch.Tensor) -> torch.Tensor:
    with warnings.catch_warnings(action="ignore"):  # torch calls it a beta
        return tensor.to_sparse_csr()


#: What is bad, and where the message says so.
BAD: list[tuple[Any, str]] = [
    (NAN, "output"),
    (-INF, "output"),
    (complex(0, NAN), "output"),
    (Decimal("NaN"), "output"),
    (torch.tensor(NAN), "output"),
    (torch.tensor([[1.0, INF]]), "output"),
    (torch.tensor([1.0, -INF], dtype=torch.float16), "output"),
    (torch.tensor([1.0, NAN], dtype=torch.bfloat16), "output"),
    (torch.tensor([1.0, NAN]).to(torch.float8_e5m2), "output"),
    (torch.tensor([1, complex(INF, 0)]), "output"),
    (torch.tensor([1, complex(1, NAN)]).conj(), "output"),
    (torch.tensor([0.0, NAN]).to_sparse(), "output"),
    (csr(torch.tensor([[0.0, NAN]])), "output"),
    (torch.full((3, 5), NAN).T, "output"),
    (torch.tensor([2.0, NAN], requires_grad=True), "output"),
    ({"loss": 1.0, "grad": NAN}, "output['grad']"),
    ([1, [2, (3.0, torch.tensor([NAN]))]], "output[1][1][1]"),
    (Pair(1.0, y=torch.tensor(INF)), "output[1]"),
    (MappingProxyType({0: {"a": INF}}), "output[0]['a']"),
    (OrderedDict(a="text", b=None, c=[NAN]), "output['c'][0]"),
]

#: What is not.
GOOD: list[Any] = [
    1e100,
    10**400,
    True,
    -0.0,
    complex(1e308, 1e308),
    Decimal("1e9999"),
    Fraction(10**400, 3),
    torch.tensor(1e100, dtype=torch.float64),
    torch.tensor([1e308, -1e308, 1e308], dtype=torch.float64),
    torch.full((1000,), 65504.0, dtype=torch.float16),
    torch.tensor([complex(3e38, 3e38)] * 2, dtype=torch.complex64),
    torch.tensor([1, 2]),
    torch.tensor([True]),
    torch.empty(0),
    torch.zeros(3).to_sparse(),
    csr(torch.eye(3)),
    torch.tensor([1.0, 2.0]).to(torch.float8_e4m3fn),
    {"loss": 0.5, "name": "nan", "none": None, "bytes": b"nan", "set": {NAN}},
    [[1.0], [], (2, {"a": torch.zeros(2)})],
]


def shown(value: Any) -> str:
    return " ".join(repr(value).split())[:60]


def run_over(outputs: list[Any], **arguments: Any) -> tuple[int, TerminateOnNan]:
    """Where a run ends whose step returns these, one after the other."""
    engine = Engine(lambda engine, batch: outputs[batch])
    guard = TerminateOnNan(**arguments)
    engine.add_event_handler(Events.ITERATION_COMPLETED, guard)
    return engine.run(range(len(outputs))).iteration, guard


@pytest.mark.parametrize(("value", "place"), BAD, ids=[shown(value) for value, _ in BAD])
def test_a_nan_or_infinity_anywhere_ends_the_run_and_the_message_names_it(
    value: Any, place: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        iteration, guard = run_over([0.5, 0.25, value, 0.125])

    assert (iteration, guard.bad_iteration) == (3, 3)
    assert [record.getMessage() for record in caplog.records] == [
        f"TerminateOnNan: {place} is NaN or infinite, first in iteration 3; the run ends"
    ]


@pytest.mark.parametrize("value", GOOD, ids=shown)
def test_what_is_finite_passes(value: Any) -> None:
    iteration, guard = run_over([0.5, value, value])

    assert (iteration, guard.bad_iteration) == (3, None)


def test_a_transform_says_what_is_looked_at() -> None:
    def grad(output: tuple[float, float]) -> dict[str, float]:
        return {"grad": output[1]}

    assert run_over([(NAN, 1.0), (0.5, 1.0), (0.5, NAN), (0.5, 1.0)], output_transform=grad)[0] == 3
    with pytest.raises(TypeError, match="output_transform must be callable, got 3"):
        TerminateOnNan(output_transform=3)  # type: ignore[arg-type]


@pytest.mark.parametrize("output", [None, "text", [], {"loss": None}], ids=repr)
def test_an_output_without_any_number_is_an_error_that_says_how_to_mend_it(output: Any) -> None:
    with pytest.raises(TypeError, match=r"output of the step must hold a number or a tensor.*; return the loss"):
        run_over([output])
    with pytest.raises(TypeError, match=r"the result of .*<lambda>.* must hold a number"):
        run_over([0.5], output_transform=lambda _: output)


def test_an_output_that_holds_nothing_later_on_passes() -> None:
    assert run_over([0.5, None, NAN, 0.5])[0] == 3


def test_only_an_engine_can_be_attached_to() -> None:
    with pytest.raises(TypeError, match="engine must be an Engine, got 'trainer'"):
        TerminateOnNan().attach("trainer")  # type: ignore[arg-type]


def test_one_handler_may_guard_several_engines() -> None:
    guard = TerminateOnNan()
    evaluator = Engine(lambda engine, batch: [0.5, NAN][batch])
    trainer = Engine(lambda engine, batch: batch)
    for engine in (trainer, evaluator):
        guard.attach(engine)
    ends = []
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda: ends.append(evaluator.run([0, 0, 1, 0]).iteration))

    assert trainer.run([0.5, 0.25]).iteration == 2
    assert ends == [3, 3]


def test_a_run_that_is_started_again_is_looked_at_anew() -> None:
    values = [0.5, NAN, 0.5, 0.5, 0.5, NAN]
    engine = Engine(lambda engine, batch: values.pop(0))
    guard = TerminateOnNan()
    guard.attach(engine)

    assert engine.run(range(4), max_epochs=1).iteration == 2
    assert engine.run(range(4), max_epochs=1).iteration == 4
    assert guard.bad_iteration == 4


# ---------------------------------------------------------------------------------------------------- devices


def unwaited(value: float) -> torch.Tensor:
    return torch.tensor([value, 1.0]).as_subclass(Unwaited)


def test_nothing_waits_for_a_device_between_two_rounds_and_the_true_first_iteration_is_reported(
    caplog: pytest.LogCaptureFixture,
) -> None:
    engine = Engine(lambda engine, batch: {"loss": unwaited(batch), "more": [unwaited(0.0)]})
    guard = TerminateOnNan()
    guard.attach(engine)
    vote_of(engine, every=5)

    iteration = engine.run([0.5] * 6 + [NAN, 0.5] + [INF] * 20).iteration

    assert (iteration, guard.bad_iteration) == (10, 7)
    assert "output['loss'] is NaN or infinite, first in iteration 7; the run ends" in caplog.text


@pytest.mark.parametrize("length", [1, 4, 7])
def test_what_a_device_has_met_is_found_at_the_end_of_an_epoch_at_the_latest(length: int) -> None:
    engine = Engine(lambda engine, batch: unwaited(NAN if engine.state.iteration == length else 0.5))
    guard = TerminateOnNan()
    guard.attach(engine)

    assert engine.run(range(length), max_epochs=3).epoch == 1
    assert guard.bad_iteration == length


def test_a_device_remembers_places_beyond_those_that_it_can_count() -> None:
    engine = Engine(lambda engine, batch: [unwaited(0.5)] * 4100 + [unwaited(batch)])
    guard = TerminateOnNan()
    guard.attach(engine)

    engine.run([0.5, NAN, 0.5])

    assert guard.bad_iteration == 2


@pytest.mark.gpu
def test_no_iteration_waits_for_an_accelerator() -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs CUDA, which tells of waits")
    big = torch.zeros(1000, 100, device="cuda")
    engine = Engine(lambda engine, batch: {"loss": big.sum() + batch, "y": big, "z": big.to(torch.complex64)})
    guard = TerminateOnNan()
    guard.attach(engine)
    vote_of(engine, every=50)
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=2), lambda: torch.cuda.set_sync_debug_mode("error"))
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=49), lambda: torch.cuda.set_sync_debug_mode("default"))
    batches = [0.0] * 100
    batches[30] = NAN
    try:
        assert engine.run(batches).iteration == 50
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert guard.bad_iteration == 31


# ------------------------------------------------------------------------------------------------- checkpoints


@pytest.mark.parametrize("priority", [-20, 5], ids=["guard first", "checkpoint first"])
@pytest.mark.parametrize("make", [float, unwaited], ids=["number", "device"])
def test_nothing_is_saved_from_the_first_bad_iteration_on(
    make: Callable[[float], Any], priority: int, tmp_path: Path
) -> None:
    """A save that is due before the NaN would be found waits for the check, in whatever order the two are called."""
    model = nn.Linear(1, 1)
    engine = Engine(lambda engine, batch: make(NAN if batch >= 13 else 0.5))
    engine.state.metrics["accuracy"] = 0.5
    newest = Checkpoint({"model": model}, tmp_path / "newest", n_saved=3)
    best = Checkpoint({"model": model}, tmp_path / "best", score_function=lambda e: e.state.iteration, n_saved=2)
    guard = TerminateOnNan()
    newest.attach(
        engine, Events.EPOCH_COMPLETED | Events.COMPLETED | Events.ITERATION_COMPLETED(every=3, priority=priority)
    )
    best.attach(engine, Events.ITERATION_COMPLETED(priority=priority))
    guard.attach(engine)

    engine.run(range(1, 40), max_epochs=2)

    assert guard.bad_iteration == 13
    assert sorted(path.name for path in tmp_path.rglob("*.pt")) == [
        "model_11.pt",
        "model_12.pt",
        "model_12.pt",
        "model_6.pt",
        "model_9.pt",
    ]


def train_to_a_nan(kind: str, where: int, folder: str, every: int) -> tuple[int, int | None, str | None, list[str]]:
    """A small training in which one micro-step of one rank goes wrong; what the ranks then do."""
    rank, world = idist.get_rank(), idist.get_world_size()
    bad_rank = where % world
    torch.manual_seed(0)
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    seen: dict[str, Any] = {}

    def step(engine: Engine, batch: torch.Tensor) -> dict[str, Any]:
        is_bad = rank == bad_rank and engine.state.iteration == where
        losses = []
        optimizer.zero_grad()
        for micro in range(3):
            loss = model(batch).square().mean()
            if is_bad and micro == 1 and kind == "loss":
                loss = loss * NAN
            loss.backward()
            losses.append(loss.detach())
        seen["grad"] = model.weight.grad
        if is_bad and kind == "grad":
            seen["grad"] = seen["grad"] / 0.0
        seen["metric"] = INF if is_bad and kind == "metric" else 0.5
        return {"losses": losses}

    trainer = Engine(step)
    guard = TerminateOnNan(lambda output: {**output, **seen})
    newest = Checkpoint({"model": model}, f"{folder}/newest_{kind}_{where}", n_saved=None)
    best = Checkpoint(
        {"model": model}, f"{folder}/best_{kind}_{where}", score_function=lambda e: e.state.iteration, n_saved=None
    )
    newest.attach(trainer, Events.EPOCH_COMPLETED | Events.COMPLETED, every=4)
    best.attach(trainer, Events.EPOCH_COMPLETED)
    guard.attach(trainer)
    vote_of(trainer, every=every)
    state = trainer.run([torch.ones(4, 2)] * 11, max_epochs=5)
    saved = [Path(str(one)).name for one in (newest.newest_checkpoint, best.best_checkpoint) if one is not None]
    return state.iteration, guard.bad_iteration, vote_of(trainer).unsafe_to_save, saved


def all_nans(folder: str, every: int) -> list[tuple[int, int | None, str | None, list[str]]]:
    wheres = range(1, 24) if FULL else (2, 12, 15)
    return [train_to_a_nan(kind, where, folder, every) for kind in ("loss", "grad", "metric") for where in wheres]


@pytest.mark.parametrize("every", [1, 3, 10] if FULL else [3])
def test_all_ranks_stop_together_at_a_nan_of_one_of_them_and_keep_what_was_saved_before(
    every: int, tmp_path: Path
) -> None:
    """R18: on one rank, in one micro-step, in loss, gradient or metric."""
    ranks = 4 if FULL else 2
    results = run_distributed(all_nans, str(tmp_path), every, ranks=ranks)

    assert all(result == results[0] for result in results)
    places = {"loss": "output['losses'][1]", "grad": "output['grad']", "metric": "output['metric']"}
    for kind, group in zip(places, thirds(results[0]), strict=True):
        for iteration, bad_iteration, bad, saved in group:
            assert bad_iteration is not None
            assert bad_iteration <= iteration <= bad_iteration + 2 * every
            told = f"{places[kind]} is NaN or infinite on rank {bad_iteration % ranks}, first in iteration "
            assert bad == f"{told}{bad_iteration}"
            assert all(int(name.removesuffix(".pt").split("_")[1]) < bad_iteration for name in saved)
            assert bool(saved) == (bad_iteration > 4)


def thirds(results: list[Any]) -> list[list[Any]]:
    size = len(results) // 3
    return [results[start : start + size] for start in range(0, len(results), size)]
