"""Select values by name from the output of a step."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch

from ignite_core.exceptions import few

__all__ = ["named_outputs", "picker"]


def picker(where: str, index: int, name: str) -> Callable[[Any], Any]:
    """A function that selects a value of an output: ``name`` of a mapping, ``index`` of a sequence, or a single one.

    Example:
        >>> second = picker("caller", 1, "loss")
        >>> second({"loss": 0.5}), second((3, 0.25)), second(0.125)
        (0.5, 0.25, 0.125)
    """
    return partial(_pick, where, index, name)


def named_outputs(where: str, names: Sequence[str]) -> Callable[[Any], dict[str, Any]]:
    """A function that converts an output to a mapping."""
    return lambda output: {name: _pick(where, index, name, output) for index, name in enumerate(names)}


def _pick(where: str, index: int, name: str, output: Any) -> Any:
    if isinstance(output, Mapping) and name in output:
        return output[name]
    if isinstance(output, Sequence) and not isinstance(output, str | bytes) and index < len(output):
        return output[index]
    if isinstance(output, numbers.Number | torch.Tensor):
        return output
    shown = f"a mapping of {few(output)}" if isinstance(output, Mapping) else f"{output!r:.80}"
    raise TypeError(
        f"{where}: the step must return {name!r}, in a mapping, at index {index} of a sequence, or as a single number; "
        f"got {shown}"
    )
