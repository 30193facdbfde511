"""What is to be sent to a back-end, and how it stands in a file until then."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from ignite_core.handlers import numbers_of

__all__ = ["Kind", "Record", "as_line", "of_line"]

Kind: TypeAlias = Literal["scalars", "texts", "images", "histograms", "params", "status"]


@dataclass(frozen=True)
class Record:
    """Values that were logged together.

    Attributes:
        kind: What they are; images and histograms are tensors, ``"status"`` is how a run has ended.
        step: At which they were logged.
        time: When, in seconds since 1970.
        values: By name.
        run: To what of the back-end they belong; empty for the run of the logger that sends them.
    """

    kind: Kind
    step: int
    time: float
    values: Mapping[tuple[str, ...], Any]
    run: str = ""

    def read(self) -> Record:
        """The same with everything on the CPU; scalars as numbers. It waits for the device."""
        if self.kind == "scalars":
            return replace(self, values=numbers_of(self.values))
        values = {key: value.cpu() if isinstance(value, Tensor) else value for key, value in self.values.items()}
        return replace(self, values=values)


def as_line(record: Record) -> str:
    """A record as a line of JSON.

    Example:
        >>> print(as_line(Record("scalars", 3, 0.5, {("training", "loss"): 0.25})))
        {"kind": "scalars", "step": 3, "time": 0.5, "values": [[["training", "loss"], 0.25]]}
    """
    values = [[list(key), _encoded(value)] for key, value in record.values.items()]
    content = {"kind": record.kind, "step": record.step, "time": record.time, "values": values}
    return json.dumps({**content, "run": record.run} if record.run else content)


def of_line(line: str) -> Record:
    """The record that :func:`as_line` wrote.

    Raises:
        ValueError: If it is none.
    """
    try:
        content = json.loads(line)
        values = {tuple(key): _decoded(value) for key, value in content["values"]}
        return Record(content["kind"], content["step"], content["time"], values, content.get("run", ""))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"a line must be a record of what was logged, got {line[:100]!r}") from error


def _encoded(value: Any) -> Any:
    if not isinstance(value, Tensor):
        return value
    data = bytes(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).tolist())
    dtype = str(value.dtype).removeprefix("torch.")
    return {"dtype": dtype, "shape": list(value.shape), "data": base64.b64encode(data).decode()}


def _decoded(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    data = bytearray(base64.b64decode(value["data"]))
    if not data:
        return torch.empty(value["shape"], dtype=getattr(torch, value["dtype"]))
    return torch.frombuffer(data, dtype=getattr(torch, value["dtype"])).reshape(value["shape"])
