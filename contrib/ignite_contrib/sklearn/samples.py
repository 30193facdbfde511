"""What scikit-learn is given, as tensors; and batches of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from ignite_contrib.sklearn.library import np, validate_data

__all__ = ["Batches", "Inputs", "as_array", "as_inputs", "as_weights", "count_of", "features_of"]

Inputs = Tensor | dict[str, Tensor]


def as_inputs(estimator: Any, X: Any, *, reset: bool) -> Inputs:
    """What the module is called with.

    Args:
        estimator: Takes note of the number and the names of the features, or compares them.
        X: An array or a table, which become float, a tensor, or a mapping of these by the names of the arguments of the
            module. In tensors and mappings whole numbers stay whole, for embeddings.
        reset: Take note; else compare.

    Raises:
        ValueError: If it is empty, not finite, or the features are not those noted.
    """
    if isinstance(X, Mapping) and not hasattr(X, "shape"):  # some sparse matrices are mappings too
        return {str(name): _as_tensor(value) for name, value in X.items()}
    if isinstance(X, Tensor):
        return _as_tensor(validate_data(estimator, X, reset=reset, skip_check_array=True))
    default = torch.empty(0).numpy().dtype
    return torch.tensor(validate_data(estimator, X, reset=reset, dtype=default, allow_nd=True))


def _as_tensor(value: Any) -> Tensor:
    tensor = value.detach() if isinstance(value, Tensor) else torch.tensor(np.asarray(value))
    return tensor.to(torch.get_default_dtype()) if tensor.is_floating_point() else tensor


def as_array(y: Any) -> Any:
    """Targets as scikit-learn checks them: a tensor as an array, anything else as it is."""
    return y.detach().cpu().numpy() if isinstance(y, Tensor) else y


def as_weights(sample_weight: Any) -> Tensor:
    """Weights whose mean is 1.

    Raises:
        ValueError: If they are not one finite number from 0 on for each sample, or all 0.
    """
    weights = torch.tensor(np.asarray(as_array(sample_weight), dtype=np.float64))
    if weights.ndim != 1 or not weights.isfinite().all() or (weights < 0).any() or not weights.any():
        raise ValueError(
            "sample_weight must be one-dimensional, a finite number from 0 on for each sample, and not all 0 (zero), "
            f"got the shape {tuple(weights.shape)}, from {weights.min()} to {weights.max()}"
        )
    return (weights / weights.mean()).to(torch.get_default_dtype())


def count_of(x: Inputs) -> int:
    """How many samples there are.

    Raises:
        ValueError: If there is nothing, or the entries of a mapping do not have as many.
    """
    counts = {name: len(tensor) for name, tensor in x.items()} if isinstance(x, dict) else {"X": len(x)}
    if len(set(counts.values())) != 1:
        raise ValueError(f"X: all entries must have as many samples, got {counts}")
    return next(iter(counts.values()))


def features_of(x: Inputs) -> int | None:
    """The size of the second dimension, if there is one."""
    return x.shape[1] if isinstance(x, Tensor) and x.ndim > 1 else None


def _taken(samples: Any, chosen: Tensor) -> Any:
    """Some of the samples, in tensors, tuples and mappings of them."""
    if isinstance(samples, Tensor):
        return samples[chosen]
    if isinstance(samples, dict):
        return {name: _taken(one, chosen) for name, one in samples.items()}
    return tuple(_taken(one, chosen) for one in samples)


class Batches:
    """Some of the samples, in batches.

    Args:
        samples: A tensor, or a structure of tensors.
        chosen: Which of them, by number.
        size: Of a batch; the last one may be smaller.
        seed: Shuffle them in each pass, in orders that follow from it; None keeps the order.

    Example:
        >>> [batch.tolist() for batch in Batches(torch.arange(10, 20), torch.tensor([0, 3, 5]), size=2)]
        [[10, 13], [15]]
    """

    def __init__(self, samples: Any, chosen: Tensor, size: int, seed: int | None = None) -> None:
        self._samples = samples
        self._chosen = chosen
        self._size = size
        self._generator = None if seed is None else torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return math.ceil(len(self._chosen) / self._size)

    def __iter__(self) -> Iterator[Any]:
        chosen = self._chosen
        if self._generator is not None:
            chosen = chosen[torch.randperm(len(chosen), generator=self._generator)]
        for numbers in torch.split(chosen, self._size):
            yield _taken(self._samples, numbers)
