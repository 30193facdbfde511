"""What is sent to a back-end, and its form in a file until then."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

from torch import Tensor

from ignite_core.handlers import kept, numbers_of

__all__ = ["Kind", "Record", "as_line", "of_line", "plain", "text_of"]

Kind: TypeAlias = Literal["scalars", "texts", "images", "histograms", "params", "status"]


@dataclass(frozen=True)
class Record:
    """Values that were logged together.

    Attributes:
        kind: What they are; images and histograms are numpy arrays, ``"status"`` is how a run has ended.
        step: At which they were logged.
        time: When, in seconds since 1970.
        values: By name.
        run: To what of the back-end they belong; empty for the run of the logger that sends them.
        reason: Why the last attempt to send it failed; empty if there was none.
        is_refused: The back-end takes such records, but not this one.
    """

    kind: Kind
    step: int
    time: float
    values: Mapping[tuple[str, ...], Any]
    run: str = ""
    reason: str = ""
    is_refused: bool = False

    def read(self) -> Record:
        """The same as Python numbers, text in valid Unicode and numpy arrays. It waits for the device."""
        values: Mapping[tuple[str, ...], Any] = self.values
        try:
            if any(isinstance(value, Tensor) for value in values.values()):
                values = (
                    _numbers(values) if self.kind == "scalars" else {key: plain(one) for key, one in values.items()}
                )
            if not all(_is_plain(key, value) for key, value in values.items()):
                values = {tuple(_valid(text_of(part)) for part in key): _valid(value) for key, value in values.items()}
        except Exception as error:  # a key that is not a tuple, say
            values = {("unreadable",): f"{text_of(self.values)} ({type(error).__name__})"}
        return self if values is self.values else replace(self, values=values)


def _numbers(values: Mapping[tuple[str, ...], Any]) -> Mapping[tuple[str, ...], Any]:
    try:
        return numbers_of(values)
    except Exception:  # of one of them, or of the device
        return {key: _read(value) for key, value in values.items()}


def _is_plain(key: tuple[str, ...], value: Any) -> bool:
    return all(isinstance(part, str) and part.isascii() for part in key) and (
        not isinstance(value, str) or value.isascii()
    )


def _valid(value: Any) -> Any:
    r"""Half of a surrogate pair, as in a file name that is not UTF-8, becomes ``\udcff``."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


def _read(value: Any) -> Any:
    try:
        return value.item() if isinstance(value, Tensor) else value
    except Exception as error:
        return f"{type(value).__name__} that cannot be read ({type(error).__name__})"


def plain(value: Any) -> Any:
    """A value that a thread, a back-end and a file can take: a number, text, or a numpy array for a tensor.

    Example:
        >>> from fractions import Fraction
        >>> plain(Fraction(1, 4)), plain(10**400), plain(1j), plain({1})
        (0.25, inf, '1j', '{1}')
    """
    try:
        if isinstance(value, Tensor):
            dense = value.detach().resolve_conj().resolve_neg().to_dense().cpu()
            small = dense.is_floating_point() and dense.itemsize < 4  # numpy does not have all of these
            return (dense.float() if small else dense).numpy().copy()
        number = kept(value)
        if number is not None or value is None:
            return number
        if hasattr(value, "tobytes") and value.dtype.kind in "biufc" and value.ndim:
            return value.copy()
    except Exception as error:
        return f"{text_of(value)} ({type(error).__name__})"
    return text_of(value)


def text_of(value: Any) -> str:
    """``str(value)``, also where that raises."""
    try:
        return str(value)
    except Exception as error:
        return f"<{type(value).__name__}, whose text raises {type(error).__name__}>"


def as_line(record: Record) -> str:
    """A record as a line of JSON, whatever its values are.

    Example:
        >>> print(as_line(Record("scalars", 3, 0.5, {("training", "loss"): 0.25})))
        {"kind": "scalars", "step": 3, "time": 0.5, "values": [[["training", "loss"], 0.25]]}
    """
    values = [[list(key), _encoded(value)] for key, value in record.values.items()]
    content = {"kind": record.kind, "step": record.step, "time": record.time, "values": values}
    more = {"run": record.run, "reason": record.reason, "is_refused": record.is_refused}
    return json.dumps({**content, **{name: value for name, value in more.items() if value}})


def of_line(line: str) -> Record:
    """The record that :func:`as_line` wrote.

    Raises:
        ValueError: If the line is not a record.
    """
    try:
        content = json.loads(line)
        values = {tuple(key): _decoded(value) for key, value in content.pop("values")}
        return Record(values=values, **content)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"a line must be a record of what was logged, got {line[:100]!r}") from error


def _encoded(value: Any) -> Any:
    value = plain(value)
    if not hasattr(value, "tobytes"):
        return value
    return {"dtype": str(value.dtype), "shape": list(value.shape), "data": base64.b64encode(value.tobytes()).decode()}


def _decoded(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    import numpy as np

    return np.frombuffer(bytearray(base64.b64decode(value["data"])), value["dtype"]).reshape(value["shape"])
