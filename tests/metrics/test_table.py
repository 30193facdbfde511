"""The laws that hold for every metric, each proved on every row of the table."""

from __future__ import annotations

import math
import pickle
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import ignite_core.distributed as idist
from ignite_core.engine import Engine, Events
from ignite_core.exceptions import NotComputableError
from ignite_core.metrics import Metric, MetricGroup
from ignite_core.testing import run_distributed
from tests.faults.sizes import FULL, sized
from tests.metrics import rows_others, rows_regression
from tests.metrics.table import Row, Unwaited, fed, pieces, rows, same

ROWS = rows()
OF_NUMBERS = [*rows_regression.ROWS, *rows_others.ROWS]
each_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
SEEDS = st.integers(0, 2**31)


def drawn(row: Row, seed: int, count: int) -> tuple[torch.Tensor, ...]:
    return row.inputs(torch.Generator().manual_seed(seed), count)


def test_names_are_unique() -> None:
    assert len({row.name for row in ROWS}) == len(ROWS)


@each_row
def test_without_data_there_is_no_value(row: Row) -> None:
    metric = row.make()
    with pytest.raises(NotComputableError):
        metric.compute()
    fed(metric, [drawn(row, 0, 10)]).reset()
    with pytest.raises(NotComputableError):
        metric.compute()


@each_row
def test_the_value_is_the_one_worked_out_by_hand(row: Row) -> None:
    data, expected = row.by_hand
    value = fed(row.make(), [data]).compute()

    assert same(value, expected, row.tolerance), (value, expected)


@each_row
@settings(max_examples=10, deadline=None)
@given(seed=SEEDS, count=st.integers(8, 40), cuts=st.lists(st.integers(0, 40), max_size=4))
def test_the_value_is_that_of_the_reference_however_the_data_is_cut(
    row: Row, seed: int, count: int, cuts: list[int]
) -> None:
    data = drawn(row, seed, count)
    expected = row.reference(*data)
    value = fed(row.make(), pieces(data, [min(cut, count) for cut in cuts])).compute()

    assert same(value, expected, row.tolerance), (value, expected)


@each_row
@settings(max_examples=5, deadline=None)
@given(seed=SEEDS)
def test_merging_is_seeing_both_in_any_grouping(row: Row, seed: int) -> None:
    data = drawn(row, seed, 24)
    first, second, third = (fed(row.make(), [part]) for part in pieces(data, [7, 15]))
    expected = row.reference(*data)

    assert same(first.merged(second).merged(third).compute(), expected, row.tolerance)
    assert same(first.merged(second.merged(third)).compute(), expected, row.tolerance)
    assert same(fed(row.make(), pieces(data, [7])[:1]).compute(), first.compute(), row.tolerance), "an operand changed"


@each_row
def test_merging_with_a_metric_that_saw_nothing_changes_nothing(row: Row) -> None:
    data = drawn(row, 7, 24)
    metric, expected = fed(row.make(), [data]), row.reference(*data)

    assert same(metric.merged(row.make()).compute(), expected, row.tolerance)
    assert same(row.make().merged(metric).compute(), expected, row.tolerance)


def tensors_in(state: Any) -> list[torch.Tensor]:
    if isinstance(state, torch.Tensor):
        return [state]
    values = state.values() if isinstance(state, dict) else state if isinstance(state, list) else []
    return [tensor for value in values for tensor in tensors_in(value)]


@each_row
def test_what_was_saved_does_not_change_with_the_metric(row: Row) -> None:
    metric = fed(row.make(), [drawn(row, 8, 24)])
    state = metric.state_dict()
    copies = [tensor.clone() for tensor in tensors_in(state)]
    fed(metric, [drawn(row, 9, 24)])

    assert all(
        torch.equal(one, other) or one.isnan().any() for one, other in zip(tensors_in(state), copies, strict=True)
    )


@each_row
def test_a_state_that_does_not_fit_is_refused_and_changes_nothing(row: Row) -> None:
    data = drawn(row, 10, 24)
    metric = fed(row.make(), [data])
    with pytest.raises((ValueError, TypeError)):
        metric.load_state_dict({"unknown": torch.tensor(0.0)})

    assert same(metric.compute(), row.reference(*data), row.tolerance)


@each_row
def test_a_state_moves_to_another_device(row: Row) -> None:
    """``meta`` is a device that every machine has."""
    metric = fed(row.make(), [drawn(row, 11, 24)]).to("meta")
    states = [getattr(leaf, name) for leaf in metric._leaves() for name in leaf._specs]

    assert all(tensor.device.type == "meta" for tensor in tensors_in(states))


@each_row
def test_a_saved_metric_goes_on_as_if_nothing_had_happened(row: Row, tmp_path: Any) -> None:
    data = drawn(row, 1, 24)
    before, after = pieces(data, [11])
    torch.save(fed(row.make(), [before]).state_dict(), tmp_path / "state.pt")
    restored = row.make()
    restored.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    expected = row.reference(*data)

    assert same(fed(restored, [after]).compute(), expected, row.tolerance)


@each_row
def test_a_metric_can_be_pickled(row: Row) -> None:
    data = drawn(row, 2, 24)
    copy: Metric = pickle.loads(pickle.dumps(fed(row.make(), [data])))

    assert same(copy.compute(), row.reference(*data), row.tolerance)


@each_row
def test_neither_input_nor_gradients_are_touched(row: Row) -> None:
    data = tuple(
        column.clone().requires_grad_() if column.is_floating_point() else column for column in drawn(row, 3, 24)
    )
    copies = [column.detach().clone() for column in data]
    with torch.no_grad():
        value = fed(row.make(), [data]).compute()

    assert same(value, row.reference(*(column.detach() for column in data)), row.tolerance)
    assert all(torch.equal(column, copy) for column, copy in zip(data, copies, strict=True))


@each_row
def test_a_batch_that_is_written_into_the_same_memory_is_another_batch(row: Row) -> None:
    """As a simulator, a CUDA graph or a compiled model does it, which torch does not count as a change."""
    parts = [drawn(row, seed, 24) for seed in (12, 13)]
    memory = tuple(torch.empty_like(column) for column in parts[0])
    output = memory if len(memory) > 1 else memory[0]
    alone, group, attached = row.make(), MetricGroup({"one": row.make(), "two": row.make()}), [row.make(), row.make()]

    def step(engine: Engine, batch: tuple[torch.Tensor, ...]) -> Any:
        for column, values in zip(memory, batch, strict=True):
            column.data.copy_(values)
        return output

    engine = Engine(step)
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda: (alone.update(output), group.update(output)))
    for number, metric in enumerate(attached):
        metric.attach(engine, f"metric {number}")
    engine.run(parts)
    for column in memory:
        column.data.zero_()
    expected = row.reference(*(torch.cat(columns) for columns in zip(*parts, strict=True)))

    for value in (alone.compute(), *group.compute().values(), *(metric.compute() for metric in attached)):
        assert same(value, expected, row.tolerance), (value, expected)


@each_row
def test_an_empty_batch_changes_nothing(row: Row) -> None:
    data = drawn(row, 14, 24)
    nothing = tuple(column[:0] for column in data)
    first, second = pieces(data, [9])

    with pytest.raises(NotComputableError):
        fed(row.make(), [nothing]).compute()
    assert same(fed(row.make(), [nothing, first, nothing, second]).compute(), row.reference(*data), row.tolerance)


@pytest.mark.parametrize("row", OF_NUMBERS, ids=lambda row: row.name)
def test_a_batch_with_nan_gives_nan_or_an_error(row: Row) -> None:
    data = drawn(row, 3, 16)
    columns = data[:1] if "Entropy" in row.name or "MutualInformation" in row.name else data  # whose labels are unused
    for place in [number for number, column in enumerate(columns) if column.is_floating_point()]:
        bad = [column.clone() for column in data]
        bad[place].view(-1)[5] = torch.nan
        metric = fed(row.make(), [data, tuple(bad)])

        assert torch.as_tensor(metric.compute()).isnan().any()


@pytest.mark.parametrize("scale", [1e38, 1e-30])
@pytest.mark.parametrize("row", OF_NUMBERS, ids=lambda row: row.name)
def test_the_value_of_large_and_small_floats_is_that_of_the_same_numbers_as_doubles(row: Row, scale: float) -> None:
    data = tuple((column.float() * scale) for column in drawn(row, 3, 16))
    value, expected = (
        fed(row.make(), [columns]).compute() for columns in (data, tuple(column.double() for column in data))
    )

    assert value == pytest.approx(expected, rel=1e-6, abs=0, nan_ok=True)
    assert scale < 1 or not math.isinf(value)


@each_row
def test_an_update_keeps_no_graph(row: Row) -> None:
    data = drawn(row, 15, 24)
    if not data[0].is_floating_point():
        pytest.skip("labels have no graph")
    one = torch.ones((), requires_grad=True)
    metric = fed(row.make(), [(part[0] * one, *part[1:]) for part in pieces(data, [9, 17])])
    kept = [tensor for leaf in metric._leaves() for tensor in tensors_in(vars(leaf))]

    assert not any(tensor.requires_grad for tensor in kept)
    pickle.loads(pickle.dumps(metric))  # as copy.deepcopy, it refuses what has a graph


WAYS = ["update", "reset", "merged", "load_state_dict", "to"]


@pytest.mark.parametrize(
    ("row", "what"),
    [
        pytest.param(row, what, id=f"{row.name}-{what}")
        for number, row in enumerate(ROWS)
        for what in (WAYS if FULL else [WAYS[number % len(WAYS)]])
    ],
)
def test_inference_mode_and_other_modes_take_turns(row: Row, what: str) -> None:
    data = drawn(row, 16, 24)
    first, second, third = pieces(data, [9, 17])
    with torch.inference_mode():
        metric = fed(row.make(), [tuple(column.clone() for column in first)])
        if what == "reset":
            metric.reset()
            fed(metric, [first])
        if what == "merged":
            parts = [fed(row.make(), [part]) for part in pieces(first, [4])]
            metric = parts[0].merged(parts[1])
        if what == "load_state_dict":
            restored = row.make()
            restored.load_state_dict(metric.state_dict())
            metric = restored
        if what == "to":
            metric.to("cpu")
    fed(metric, [second])
    with torch.inference_mode():
        fed(metric, [third])
        during = metric.compute()

    assert same(metric.compute(), row.reference(*data), row.tolerance)
    assert same(during, row.reference(*data), row.tolerance)


@each_row
def test_updates_wait_for_no_device(row: Row) -> None:
    """The first batch may be looked at; more of them may not."""
    metric = fed(row.make(), [drawn(row, 4, 16)])
    batch = tuple(column.as_subclass(Unwaited) for column in drawn(row, 5, 16))
    for _ in range(sized(5, 100)):
        metric.update(batch if len(batch) > 1 else batch[0])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA, which tells of waits")
@each_row
def test_updates_on_a_gpu_wait_for_nothing_and_give_the_same_value(row: Row) -> None:
    data = tuple(column.cuda() for column in drawn(row, 4, 16))
    batch = tuple(column.cuda() for column in drawn(row, 5, 16))
    metric = fed(row.make(), [data])
    torch.cuda.set_sync_debug_mode("error")
    try:
        fed(metric, [batch])
    finally:
        torch.cuda.set_sync_debug_mode("default")
    both = tuple(torch.cat(columns).cpu() for columns in zip(data, batch, strict=True))

    assert same(metric.compute(), row.reference(*both), row.tolerance)


# -------------------------------------------------------------------------------------------------------- on many ranks

SPLITS = ("even", "uneven", "rank 0 has none")


def shares(split: str, data: tuple[torch.Tensor, ...]) -> list[tuple[torch.Tensor, ...]]:
    """The batches of this rank, of all samples in their order."""
    rank, world_size, count = idist.get_rank(), idist.get_world_size(), data[0].shape[0]
    if world_size == 1:
        return pieces(data, [count // 2])
    if split == "even":
        bounds = [count * number // world_size for number in range(world_size + 1)]
    elif split == "uneven":
        bounds = [0, *(count - world_size + number for number in range(1, world_size)), count]
    else:
        bounds = [0, 0, *(count * number // (world_size - 1) for number in range(1, world_size))]
    mine = tuple(column[bounds[rank] : bounds[rank + 1]] for column in data)
    return pieces(mine, [mine[0].shape[0] // 2])


def on_ranks() -> dict[tuple[str, str], Any]:
    """The value of each row and split, or what went wrong; all rows in one start."""
    found: dict[tuple[str, str], Any] = {}
    for row in rows():
        for split in SPLITS:
            data = drawn(row, 6, 30)
            try:
                metric = fed(row.make(), shares(split, data))
            except Exception as error:
                found[row.name, split] = f"update: {error!r}"
                metric = row.make()
            try:
                found.setdefault((row.name, split), metric.compute())
            except Exception as error:
                found[row.name, split] = f"compute: {error!r}"
    return found


@pytest.mark.parametrize("ranks", [1, 2, 4] if FULL else [1, 3])
def test_the_value_on_many_ranks_is_that_of_all_the_data(ranks: int) -> None:
    found = run_distributed(on_ranks, ranks=ranks, timeout_s=300)
    wrong = []
    for row in ROWS:
        expected = row.reference(*drawn(row, 6, 30))
        for split in SPLITS:
            for rank, values in enumerate(found):
                value = values[row.name, split]
                if isinstance(value, str) != isinstance(expected, str) or not same(value, expected, row.tolerance):
                    wrong.append(f"{row.name}, {split}, rank {rank}: {value} instead of {expected}")

    assert not wrong, "\n".join(wrong)
