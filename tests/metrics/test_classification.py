"""Accuracy: values worked out by hand, and what it refuses."""

from __future__ import annotations

import re

import pytest
import torch

from ignite_core.metrics import Accuracy


def test_ties_go_to_the_first_class() -> None:
    metric = Accuracy()
    metric.update((torch.zeros(3, 2), torch.tensor([0, 0, 1])))

    assert metric.compute() == 2 / 3


def test_a_multilabel_sample_is_right_if_all_its_labels_are() -> None:
    metric = Accuracy(is_multilabel=True)
    metric.update((torch.tensor([[1, 0, 1], [1, 1, 1]]), torch.tensor([[1, 0, 1], [1, 1, 0]])))

    assert metric.compute() == 0.5


def test_a_multilabel_pixel_counts_as_a_sample() -> None:
    y = torch.zeros(2, 3, 4, dtype=torch.long)
    y_pred = y.clone()
    y_pred[0, 1, 2] = 1
    metric = Accuracy(is_multilabel=True)
    metric.update((y_pred, y))

    assert metric.compute() == 7 / 8


def test_counts_are_exact_beyond_the_reach_of_float32() -> None:
    metric = Accuracy()
    metric.update((torch.eye(2), torch.tensor([0, 0])))
    metric.num_correct += 2**24
    metric.num_samples += 2**24
    metric.update((torch.eye(2), torch.tensor([0, 1])))

    assert metric.num_correct == 2**24 + 3


@pytest.mark.parametrize("values", [torch.tensor([0.4, 1.0]), torch.tensor([2, 1])], ids=["probability", "class 2"])
def test_binary_values_other_than_0_and_1_are_told_by_compute(values: torch.Tensor) -> None:
    metric = Accuracy()
    metric.update((values, torch.tensor([1, 1])))

    with pytest.raises(ValueError, match=r"must be 0 or 1, got 1 others"):
        metric.compute()


@pytest.mark.parametrize(
    ("is_multilabel", "shape", "shape_y"),
    [
        (False, (4, 3), (5,)),
        (False, (4, 3), (4, 3, 2)),
        (False, (4, 3, 2), (4, 3)),
        (False, (4,), (4, 1)),
        (True, (4,), (4,)),
        (True, (4, 1), (4, 1)),
        (True, (4, 3), (4,)),
    ],
)
def test_shapes_that_do_not_fit_are_refused(
    is_multilabel: bool, shape: tuple[int, ...], shape_y: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match=re.escape(f"got {shape} and {shape_y}")):
        Accuracy(is_multilabel=is_multilabel).update((torch.zeros(shape), torch.zeros(shape_y, dtype=torch.long)))


def test_the_number_of_classes_may_not_change_before_a_reset() -> None:
    metric = Accuracy()
    metric.update((torch.zeros(2, 3), torch.tensor([0, 1])))

    with pytest.raises(ValueError, match="has changed from 3 to 4"):
        metric.update((torch.zeros(2, 4), torch.tensor([0, 1])))
    metric.reset()
    metric.update((torch.zeros(2, 4), torch.tensor([0, 1])))
    assert metric.compute() == 0.5


@pytest.mark.gpu
def test_the_state_lives_on_the_device_of_the_data() -> None:
    metric = Accuracy()
    metric.load_state_dict({name: torch.tensor(3) * (name != "num_invalid") for name in metric.state_dict()})
    batch = torch.eye(2, device="cuda"), torch.zeros(2, dtype=torch.long, device="cuda")
    torch.cuda.set_sync_debug_mode("error")
    try:
        metric.update(batch)
    finally:
        torch.cuda.set_sync_debug_mode("default")

    assert metric.num_correct.device.type == "cuda"
    assert metric.compute() == 4 / 5
