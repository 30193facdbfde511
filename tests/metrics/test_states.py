"""Declared states: what they start as, and what becomes of them."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import pytest
import torch

from ignite_core.metrics import Metric, maximum, minimum, sync_all_reduce, total


class Sums(Metric):
    """Adds up what it gets."""

    exact = total()
    count = total(dtype=torch.int64)

    def update(self, output: Any) -> None:
        self.exact += output
        self.count += 1

    def compute(self) -> Any:
        return self.exact


class WithExtremes(Sums):
    """Inherits states and declares more."""

    largest = maximum(dtype=torch.int64)
    smallest = minimum(dtype=torch.int64)

    def update(self, output: Any) -> None:
        super().update(output)
        self.largest = torch.maximum(self.largest, output)
        self.smallest = torch.minimum(self.smallest, output)


def test_a_total_is_summed_in_float64_whatever_is_added() -> None:
    """In float32 the small ones would be lost."""
    metric = Sums()
    metric.update(torch.tensor(1.0))
    for _ in range(100):
        metric.update(torch.tensor(1e-8))

    assert metric.exact.dtype is torch.float64
    assert metric.exact.item() == pytest.approx(1 + 1e-6, abs=1e-12)


def test_a_total_is_no_alias_of_the_first_tensor_that_was_added() -> None:
    first = torch.tensor(1.0, dtype=torch.float64)
    metric = Sums()
    metric.update(first)
    metric.update(torch.tensor(2.0))

    assert first.item() == 1.0


def test_a_total_of_numbers_stays_a_number() -> None:
    metric = Sums()
    metric.update(0.5)
    metric.update(0.25)

    assert (metric.exact, metric.count) == (0.75, 2)
    assert isinstance(metric.exact, float)


def test_a_total_of_numbers_goes_on_in_float64_with_a_tensor() -> None:
    """In float32 the tenth would be 0.100000001."""
    metric = Sums()
    metric.update(0.1)
    metric.update(torch.tensor(1.0))

    assert metric.exact.dtype is torch.float64
    assert metric.exact.item() == 1.1


@pytest.mark.parametrize("fraction", [0.5, torch.tensor(0.5)], ids=["number", "tensor"])
def test_a_total_of_whole_numbers_loses_no_fraction_unheard(fraction: Any) -> None:
    metric = Sums()

    with pytest.raises(TypeError):
        metric.count += fraction


def test_a_state_that_was_never_saved_changes_nothing() -> None:
    metric = Sums()
    metric.update(2.0)

    with pytest.raises(TypeError, match="a saved state must be a Tensor, got str"):
        metric.load_state_dict({"exact": torch.tensor(5.0), "count": "many"})
    with pytest.raises(TypeError, match="state_dict must be a mapping, got NoneType"):
        metric.load_state_dict(None)  # type: ignore[arg-type]
    assert (metric.exact, metric.count) == (2.0, 1)


def test_a_total_may_have_any_shape() -> None:
    metric = Sums()
    metric.update(torch.ones(2, 3))
    metric.update(torch.ones(2, 3))

    assert torch.equal(metric.exact, torch.full((2, 3), 2.0, dtype=torch.float64))


def test_states_are_inherited() -> None:
    metric = WithExtremes()
    metric.update(torch.tensor(3))
    metric.update(torch.tensor(-2))

    assert list(metric.state_dict()) == ["exact", "count", "largest", "smallest"]
    assert (metric.largest.item(), metric.smallest.item()) == (3, -2)


def test_two_metrics_of_one_class_share_nothing() -> None:
    one, other = Sums(), Sums()
    one.update(torch.tensor(1.0))

    assert other.exact == 0


def test_metrics_of_different_classes_do_not_merge() -> None:
    with pytest.raises(TypeError, match=r"Sums.merged: got a WithExtremes"):
        Sums().merged(WithExtremes())  # type: ignore[arg-type]


def test_an_output_transform_is_a_function_a_key_or_a_path() -> None:
    output = {"pair": [torch.tensor(2.0), torch.tensor(3.0)]}

    assert Sums(output_transform=("pair", 1))._transformed(output) == 3.0
    assert Sums(output_transform="pair")._transformed(output) == output["pair"]
    for wrong in (1.5, (), ("pair", None), True):
        with pytest.raises(TypeError, match="Sums: output_transform must be callable, a key, an index, or a tuple"):
            Sums(output_transform=wrong)  # type: ignore[arg-type]


# -------------------------------------------------------------------------------------------------- without a reset


class Template(Metric):
    """Its subclasses are complete."""

    def update(self, output: Any) -> None:
        self._add(output)

    @abstractmethod
    def _add(self, output: Any) -> None: ...

    def compute(self) -> Any:
        return self.n


def test_a_metric_that_would_never_be_reset_is_refused_when_its_class_is_made() -> None:
    with pytest.raises(TypeError, match=r"Count: a metric must declare its states, .* or define reset\(\)"):

        class Count(Template):
            n = 0

            def _add(self, output: Any) -> None:
                self.n += 1

    with pytest.raises(TypeError, match=r"Ported: a metric must declare"):

        class Ported(Template):
            def _add(self, output: Any) -> None:
                self.n += 1

            @sync_all_reduce("n")
            def compute(self) -> Any:
                return self.n


def test_a_metric_with_a_state_or_a_reset_of_its_own_is_none_of_these() -> None:
    class Resets:
        def reset(self) -> None:
            self.n = 0

    class Declared(Template):
        n = total()

        def _add(self, output: Any) -> None:
            self.n += output

    class Ported(Resets, Template):
        def _add(self, output: Any) -> None:
            self.n += output

        @sync_all_reduce("n")
        def compute(self) -> Any:
            return self.n

    for metric in (Declared(), Ported()):
        metric.update(1)
        metric.reset()
        metric.update(2)

        assert metric.compute() == 2
