"""Metrics written for pytorch-ignite give the same here, with nothing changed but the import."""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

import ignite_core.distributed as idist
from ignite_core.engine import Engine
from ignite_core.metrics import Metric, sync_all_reduce
from ignite_core.testing import run_distributed
from tests.metrics import ported

RUNS = ["in_a_loop", "on_an_engine", "by_hand_on_events"]


@pytest.fixture(scope="module")
def theirs() -> Any:
    """The same file with the other library in its imports."""
    pytest.importorskip("ignite", reason="pytorch-ignite is not installed: nothing to compare with")
    source = Path(ported.__file__).read_text(encoding="utf-8")
    decorators = "reinit__is_reduced,\n    sync_all_reduce,\n"  # pytorch-ignite has them in another module
    assert decorators in source
    source = source.replace(decorators, ")\nfrom ignite.metrics.metric import (\n    " + decorators)
    source = source.replace("ignite_core", "ignite")
    module = types.ModuleType("ported_to_ignite")
    exec(compile(source, "ported_to_ignite.py", "exec"), vars(module))
    return module


def plain(value: Any) -> Any:
    """Without tensors and special mappings, for comparing."""
    if isinstance(value, Mapping):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return value.item() if isinstance(value, torch.Tensor) else value


def close(value: Any, expected: Any) -> bool:
    value, expected = plain(value), plain(expected)
    if isinstance(expected, dict):
        return list(value) == list(expected) and all(close(value[key], expected[key]) for key in expected)
    if isinstance(expected, list):
        return len(value) == len(expected) and all(map(close, value, expected))
    return bool(value == pytest.approx(expected, rel=1e-6))


@pytest.mark.parametrize("run", RUNS)
def test_values_are_those_of_pytorch_ignite(theirs: Any, run: str) -> None:
    value, expected = getattr(ported, run)(), getattr(theirs, run)()

    assert close(value, expected), f"{plain(value)}\ninstead of\n{plain(expected)}"


def test_values_on_two_ranks_are_those_of_all_the_data() -> None:
    alone = ported.in_a_loop()
    for values in run_distributed(ported.on_this_rank, "in_a_loop", ranks=2):
        assert close(values, alone)


def test_an_engine_on_two_ranks_stores_and_remembers_what_one_of_all_the_data_does() -> None:
    """But for what hangs on the order of batches, such as every second of them."""
    seen, remembered, attached = ported.on_an_engine()
    for metrics, *more in run_distributed(ported.on_this_rank, "on_an_engine", ranks=2):
        for values, expected in zip(metrics, seen, strict=True):
            assert set(values) == set(expected)
            assert all(
                close(values[name], expected[name]) for name in expected if name not in ("filtered", "over_the_run")
            )
        assert close(more, [remembered, attached])


def test_hooks_registered_by_hand_are_reduced_too() -> None:
    alone = ported.by_hand_on_events()

    assert run_distributed(ported.on_this_rank, "by_hand_on_events", ranks=2) == [alone, alone]


# ------------------------------------------------------------------------------------------------ one thing at a time


class Large(Metric):
    """A state of more than a MiB, of one's own making; rank 0 sees nothing."""

    def reset(self) -> None:
        self._matrix = torch.zeros(400, 400, dtype=torch.float64)
        self._largest: Any = 0.1

    def update(self, output: Any) -> None:
        self._matrix[0, 0] += output
        self._largest = torch.tensor(-1.0, dtype=torch.float64)

    @sync_all_reduce("_matrix", "_largest:MAX")
    def compute(self) -> Any:
        return self._matrix.sum().item(), float(self._largest)


def large() -> Any:
    metric = Large()
    if idist.get_rank():
        metric.update(idist.get_rank())
    return metric.compute()


def test_large_states_are_reduced_and_numbers_keep_their_digits_beside_tensors() -> None:
    assert run_distributed(large, ranks=3) == [(3.0, 0.1)] * 3


class CallsTheBase(Metric):
    def reset(self) -> None:
        super().reset()
        self._sum = 0.0
        super().reset()

    def update(self, output: Any) -> None:
        self._sum += output

    @sync_all_reduce("_sum")
    def compute(self) -> float:
        return self._sum


def test_reset_of_the_base_class_may_be_called() -> None:
    metric = CallsTheBase()
    metric.update(2.0)

    assert metric.compute() == 2.0
    assert metric.merged(metric).compute() == 4.0


def test_a_state_declared_for_ranks_is_saved_and_restored() -> None:
    metric, other = CallsTheBase(), CallsTheBase()
    metric.update(2.0)
    other.load_state_dict(metric.state_dict())

    assert other.compute() == 2.0


@pytest.mark.parametrize("device", [None, "cpu", torch.device("meta")])
def test_the_device_is_one(device: Any) -> None:
    assert CallsTheBase(device=device)._device == torch.device(device or "cpu")


def test_a_reduction_that_is_not_known_is_refused() -> None:
    with pytest.raises(ValueError, match="must be one of SUM, PRODUCT, MAX, MIN, got '_sum:MEAN'"):
        sync_all_reduce("_sum:MEAN")


def test_numbers_among_lists_of_samples_go_where_the_predictions_are() -> None:
    seen: list[Callable[[], Any]] = []

    class Devices(CallsTheBase):
        def update(self, output: Any) -> None:
            seen.append([one.device.type for one in output])

    engine = Engine(lambda engine, batch: batch)
    Devices().attach(engine, "devices", "running_epoch_wise")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Devices, "compute", lambda self: 0.0)
        engine.run([0, ([torch.zeros(2, device="meta")], [1])])

    assert seen == [["meta", "meta"]]
