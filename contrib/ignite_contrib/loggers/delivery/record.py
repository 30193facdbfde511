"""A record: what one call logged, and its form as a line of JSON."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

from torch import Tensor

from ignite_core.handlers import kept, numbers_of

__all__ = ["Kind", "Record", "Values", "as_line", "of_line", "plain", "text_of"]

Kind: TypeAlias = Literal["scalars", "texts", "images", "histograms", "params", "status"]
Values: TypeAlias = Mapping[tuple[str, ...], Any]


@dataclass(frozen=True)
class Record:
    """Values that were logged together.

    Attributes:
        kind: The kind of values. Images and histograms are numpy arrays; ``"status"`` is the final status of a run.
        step: The step at which they were logged.
        time: Seconds since 1970.
        values: Values by name.
        run: Id of the run in the back-end; empty for the run of the logger that sends the record.
        reason: Why the last attempt to send it failed; empty if none did.
        is_refused: The back-end accepts other records of this kind, but not this one.
    """

    kind: Kind
    step: int
    time: float
    values: Values
    run: str = ""
    reason: str = ""
    is_refused: bool = False

    def read(self) -> Record:
        """Convert values to Python numbers, valid Unicode text and numpy arrays. Waits for the device."""
        try:
            values = self.values
            if any(isinstance(value, Tensor) for value in values.values()):
                values = _read_scalars(values) if self.kind == "scalars" else _map(plain, values)
            values = {tuple(_valid(text_of(part)) for part in key): _valid(value) for key, value in values.items()}
        except Exception as error:  # for example a key that is not a tuple
            values = {("unreadable",): f"{text_of(self.values)} ({type(error).__name__})"}
        return replace(self, values=values)


def _map(function: Any, values: Values) -> Values:
    return {key: function(value) for key, value in values.items()}


def _read_scalars(values: Values) -> Values:
    """Fetch all tensors at once; one by one if that fails, so that one bad tensor does not affect the others."""
    try:
        return numbers_of(values)
    except Exception:
        return _map(plain, values)


def _valid(value: Any) -> Any:
    r"""Replace lone surrogates, as in file names that are not UTF-8, by escapes such as ``\udcff``."""
    if not isinstance(value, str) or value.isascii():
        return value
    return value.encode("utf-8", "backslashreplace").decode()


def plain(value: Any) -> Any:
    """Convert a value to a number, text, None, or (a tensor) to a numpy array that shares no memory with it.

    Example:
        >>> from fractions import Fraction
        >>> plain(Fraction(1, 4)), plain(10**400), plain(1j), plain({1})
        (0.25, inf, '1j', '{1}')
    """
    try:
        if isinstance(value, Tensor):
            dense = value.detach().resolve_conj().resolve_neg().to_dense().cpu()
            small = dense.is_floating_point() and dense.itemsize < 4  # numpy lacks some of these dtypes
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
    """``str(value)``, or a placeholder if that raises."""
    try:
        return str(value)
    except Exception as error:
        return f"<{type(value).__name__}, whose text raises {type(error).__name__}>"


def as_line(record: Record) -> str:
    """A record as a line of JSON; values of any type are accepted."""
    values = [[list(key), _encoded(value)] for key, value in record.values.items()]
    content = {"kind": record.kind, "step": record.step, "time": record.time, "values": values}
    optional = {"run": record.run, "reason": record.reason, "is_refused": record.is_refused}
    return json.dumps({**content, **{name: value for name, value in optional.items() if value}})


def of_line(line: str) -> Record:
    """Parse a line written by :func:`as_line`; ValueError if it is not a record."""
    try:
        content = json.loads(line)
        values = {tuple(key): _decoded(value) for key, value in content.pop("values")}
        return Record(values=values, **content)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"a line must be a record, got {line[:100]!r}") from error


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
