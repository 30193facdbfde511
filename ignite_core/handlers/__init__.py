"""Handlers: what is attached to an engine's events to save, resume and stop a run."""

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
    from ignite_core.handlers.stop_on_signal import StopOnSignal
    from ignite_core.handlers.terminate_on_nan import TerminateOnNan
    from ignite_core.handlers.time_limit import TimeLimit
    from ignite_core.handlers.vote import Vote, find_vote, vote_of

__all__ = [
    "AsyncDiskSaver",
    "BaseLogger",
    "BaseSaveHandler",
    "Checkpoint",
    "CheckpointEvents",
    "DCPSaver",
    "DiskSaver",
    "EarlyStopping",
    "FigureHandler",
    "GradsHistHandler",
    "GradsScalarHandler",
    "ImageHandler",
    "LogHandler",
    "ModelCheckpoint",
    "OptimizerParamsHandler",
    "OutputHandler",
    "Resumed",
    "StopOnSignal",
    "TerminateOnNan",
    "TextHandler",
    "TimeLimit",
    "Vote",
    "WeightsHistHandler",
    "WeightsScalarHandler",
    "Writer",
    "find_vote",
    "global_step_from_engine",
    "numbers_of",
    "resume",
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
    "StopOnSignal": "stop_on_signal",
    "TerminateOnNan": "terminate_on_nan",
    "TimeLimit": "time_limit",
    "Vote": "vote",
    "find_vote": "vote",
    "vote_of": "vote",
}

__getattr__, __dir__ = lazily(__name__, _HOMES)
