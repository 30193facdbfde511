"""The module of pytorch-ignite for schedulers of optimizer parameters."""

from ignite_core.handlers.schedules.base import BaseParamScheduler
from ignite_core.handlers.schedules.batch_size import BatchSizeScheduler
from ignite_core.handlers.schedules.concat import ConcatScheduler, create_lr_scheduler_with_warmup
from ignite_core.handlers.schedules.cyclical import CosineAnnealingScheduler, CyclicalScheduler, LinearCyclicalScheduler
from ignite_core.handlers.schedules.group import ParamGroupScheduler
from ignite_core.handlers.schedules.param_scheduler import ParamScheduler, PiecewiseLinear
from ignite_core.handlers.schedules.plateau import ReduceLROnPlateauScheduler
from ignite_core.handlers.schedules.torch_scheduler import LRScheduler

__all__ = [
    "BaseParamScheduler",
    "BatchSizeScheduler",
    "ConcatScheduler",
    "CosineAnnealingScheduler",
    "CyclicalScheduler",
    "LRScheduler",
    "LinearCyclicalScheduler",
    "ParamGroupScheduler",
    "ParamScheduler",
    "PiecewiseLinear",
    "ReduceLROnPlateauScheduler",
    "create_lr_scheduler_with_warmup",
]
