"""Convert the output of a step to what ``update`` takes, and the result of ``compute`` to what is stored."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import reduce
from numbers import Number
from typing import Any, Literal

import torch

from ignite_core.exceptions import few

OutputTransform = Callable[[Any], Any] | str | int | tuple[str | int, ...]
ResultMode = Literal["flatten", "named", "both"]


def unchanged(output: Any) -> Any:
    """The default ``output_transform``."""
    return output


def as_transform(transform: object, who: str) -> Callable[[Any], Any]:
    """An ``output_transform`` as a function; it may be a key or a path of keys."""
    if callable(transform):
        return transform
    path = transform if isinstance(transform, tuple) else (transform,)
    if not path or not all(isinstance(key, str | int) and not isinstance(key, bool) for key in path):
        raise TypeError(
            f"{who}: output_transform must be callable, a key, an index, or a tuple of these, got {transform!r}"
        )
    return _Path(path)


class _Path:
    """Follows keys into an output. A class, so that it can be pickled."""

    def __init__(self, keys: tuple[str | int, ...]) -> None:
        self.keys = keys

    def __call__(self, output: Any) -> Any:
        return reduce(lambda value, key: value[key], self.keys, output)


class Chain:
    """Two transforms, one after the other."""

    def __init__(self, first: Callable[[Any], Any], second: Callable[[Any], Any]) -> None:
        self.first = first
        self.second = second

    def __call__(self, output: Any) -> Any:
        return self.second(self.first(output))


def is_tuple_of_tensors(output: object) -> bool:
    """Whether an output is a tuple that begins with a tensor, the usual case, which needs no conversion."""
    return type(output) is tuple and len(output) > 0 and isinstance(output[0], torch.Tensor)


def update_args(who: str, output: Any, keys: tuple[str, ...] | None, skip_unrolling: bool) -> list[Any]:
    """The arguments of ``update`` for one output: a mapping becomes a tuple, a pair of lists one batch per pair."""
    if is_tuple_of_tensors(output):
        return [output]
    if isinstance(output, Mapping):
        if keys is None:
            raise TypeError(f"{who}: the output must not be a mapping, got the keys {few(output)}")
        if any(key not in output for key in keys):
            raise ValueError(f"{who}: the output must have the keys {list(keys)}, got {few(output)}")
        output = tuple(output[key] for key in keys)
    return [output] if skip_unrolling else _unroll(output)


def _unroll(output: Any) -> list[Any]:
    """The batches of an output: a pair of lists holds a sample per pair, anything else is one batch."""
    is_pair_of_lists = (
        isinstance(output, tuple | list)
        and len(output) == 2
        and all(isinstance(one, tuple | list) for one in output)
        and all(isinstance(item, torch.Tensor | Number) for one in output for item in one)
    )
    return [_as_batch(*pair) for pair in zip(*output, strict=True)] if is_pair_of_lists else [output]


def _as_batch(y_pred: Any, y: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """A sample as a batch of size one. A number is put on the device of the prediction."""
    prediction = torch.as_tensor(y_pred)
    target = y if isinstance(y, torch.Tensor) else torch.as_tensor(y, device=prediction.device)
    return prediction.unsqueeze(0), target.unsqueeze(0)


def result_entries(who: str, name: str, value: Any, mode: ResultMode) -> dict[str, Any]:
    """The entries of ``engine.state.metrics`` for the value of a metric, which may be a mapping."""
    if not isinstance(value, Mapping):
        return {name: value}
    if mode != "flatten" and name in value:
        raise ValueError(f"{who}: the name {name!r} is also one of its values, {few(value)}")
    entries = {} if mode == "named" else dict(value)
    return entries if mode == "flatten" else {**entries, name: value}


def as_number(value: Any) -> Any:
    """A scalar tensor as a Python number, another tensor on the CPU, anything else unchanged."""
    if not isinstance(value, torch.Tensor):
        return value
    return value.item() if value.ndim == 0 else value.detach().cpu()


def as_number_on_cpu(value: Any) -> Any:
    """Like :func:`as_number`, except that a tensor on an accelerator stays there."""
    if isinstance(value, torch.Tensor) and not value.is_cpu:
        return value.detach()
    return as_number(value)
