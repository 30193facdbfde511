"""Handlers: what is attached to an engine's events to save, resume, schedule and stop a run."""

from typing import TYPE_CHECKING

from ignite_core._lazy import lazily

if TYPE_CHECKING:
    from ignite_core.handlers.checkpoint.async_saver import AsyncDiskSaver
    from ignite_core.handlers.checkpoint.checkpoint import Checkpoint, CheckpointEvents, ModelCheckpoint
    from ignite_core.handlers.checkpoint.dcp import DCPSaver
    from ignite_core.handlers.checkpoint.resume import Resumed, resume
    from ignite_core.handlers.checkpoint.savers import BaseSaveHandler, DiskSaver
    from ignite_core.handlers.clock import global_step_from_engine
    from ignite_core.handlers.early_stopping import EarlyStopping
    from ignite_core.handlers.loggers import BaseLogger, Writer
    from ignite_core.handlers.logging import (
        FigureHandler,
        GradsHistHandler,
        GradsScalarHandler,
        ImageHandler,
        LogHandler,
        OptimizerParamsHandler,
        OutputHandler,
        TextHandler,
        WeightsHistHandler,
        WeightsScalarHandler,
    )
    from ignite_core.handlers.scalars import numbers_of
    from ignite_core.handlers.schedules.base import BaseParamScheduler
    from ignite_core.handlers.schedules.batch_size import BatchSizeScheduler
    from ignite_core.handlers.schedules.concat import ConcatScheduler
    from ignite_core.handlers.schedules.cyclical import (
        CosineAnnealingScheduler,
        CyclicalScheduler,
        LinearCyclicalScheduler,
    )
    from ignite_core.handlers.schedules.group import ParamGroupScheduler
    from ignite_core.handlers.schedules.one_cycle import OneCycle, spread
    from ignite_core.handlers.schedules.param_scheduler import ParamScheduler, PiecewiseLinear
    from ignite_core.handlers.schedules.plateau import ReduceLROnPlateauScheduler
    from ignite_core.handlers.schedules.state_scheduler import (
        ExpStateScheduler,
        LambdaStateScheduler,
        MultiStepStateScheduler,
        PiecewiseLinearStateScheduler,
        StateParamScheduler,
        StepStateScheduler,
    )
    from ignite_core.handlers.schedules.torch_scheduler import LRScheduler
    from ignite_core.handlers.schedules.warm_up import create_lr_scheduler_with_warmup
    from ignite_core.handlers.stop_on_signal import StopOnSignal
    from ignite_core.handlers.terminate_on_nan import TerminateOnNan
    from ignite_core.handlers.time_limit import TimeLimit
    from ignite_core.handlers.vote import Vote, find_vote, vote_of

__all__ = [
    "AsyncDiskSaver",
    "BaseLogger",
    "BaseParamScheduler",
    "BaseSaveHandler",
    "BatchSizeScheduler",
    "Checkpoint",
    "CheckpointEvents",
    "ConcatScheduler",
    "CosineAnnealingScheduler",
    "CyclicalScheduler",
    "DCPSaver",
    "DiskSaver",
    "EarlyStopping",
    "ExpStateScheduler",
    "FigureHandler",
    "GradsHistHandler",
    "GradsScalarHandler",
    "ImageHandler",
    "LRScheduler",
    "LambdaStateScheduler",
    "LinearCyclicalScheduler",
    "LogHandler",
    "ModelCheckpoint",
    "MultiStepStateScheduler",
    "OneCycle",
    "OptimizerParamsHandler",
    "OutputHandler",
    "ParamGroupScheduler",
    "ParamScheduler",
    "PiecewiseLinear",
    "PiecewiseLinearStateScheduler",
    "ReduceLROnPlateauScheduler",
    "Resumed",
    "StateParamScheduler",
    "StepStateScheduler",
    "StopOnSignal",
    "TerminateOnNan",
    "TextHandler",
    "TimeLimit",
    "Vote",
    "WeightsHistHandler",
    "WeightsScalarHandler",
    "Writer",
    "create_lr_scheduler_with_warmup",
    "find_vote",
    "global_step_from_engine",
    "numbers_of",
    "resume",
    "spread",
    "vote_of",
]

_HOMES = {
    "AsyncDiskSaver": "checkpoint.async_saver",
    "Checkpoint": "checkpoint.checkpoint",
    "CheckpointEvents": "checkpoint.checkpoint",
    "ModelCheckpoint": "checkpoint.checkpoint",
    "DCPSaver": "checkpoint.dcp",
    "Resumed": "checkpoint.resume",
    "resume": "checkpoint.resume",
    "BaseSaveHandler": "checkpoint.savers",
    "DiskSaver": "checkpoint.savers",
    "global_step_from_engine": "clock",
    "EarlyStopping": "early_stopping",
    "BaseLogger": "loggers",
    "Writer": "loggers",
    "FigureHandler": "logging",
    "GradsHistHandler": "logging",
    "GradsScalarHandler": "logging",
    "ImageHandler": "logging",
    "LogHandler": "logging",
    "OptimizerParamsHandler": "logging",
    "OutputHandler": "logging",
    "TextHandler": "logging",
    "WeightsHistHandler": "logging",
    "WeightsScalarHandler": "logging",
    "numbers_of": "scalars",
    "BaseParamScheduler": "schedules.base",
    "BatchSizeScheduler": "schedules.batch_size",
    "ConcatScheduler": "schedules.concat",
    "CosineAnnealingScheduler": "schedules.cyclical",
    "CyclicalScheduler": "schedules.cyclical",
    "LinearCyclicalScheduler": "schedules.cyclical",
    "ParamGroupScheduler": "schedules.group",
    "OneCycle": "schedules.one_cycle",
    "spread": "schedules.one_cycle",
    "ParamScheduler": "schedules.param_scheduler",
    "PiecewiseLinear": "schedules.param_scheduler",
    "ReduceLROnPlateauScheduler": "schedules.plateau",
    "ExpStateScheduler": "schedules.state_scheduler",
    "LambdaStateScheduler": "schedules.state_scheduler",
    "MultiStepStateScheduler": "schedules.state_scheduler",
    "PiecewiseLinearStateScheduler": "schedules.state_scheduler",
    "StateParamScheduler": "schedules.state_scheduler",
    "StepStateScheduler": "schedules.state_scheduler",
    "LRScheduler": "schedules.torch_scheduler",
    "create_lr_scheduler_with_warmup": "schedules.warm_up",
    "StopOnSignal": "stop_on_signal",
    "TerminateOnNan": "terminate_on_nan",
    "TimeLimit": "time_limit",
    "Vote": "vote",
    "find_vote": "vote",
    "vote_of": "vote",
}

__getattr__, __dir__ = lazily(__name__, _HOMES)
