"""Computation models: one for each framework that lets processes exchange tensors."""

import torch.distributed as dist

from ignite_core.distributed.models.base import ComputationModel
from ignite_core.distributed.models.serial import SerialModel
from ignite_core.distributed.models.xla import XlaModel

__all__ = ["REGISTERED", "ComputationModel", "SerialModel", "XlaModel"]

#: All but the serial one, in the order in which a framework that is running already is looked for.
REGISTERED: tuple[type[ComputationModel], ...] = (XlaModel,)

if dist.is_available():
    from ignite_core.distributed.models.native import TorchModel

    REGISTERED = (TorchModel, *REGISTERED)
