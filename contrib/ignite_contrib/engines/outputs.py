"""Numbers by name out of what a step returns."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch

from ignite_core.exceptions import few

__all__ = ["named_outputs", "picker"]


def picker(where: str, index: int, name: str) -> Callable[[Any], Any]:
    """A function that takes one value out of an output: by its name, or of a sequence by its place.

    Args:
        where: For messages.
        index: Its place in a sequence.
        name: Its key in a mapping.

    Example:
        >>> second = picker("here", 1, "loss")
        >>> second({"loss": 0.5}), second((3, 0.25)), second(0.125)
        (0.5, 0.25, 0.125)
    """
    return partial(_pick, where, index, name)


def named_outputs(where: str, names: Sequence[str]) -> Callable[[Any], dict[str, Any]]:
    """A function that makes a mapping of an output.

    Example:
        >>> named_outputs("here", ["d", "g"])([0.5, 0.25])
        {'d': 0.5, 'g': 0.25}
    """
    pickers = {name: picker(where, index, name) for index, name in enumerate(names)}
    return lambda output: {name: pick(output) for name, pick in pickers.items()}


def _pick(where: str, index: int, name: str, output: Any) -> Any:
    if isinstance(output, Mapping) and name in output:
        return output[name]
    if isinstance(output, Sequence) and not isinstance(output, str | bytes) and index < len(output):
        return output[index]
    if isinstance(output, numbers.Number | torch.Tensor):
        return output
    shown = f"a mapping of {few(output)}" if isinstance(output, Mapping) else f"{output!r:.80}"
    raise TypeError(
        f"{where}: the step must return {name!r}, in a mapping, in place {index} of a sequence, or as a single number; "
        f"got {shown}"
    )
