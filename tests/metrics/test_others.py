"""Entropies, divergences, kernels, speed and GPUs: what they refuse, and what the table of laws does not show."""

from __future__ import annotations

import builtins
import math
import pickle
import re
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import ignite_core.distributed as idist
from ignite_core.engine import Engine, Events
from ignite_core.exceptions import NotComputableError
from ignite_core.metrics import (
    HSIC,
    CosineSimilarity,
    Entropy,
    Frequency,
    GpuInfo,
    JSDivergence,
    KLDivergence,
    MaximumMeanDiscrepancy,
    Metric,
    MetricGroup,
    MutualInformation,
)
from ignite_core.testing import run_distributed

ALL = [Entropy, MutualInformation, KLDivergence, JSDivergence, CosineSimilarity, HSIC, MaximumMeanDiscrepancy]
names = pytest.mark.parametrize("make", ALL, ids=lambda make: make.__name__)


# ------------------------------------------------------------------------------------------------------ what is refused


@names
def test_samples_without_a_further_dimension_are_refused_with_their_shape(make: Callable[[], Metric]) -> None:
    with pytest.raises(ValueError, match=rf"^{make.__name__}\.update: .*, got \(5,\)"):
        make().update((torch.zeros(5), torch.zeros(5)))


@names
def test_whole_numbers_are_refused_with_their_dtype(make: Callable[[], Metric]) -> None:
    batch = torch.zeros(5, 2, dtype=torch.int64)

    with pytest.raises(TypeError, match=rf"^{make.__name__}\.update: \w+ must be of floats, got torch.int64"):
        make().update((batch, batch))


@pytest.mark.parametrize("make", ALL[2:], ids=lambda make: make.__name__)
def test_samples_that_do_not_belong_together_are_refused_with_both_shapes(make: Callable[[], Metric]) -> None:
    with pytest.raises(ValueError, match=rf"^{make.__name__}\.update: .*" + re.escape("got (4, 3) and (5, 3)")):
        make().update((torch.zeros(4, 3), torch.zeros(5, 3)))


@names
def test_an_empty_batch_changes_nothing(make: Callable[[], Metric]) -> None:
    metric, empty = make(), torch.zeros(0, 3)
    metric.update((empty, empty))
    with pytest.raises(NotComputableError, match=rf"^{make.__name__}\.compute: no "):
        metric.compute()
    metric.update((torch.eye(3).repeat(2, 1), torch.ones(6, 3)))
    before = metric.compute()
    metric.update((empty, empty))

    assert metric.compute() == before


@names
def test_what_was_refused_changes_nothing(make: Callable[[], Metric]) -> None:
    metric = make()
    metric.update((torch.eye(3).repeat(2, 1), torch.ones(6, 3)))
    before = metric.compute()
    with pytest.raises(ValueError, match="got"):
        metric.update((torch.zeros(5), torch.zeros(5)))

    assert metric.compute() == before


@names
def test_half_precision_is_taken_in_at_full(make: Callable[[], Metric]) -> None:
    y_pred = torch.randn(8, 3, generator=torch.Generator().manual_seed(0)).half()
    y = (y_pred * 2 + 1).half()
    half, full = make(), make()
    half.update((y_pred, y))
    full.update((y_pred.double(), y.double()))

    assert half.compute() == full.compute()


# ------------------------------------------------------------------------------------------- entropies and divergences


def test_the_number_of_classes_may_not_change() -> None:
    metric = MutualInformation()
    metric.update((torch.zeros(2, 1), None))

    with pytest.raises(ValueError, match=r"has changed from 1 to 4, y_pred is of shape \(2, 4\)"):
        metric.update((torch.zeros(2, 4), None))
    metric.reset()
    metric.update((torch.zeros(2, 4), None))
    assert metric.compute() == 0.0


def test_a_class_that_is_never_predicted_though_true_makes_the_divergence_infinite() -> None:
    metric = KLDivergence()
    metric.update((torch.tensor([[0.0, -torch.inf]]), torch.zeros(1, 2)))

    assert metric.compute() == math.inf


@pytest.mark.parametrize("make", [KLDivergence, JSDivergence])
def test_equal_distributions_do_not_diverge_whatever_is_added_to_their_logits(make: Callable[[], Metric]) -> None:
    y = torch.randn(6, 4, dtype=torch.float64)
    metric = make()
    metric.update((y + 100.0, y))

    assert metric.compute() == pytest.approx(0.0, abs=1e-12)


def test_a_vector_of_zeros_has_the_cosine_0_and_a_short_one_its_own() -> None:
    y_pred = torch.tensor([[0.0, 0.0], [1e-6, 0.0]])
    y = torch.tensor([[1.0, 0.0], [1e-6, 0.0]])
    metric, coarse = CosineSimilarity(), CosineSimilarity(eps=1e-5)
    for one in (metric, coarse):
        one.update((y_pred, y))

    assert metric.compute() == 0.5
    assert coarse.compute() == pytest.approx(0.1 * 0.1 / 2)


# --------------------------------------------------------------------------------------------------------- kernels


def test_batches_too_small_for_an_estimate_are_left_out_or_refused_as_asked() -> None:
    features = torch.randn(7, 2, generator=torch.Generator().manual_seed(0))
    alone, lenient, strict = HSIC(), HSIC(), HSIC(ignore_invalid_batch=False)
    alone.update((features[:4], features[:4]))
    for part in (features[:4], features[4:]):
        lenient.update((part, part))

    assert lenient.compute() == alone.compute()
    with pytest.raises(ValueError, match=r"HSIC.update: a batch must have at least 4 samples, got 3"):
        strict.update((features[4:], features[4:]))


def test_the_features_of_an_independence_criterion_may_differ_in_shape() -> None:
    metric = HSIC()
    metric.update((torch.randn(5, 3), torch.randn(5, 2, 2)))

    assert math.isfinite(metric.compute())


def test_the_width_of_features_that_are_mostly_equal_is_zero_and_still_has_a_value() -> None:
    """K pairs 0 to 2, and so does L: pairs 6 / 12, no quadruple, triples 6 / 24, so 1/2 + 0 - 2/4."""
    x = torch.tensor([[0.0], [0.0], [0.0], [1.0]])
    metric = HSIC()
    metric.update((x, x))

    assert metric.compute() == pytest.approx(0.0, abs=1e-12)


def test_distances_keep_their_digits_far_from_zero() -> None:
    """Scalar products of float32 would be off by thousands here."""
    x = 1e5 + torch.tensor([[0.0], [1.0], [2.0], [4.0]])
    near, far = MaximumMeanDiscrepancy(), MaximumMeanDiscrepancy()
    near.update((x - 1e5, x - 1e5 + 1))
    far.update((x, x + 1))

    assert far.compute() == pytest.approx(near.compute(), abs=1e-9)


def test_of_a_single_sample_no_discrepancy_can_be_estimated() -> None:
    with pytest.raises(ValueError, match=r"with N > 1, got \(1, 3\) and \(1, 3\)"):
        MaximumMeanDiscrepancy().update((torch.zeros(1, 3), torch.zeros(1, 3)))


# --------------------------------------------------------------------------------------------------------- frequency


class Clock:
    """Goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def reader(clock: Clock, seconds: float = 2.0) -> Engine:
    """Each iteration takes some seconds; its output is the batch."""

    def step(engine: Engine, batch: Any) -> Any:
        clock.now += seconds
        return batch

    return Engine(step)


def test_a_frequency_is_items_over_the_time_since_the_reset() -> None:
    clock = Clock()
    metric = Frequency(clock=clock)
    clock.now += 1.0
    metric.reset()
    for items in (10, torch.tensor(14)):
        clock.now += 4.0
        metric.update(items)
    clock.now += 100.0  # nothing was processed since the last update

    assert metric.compute() == 3.0
    assert type(metric.compute()) is float


def test_a_frequency_is_stored_at_each_iteration_and_begins_anew_with_each_epoch() -> None:
    clock, seen = Clock(), []
    engine = reader(clock)
    Frequency(clock=clock).attach(engine, "rate")
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda: seen.append(engine.state.metrics["rate"]))
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda: setattr(clock, "now", clock.now + 1000.0))
    engine.run([4, 8, 0], max_epochs=2)

    assert seen == [2.0, 3.0, 2.0] * 2


@pytest.mark.parametrize(
    ("event", "expected"),
    [(Events.ITERATION_COMPLETED(every=2), 3.0), (Events.EPOCH_COMPLETED, 2.0), ("EPOCH_COMPLETED", 2.0)],
    ids=str,
)
def test_a_frequency_counts_each_iteration_and_is_stored_when_asked(event: Any, expected: float) -> None:
    clock = Clock()
    engine, metric = reader(clock), Frequency("tokens", clock=clock)
    metric.attach(engine, "rate", event)
    values = engine.run([{"tokens": count} for count in (4, 8, 0)]).metrics

    assert values == {"rate": expected}
    assert metric.is_attached(engine, event)
    assert not metric.is_attached(engine)
    metric.detach(engine, event)
    assert not metric.is_attached(engine, event)


def test_slow_work_has_a_frequency_below_one_and_no_time_at_all_an_infinite_one() -> None:
    clock = Clock()
    metric = Frequency(clock=clock)
    metric.update(1)
    assert metric.compute() == math.inf
    clock.now += 8.0
    metric.update(1)

    assert metric.compute() == 0.25


def test_a_frequency_before_any_item_was_counted_is_not_computable() -> None:
    metric = Frequency()
    with pytest.raises(NotComputableError, match=r"Frequency.compute: no item was counted"):
        metric.compute()
    metric.update(0)

    assert metric.compute() == 0.0


def test_a_batch_is_no_number_of_items() -> None:
    with pytest.raises(ValueError, match=r"Frequency.update: takes the number of items, .* got the shape \(32,\)"):
        Frequency().update(torch.zeros(32))


def test_a_saved_frequency_goes_on_without_the_time_between() -> None:
    clock = Clock()
    metric, restored = Frequency(clock=clock), Frequency(clock=clock)
    clock.now += 2.0
    metric.update(6)
    clock.now += 1000.0
    restored.load_state_dict(metric.state_dict())
    copy = pickle.loads(pickle.dumps(Frequency()))
    clock.now += 2.0
    restored.update(2)

    assert restored.compute() == 2.0
    assert copy._last > 0


def test_a_frequency_of_a_device_is_not_waited_for() -> None:
    """``meta`` tensors have no values: reading one raises."""
    clock = Clock()
    engine = reader(clock)
    Frequency(clock=clock).attach(engine, "rate")
    engine.run([torch.zeros((), device="meta")] * 3)

    assert "rate" in engine.state.metrics


def rates_of_ranks() -> Any:
    """Rank 0 takes 2 s an iteration and 1 in all, rank 1 takes 1 s and has 3."""
    from tests.metrics.test_reduction import counting

    clock, rank = Clock(), idist.get_rank()
    engine, metric = reader(clock, seconds=2.0 - rank), Frequency(clock=clock)
    metric.attach(engine, "own")
    metric.attach(engine, "all", Events.EPOCH_COMPLETED)
    state, collectives = counting(lambda: engine.run([6.0] * (1 + 2 * rank)))
    return dict(state.metrics), collectives, metric.compute()


def test_the_frequency_of_ranks_is_that_of_all_items_and_asked_for_only_at_the_end() -> None:
    """24 items in the 3 s of the slower rank; 3 and 6 on the ranks themselves."""
    assert run_distributed(rates_of_ranks) == [({"own": own, "all": 8.0}, 1, 8.0) for own in (3.0, 6.0)]


# -------------------------------------------------------------------------------------------------------------- GPUs


class NVMLError(Exception):
    pass


class NotSupportedError(NVMLError):
    pass


class FakeNVML:
    """The parts of the package that are used, with the GPUs that it is given."""

    NVMLError = NVMLError
    NVMLError_NotSupported = NotSupportedError

    def __init__(self, *gpus: dict[str, Any], error: Exception | None = None) -> None:
        self.gpus, self.error = gpus, error

    def nvmlInit(self) -> None:  # noqa: N802 - so named in the package
        if self.error is not None:
            raise self.error

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, number: int) -> int:  # noqa: N802
        return number

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Any:  # noqa: N802
        used, total = self._told(handle, "memory")
        return SimpleNamespace(used=used * 2**20, total=total * 2**20, free=0)

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> Any:  # noqa: N802
        return SimpleNamespace(gpu=self._told(handle, "utilization"), memory=7)

    def _told(self, handle: int, name: str) -> Any:
        value = self.gpus[handle].get(name, NotSupportedError("Not Supported"))
        if isinstance(value, Exception):
            raise value
        return value


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def install(*gpus: dict[str, Any], error: Exception | None = None) -> None:
        monkeypatch.setitem(sys.modules, "pynvml", FakeNVML(*gpus, error=error))

    return install


def test_memory_and_utilisation_of_each_gpu_are_stored_at_each_iteration(machine: Callable[..., None]) -> None:
    gpu = {"memory": (256, 1024), "utilization": 40}
    machine(gpu, {"memory": (2, 3)})
    engine, seen = Engine(lambda engine, batch: gpu.update(utilization=batch)), []
    GpuInfo().attach(engine)
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda: seen.append(engine.state.metrics["gpu:0 util(%)"]))
    values = engine.run([50, 60]).metrics

    assert values == {"gpu:0 mem(%)": 25, "gpu:0 util(%)": 60, "gpu:1 mem(%)": 66}
    assert seen == [50, 60]


def test_what_gpus_report_is_also_the_value(machine: Callable[..., None]) -> None:
    machine({"memory": (256, 1024), "utilization": 40})

    assert GpuInfo().compute() == [
        {"fb_memory_usage": {"used": 256.0, "total": 1024.0}, "utilization": {"gpu_util": 40}}
    ]


def test_gpus_are_asked_at_the_event_that_is_named(machine: Callable[..., None]) -> None:
    machine({"utilization": 40})
    engine, metric = Engine(lambda engine, batch: None), GpuInfo()
    metric.attach(engine, "card", Events.EPOCH_COMPLETED)
    attached = metric.is_attached(engine, Events.EPOCH_COMPLETED), metric.is_attached(engine)
    values = dict(engine.run([1]).metrics)
    metric.detach(engine, Events.EPOCH_COMPLETED)

    assert values == {"card:0 util(%)": 40}
    assert attached == (True, False)
    assert not metric.is_attached(engine, Events.EPOCH_COMPLETED)


def test_a_failing_gpu_is_told(machine: Callable[..., None]) -> None:
    """Only what is not supported is left out."""
    machine({"memory": (1, 2), "utilization": NVMLError("GPU is lost")})

    with pytest.raises(NVMLError, match="GPU is lost"):
        GpuInfo().compute()


def test_gpu_info_may_be_in_a_group_and_be_pickled(machine: Callable[..., None]) -> None:
    machine({"utilization": 40})
    metric = pickle.loads(pickle.dumps(GpuInfo()))

    assert MetricGroup({"gpus": metric}).compute() == {"gpus": [{"utilization": {"gpu_util": 40}}]}
    assert metric.state_dict() == {}


def test_without_the_package_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)  # as if it were not there
    with pytest.raises(ModuleNotFoundError, match=r"needs the package 'pynvml': pip install nvidia-ml-py"):
        GpuInfo()


def test_a_package_that_is_there_but_broken_is_not_called_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "pynvml", raising=False)
    monkeypatch.setattr(
        "ignite_core.metrics.gpu_info.import_module",
        lambda name: builtins.__import__("no_such_module_inside_pynvml"),
    )
    with pytest.raises(ModuleNotFoundError, match="no_such_module_inside_pynvml"):
        GpuInfo()


def test_without_a_driver_or_a_gpu_it_cannot_be_made(machine: Callable[..., None]) -> None:
    machine(error=NVMLError("Driver Not Loaded"))
    with pytest.raises(RuntimeError, match=r"GpuInfo: the NVIDIA driver cannot be queried: Driver Not Loaded"):
        GpuInfo()
    machine()
    with pytest.raises(RuntimeError, match=r"GpuInfo: needs at least one NVIDIA GPU"):
        GpuInfo()


def gpu_info_on_rank_0() -> Any:
    sys.modules["pynvml"] = FakeNVML({"utilization": idist.get_rank()})  # type: ignore[assignment]
    engine = Engine(lambda engine, batch: None)
    if idist.get_rank() == 0:
        GpuInfo().attach(engine, event_name=Events.EPOCH_COMPLETED)
    return dict(engine.run([1]).metrics)


def test_one_rank_alone_may_watch_its_gpus() -> None:
    assert run_distributed(gpu_info_on_rank_0) == [{"gpu:0 util(%)": 0}, {}]
