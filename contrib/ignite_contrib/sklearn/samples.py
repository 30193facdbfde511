"""Convert data for scikit-learn to tensors, and split them into batches."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import validate_data
from torch import Tensor

__all__ = ["Batches", "Inputs", "as_array", "as_inputs", "as_weights", "count_of"]

Inputs = Tensor | dict[str, Tensor]


def as_inputs(estimator: Any, X: Any, *, reset: bool) -> Inputs:
    """Convert samples to what the module is called with.

    Args:
        estimator: Stores the number and names of the features.
        X: An array or a table, converted to float; a tensor; or a mapping of these by the names of the arguments of
            the module. Integers in tensors and mappings stay integers, for embeddings.
        reset: Store number and names of the features; if False, compare them.

    Raises:
        ValueError: If ``X`` is empty or not finite, or the features differ from those stored.
    """
    if isinstance(X, Mapping) and not hasattr(X, "shape"):  # some sparse matrices are mappings
        return {str(name): _as_tensor(value) for name, value in X.items()}
    if isinstance(X, Tensor):
        return _as_tensor(validate_data(estimator, X, reset=reset, skip_check_array=True))
    default = torch.empty(0).numpy().dtype
    return torch.tensor(validate_data(estimator, X, reset=reset, dtype=default, allow_nd=True))


def _as_tensor(value: Any) -> Tensor:
    tensor = value.detach() if isinstance(value, Tensor) else torch.tensor(np.asarray(value))
    return tensor.to(torch.get_default_dtype()) if tensor.is_floating_point() else tensor


def as_array(y: Any) -> Any:
    """Convert a tensor to an array; anything else is returned unchanged, for scikit-learn to check."""
    return y.detach().cpu().numpy() if isinstance(y, Tensor) else y


def as_weights(sample_weight: Any) -> Tensor:
    """Convert sample weights to a tensor of mean 1; ValueError if one is negative or not finite, or all are 0."""
    weights = torch.tensor(np.asarray(as_array(sample_weight), dtype=np.float64))
    if weights.ndim != 1 or not weights.isfinite().all() or (weights < 0).any() or not weights.any():
        raise ValueError(
            "sample_weight must be one-dimensional, a finite number from 0 on for each sample, and not all 0 (zero), "
            f"got the shape {tuple(weights.shape)}, from {weights.min()} to {weights.max()}"
        )
    return (weights / weights.mean()).to(torch.get_default_dtype())


def count_of(x: Inputs) -> int:
    """Number of samples; ValueError if the entries of a mapping differ in it, or there are none."""
    counts = {name: len(tensor) for name, tensor in x.items()} if isinstance(x, dict) else {"X": len(x)}
    if len(set(counts.values())) != 1:
        raise ValueError(f"X: all entries must have as many samples, got {counts}")
    return next(iter(counts.values()))


def _select(samples: Any, indices: Tensor) -> Any:
    """Select samples in tensors, and in tuples and mappings of them."""
    if isinstance(samples, Tensor):
        return samples[indices]
    if isinstance(samples, dict):
        return {name: _select(one, indices) for name, one in samples.items()}
    return tuple(_select(one, indices) for one in samples)


class Batches:
    """Selected samples, in batches.

    Args:
        samples: A tensor, or a structure of tensors.
        indices: Indices of the samples to use.
        size: Batch size; the last batch may be smaller.
        seed: Seed for shuffling them in each pass; None keeps the order.

    Example:
        >>> [batch.tolist() for batch in Batches(torch.arange(10, 20), torch.tensor([0, 3, 5]), size=2)]
        [[10, 13], [15]]
    """

    def __init__(self, samples: Any, indices: Tensor, size: int, seed: int | None = None) -> None:
        self._samples = samples
        self._indices = indices
        self._size = size
        self._generator = None if seed is None else torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return math.ceil(len(self._indices) / self._size)

    def __iter__(self) -> Iterator[Any]:
        indices = self._indices
        if self._generator is not None:
            indices = indices[torch.randperm(len(indices), generator=self._generator)]
        for batch in torch.split(indices, self._size):
            yield _select(self._samples, batch)
