"""The computation model of this process, which is replaced when torch's default process group changes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from typing import Any

import torch.distributed as dist

from ignite_core.distributed.models.base import ComputationModel
from ignite_core.distributed.models.native import TorchModel
from ignite_core.distributed.models.serial import SerialModel
from ignite_core.distributed.models.xla import XlaModel

__all__ = ["REGISTERED", "acts_alone", "available_backends", "current_model", "find_model", "run_alone", "use_model"]

#: All models but the serial one, in the order in which a running framework is searched for.
REGISTERED: tuple[type[ComputationModel], ...] = (TorchModel, XlaModel)

#: Whether the package ``torch_xla`` is installed.
has_xla_support: bool = False
with suppress(ImportError):  # raised by import hooks that hide packages
    has_xla_support = find_spec("torch_xla") is not None

_GroupMember: Any = dist.GroupMember

_model: ComputationModel = SerialModel()
_world: Any = None  # torch's default process group when the model was found


def current_model() -> ComputationModel:
    """The computation model of this process."""
    if _GroupMember.WORLD is not _world:
        find_model()
    return _model


def use_model(model: ComputationModel) -> None:
    """Make a model the current one."""
    global _model, _world
    _model, _world = model, _GroupMember.WORLD


def find_model() -> None:
    """Use the model of the framework that is running in this process, else the serial one."""
    found = (model for cls in REGISTERED if (model := cls.from_context()) is not None)
    use_model(next(found, None) or SerialModel())


@contextmanager
def run_alone() -> Iterator[None]:
    """Act as a serial run inside the block, for a handler that is attached on this rank only."""
    global _model
    model, serial = current_model(), SerialModel()
    _model = serial
    try:
        yield
    finally:
        if _model is serial:  # else the process group was destroyed inside the block
            _model = model


def acts_alone() -> bool:
    """Whether this runs inside :func:`run_alone` although there are other ranks."""
    return current_model().name == SerialModel.name and _world is not None


def available_backends() -> tuple[str, ...]:
    """The backends that :func:`initialize` accepts: those built into torch, and those of installed packages."""
    models = [cls for cls in REGISTERED if cls.name != "xla-dist" or has_xla_support]
    return tuple(name for cls in models for name in cls.available_backends)
