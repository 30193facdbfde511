"""Handlers: what is attached to an engine's events to save, resume and stop a run."""

from typing import TYPE_CHECKING

from ignite_core._lazy import lazily

if TYPE_CHECKING:
    from ignite_core.handlers.checkpoint.async_saver import AsyncDiskSaver
    from ignite_core.handlers.checkpoint.checkpoint import Checkpoint, CheckpointEvents, ModelCheckpoint
    from ignite_core.handlers.checkpoint.dcp import DCPSaver
    from ignite_core.handlers.checkpoint.resume import Resumed, resume
    from ignite_core.handlers.checkpoint.savers import BaseSaveHandler, DiskSaver
    from ignite_core.handlers.clock import clock_of, global_step_from_engine
    from ignite_core.handlers.early_stopping import EarlyStopping
    from ignite_core.handlers.stop_on_signal import StopOnSignal
    from ignite_core.handlers.terminate_on_nan import TerminateOnNan
    from ignite_core.handlers.time_limit import TimeLimit
    from ignite_core.handlers.vote import Vote, find_vote, vote_of

__all__ = [
    "AsyncDiskSaver",
    "BaseSaveHandler",
    "Checkpoint",
    "CheckpointEvents",
    "DCPSaver",
    "DiskSaver",
    "EarlyStopping",
    "ModelCheckpoint",
    "Resumed",
    "StopOnSignal",
    "TerminateOnNan",
    "TimeLimit",
    "Vote",
    "clock_of",
    "find_vote",
    "global_step_from_engine",
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
    "clock_of": "clock",
    "global_step_from_engine": "clock",
    "EarlyStopping": "early_stopping",
    "StopOnSignal": "stop_on_signal",
    "TerminateOnNan": "terminate_on_nan",
    "TimeLimit": "time_limit",
    "Vote": "vote",
    "find_vote": "vote",
    "vote_of": "vote",
}

__getattr__, __dir__ = lazily(__name__, _HOMES)
