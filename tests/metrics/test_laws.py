"""What holds for every metric, by one table."""

from __future__ import annotations

import copy
import itertools
import pickle
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ignite_core.exceptions import NotComputableError
from ignite_core.metrics import Metric
from tests.metrics.cases import CASES, Case, N

every_metric = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def fed(case: Case, *parts: slice) -> Metric:
    """The metric after these parts of the data, one update each."""
    metric = case.make()
    for part in parts:
        metric.update(tuple(one[part] for one in case.data))
    return metric


def parts_of(cuts: list[int]) -> list[slice]:
    """The data from cut to cut."""
    bounds = [0, *sorted(set(cuts)), N]
    return [slice(start, stop) for start, stop in itertools.pairwise(bounds) if stop > start]


@every_metric
def test_it_equals_the_reference(case: Case) -> None:
    assert fed(case, slice(None)).compute() == pytest.approx(case.expected, abs=1e-6)


@every_metric
def test_after_a_reset_there_is_nothing_to_compute(case: Case) -> None:
    metric = fed(case, slice(None))
    metric.reset()

    with pytest.raises(NotComputableError):
        metric.compute()


@every_metric
@settings(max_examples=20, deadline=None, derandomize=True)
@given(cuts=st.lists(st.integers(1, N - 1), max_size=6))
def test_any_split_into_batches_gives_the_same_value(case: Case, cuts: list[int]) -> None:
    assert fed(case, *parts_of(cuts)).compute() == pytest.approx(case.expected, abs=1e-6)


@every_metric
@settings(max_examples=20, deadline=None, derandomize=True)
@given(cuts=st.lists(st.integers(1, N - 1), min_size=2, max_size=2, unique=True))
def test_merging_is_associative_and_leaves_its_parts_alone(case: Case, cuts: list[int]) -> None:
    one, two, three = (fed(case, part) for part in parts_of(cuts))
    before = one.compute()

    assert one.merged(two).merged(three).compute() == pytest.approx(case.expected, abs=1e-6)
    assert one.merged(two.merged(three)).compute() == pytest.approx(case.expected, abs=1e-6)
    assert one.compute() == before


@every_metric
def test_merging_with_a_metric_that_saw_nothing_changes_nothing(case: Case) -> None:
    metric = fed(case, slice(None))

    assert metric.merged(case.make()).compute() == metric.compute() == case.make().merged(metric).compute()


@every_metric
def test_a_saved_state_goes_on_as_if_it_had_not_been_saved(case: Case, tmp_path: Any) -> None:
    torch.save(fed(case, slice(0, 20)).state_dict(), tmp_path / "metric.pt")
    metric = case.make()
    metric.load_state_dict(torch.load(tmp_path / "metric.pt", weights_only=True))
    metric.update(tuple(one[20:] for one in case.data))

    assert metric.compute() == pytest.approx(case.expected, abs=1e-6)


@every_metric
def test_a_saved_state_does_not_change_with_the_metric(case: Case) -> None:
    metric = fed(case, slice(0, 20))
    saved = metric.state_dict()
    before = copy.deepcopy(saved)
    metric.update(tuple(one[20:] for one in case.data))

    assert all(
        torch.equal(torch.as_tensor(saved[name]), torch.as_tensor(before[name])) for name in saved if name != "values"
    )
    assert len(saved.get("values", [1])) == 1


@every_metric
def test_a_state_that_does_not_fit_changes_nothing(case: Case) -> None:
    metric = fed(case, slice(None))
    value = metric.compute()
    saved = metric.state_dict()
    first = next(iter(saved))
    saved["other"] = saved.pop(first)

    with pytest.raises(ValueError, match=first):
        metric.load_state_dict(saved)
    assert metric.compute() == value


@every_metric
def test_it_is_pickled_with_its_state(case: Case) -> None:
    metric = fed(case, slice(None))

    assert pickle.loads(pickle.dumps(metric)).compute() == metric.compute()


@every_metric
def test_gradients_and_updates_in_place_stay_outside(case: Case) -> None:
    """The state holds no graph and no memory of the batch."""
    metric = case.make()
    y_pred, y = (one.clone() for one in case.data)
    batch = y_pred.requires_grad_() if y_pred.is_floating_point() else y_pred
    metric.update((batch, y))
    if batch.requires_grad:
        assert not any(
            torch.as_tensor(one).requires_grad for one in metric.state_dict().values() if not isinstance(one, list)
        )
    if "values" not in metric.state_dict():
        with torch.no_grad():
            batch.zero_()
        y.zero_()

    assert metric.compute() == pytest.approx(case.expected, abs=1e-6)


@every_metric
def test_no_update_waits_for_a_device(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that would copy a value to the host is called while updating."""
    metric = fed(case, slice(0, 20))

    def wait(*args: Any) -> Any:
        raise AssertionError("update has read a value from the device")

    for name in ("item", "tolist", "cpu", "numpy", "__bool__", "__float__", "__int__", "nonzero"):
        monkeypatch.setattr(torch.Tensor, name, wait)
    metric.update(tuple(one[20:] for one in case.data))
    monkeypatch.undo()

    assert metric.compute() == pytest.approx(case.expected, abs=1e-6)


@every_metric
def test_it_moves_to_another_device(case: Case) -> None:
    """``meta`` is a device that every machine has."""
    moved = fed(case, slice(None)).to("meta")

    tensors = [one for name in moved._specs for one in _tensors(getattr(moved, name))]
    assert tensors
    assert all(tensor.device.type == "meta" for tensor in tensors)


def _tensors(value: Any) -> list[torch.Tensor]:
    return [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, torch.Tensor)]
