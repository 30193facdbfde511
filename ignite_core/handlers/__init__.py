"""Handlers: what is attached to an engine's events to save, resume, schedule, log, stop and watch a run."""

from typing import TYPE_CHECKING

from ignite_core._lazy import lazily

if TYPE_CHECKING:
    from ignite_core.handlers.basic_time_profiler import BasicTimeProfiler
    from ignite_core.handlers.checkpoint.async_saver import AsyncDiskSaver
    from ignite_core.handlers.checkpoint.checkpoint import Checkpoint, CheckpointEvents, ModelCheckpoint
    from ignite_core.handlers.checkpoint.dcp import DCPSaver
    from ignite_core.handlers.checkpoint.resume import Resumed, resume
    from ignite_core.handlers.checkpoint.savers import BaseSaveHandler, DiskSaver
    from ignite_core.handlers.clock import clock_of, global_step_from_engine
    from ignite_core.handlers.detect_anomaly import DetectAnomaly
    from ignite_core.handlers.early_stopping import EarlyStopping
    from ignite_core.handlers.ema_handler import EMAHandler
    from ignite_core.handlers.flight.recorder import FlightRecorder
    from ignite_core.handlers.freezing import Freeze, Unfreeze
    from ignite_core.handlers.garbage_collection import GarbageCollection
    from ignite_core.handlers.gradient_clipping import GradientClipping
    from ignite_core.handlers.gradient_stats import GradientStats
    from ignite_core.handlers.handlers_time_profiler import HandlersTimeProfiler
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
    from ignite_core.handlers.lr_finder import FastaiLRFinder
    from ignite_core.handlers.scalars import kept, numbers_of
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
    from ignite_core.handlers.stores import EpochOutputStore
    from ignite_core.handlers.swa import SWA
    from ignite_core.handlers.terminate_on_nan import TerminateOnNan
    from ignite_core.handlers.time_limit import TimeLimit
    from ignite_core.handlers.timing import Timer
    from ignite_core.handlers.torch_profile import TorchProfile
    from ignite_core.handlers.vote import Vote, find_vote, vote_of

__all__ = [
    "SWA",
    "AsyncDiskSaver",
    "BaseLogger",
    "BaseParamScheduler",
    "BaseSaveHandler",
    "BasicTimeProfiler",
    "BatchSizeScheduler",
    "Checkpoint",
    "CheckpointEvents",
    "ConcatScheduler",
    "CosineAnnealingScheduler",
    "CyclicalScheduler",
    "DCPSaver",
    "DetectAnomaly",
    "DiskSaver",
    "EMAHandler",
    "EarlyStopping",
    "EpochOutputStore",
    "ExpStateScheduler",
    "FastaiLRFinder",
    "FigureHandler",
    "FlightRecorder",
    "Freeze",
    "GarbageCollection",
    "GradientClipping",
    "GradientStats",
    "GradsHistHandler",
    "GradsScalarHandler",
    "HandlersTimeProfiler",
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
    "Timer",
    "TorchProfile",
    "Unfreeze",
    "Vote",
    "WeightsHistHandler",
    "WeightsScalarHandler",
    "Writer",
    "clock_of",
    "create_lr_scheduler_with_warmup",
    "find_vote",
    "global_step_from_engine",
    "kept",
    "numbers_of",
    "resume",
    "spread",
    "vote_of",
]

_HOMES = {
    "BasicTimeProfiler": "basic_time_profiler",
    "AsyncDiskSaver": "checkpoint.async_saver",
    "Checkpoint": "checkpoint.checkpoint",
    "CheckpointEvents": "checkpoint.checkpoint",
    "ModelCheckpoint": "checkpoint.checkpoint",
    "DCPSaver": "checkpoint.dcp",
    "Resumed": "checkpoint.resume",
    "resume": "checkpoint.resume",
    "BaseSaveHandler": "checkpoint.savers",
    "DiskSaver": "checkpoint.savers",
    "clock_of": "clock",
    "global_step_from_engine": "clock",
    "DetectAnomaly": "detect_anomaly",
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
    "kept": "scalars",
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
    "FlightRecorder": "flight.recorder",
    "HandlersTimeProfiler": "handlers_time_profiler",
    "EMAHandler": "ema_handler",
    "Freeze": "freezing",
    "Unfreeze": "freezing",
    "GarbageCollection": "garbage_collection",
    "GradientClipping": "gradient_clipping",
    "GradientStats": "gradient_stats",
    "FastaiLRFinder": "lr_finder",
    "StopOnSignal": "stop_on_signal",
    "EpochOutputStore": "stores",
    "SWA": "swa",
    "TerminateOnNan": "terminate_on_nan",
    "TimeLimit": "time_limit",
    "TorchProfile": "torch_profile",
    "Timer": "timing",
    "Vote": "vote",
    "find_vote": "vote",
    "vote_of": "vote",
}

__getattr__, __dir__ = lazily(__name__, _HOMES)
