"""Handlers: what is attached to an engine's events to save, resume, stop and watch a run."""

from typing import TYPE_CHECKING

from ignite_core._lazy import lazily

if TYPE_CHECKING:
    from ignite_core.handlers.basic_time_profiler import BasicTimeProfiler
    from ignite_core.handlers.checkpoint.async_saver import AsyncDiskSaver
    from ignite_core.handlers.checkpoint.checkpoint import Checkpoint, CheckpointEvents, ModelCheckpoint
    from ignite_core.handlers.checkpoint.dcp import DCPSaver
    from ignite_core.handlers.checkpoint.resume import Resumed, resume
    from ignite_core.handlers.checkpoint.savers import BaseSaveHandler, DiskSaver
    from ignite_core.handlers.clock import global_step_from_engine
    from ignite_core.handlers.early_stopping import EarlyStopping
    from ignite_core.handlers.flight.recorder import FlightRecorder
    from ignite_core.handlers.handlers_time_profiler import HandlersTimeProfiler
    from ignite_core.handlers.stop_on_signal import StopOnSignal
    from ignite_core.handlers.terminate_on_nan import TerminateOnNan
    from ignite_core.handlers.time_limit import TimeLimit
    from ignite_core.handlers.torch_profile import TorchProfile
    from ignite_core.handlers.vote import Vote, find_vote, vote_of

__all__ = [
    "AsyncDiskSaver",
    "BaseSaveHandler",
    "BasicTimeProfiler",
    "Checkpoint",
    "CheckpointEvents",
    "DCPSaver",
    "DiskSaver",
    "EarlyStopping",
    "FlightRecorder",
    "HandlersTimeProfiler",
    "ModelCheckpoint",
    "Resumed",
    "StopOnSignal",
    "TerminateOnNan",
    "TimeLimit",
    "TorchProfile",
    "Vote",
    "find_vote",
    "global_step_from_engine",
    "resume",
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
    "global_step_from_engine": "clock",
    "EarlyStopping": "early_stopping",
    "FlightRecorder": "flight.recorder",
    "HandlersTimeProfiler": "handlers_time_profiler",
    "StopOnSignal": "stop_on_signal",
    "TerminateOnNan": "terminate_on_nan",
    "TimeLimit": "time_limit",
    "TorchProfile": "torch_profile",
    "Vote": "vote",
    "find_vote": "vote",
    "vote_of": "vote",
}

__getattr__, __dir__ = lazily(__name__, _HOMES)
