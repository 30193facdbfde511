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
    from ignite_core.handlers.detect_anomaly import DetectAnomaly
    from ignite_core.handlers.early_stopping import EarlyStopping
    from ignite_core.handlers.ema_handler import EMAHandler
    from ignite_core.handlers.freezing import Freeze, Unfreeze
    from ignite_core.handlers.garbage_collection import GarbageCollection
    from ignite_core.handlers.gradient_clipping import GradientClipping
    from ignite_core.handlers.gradient_stats import GradientStats
    from ignite_core.handlers.lr_finder import FastaiLRFinder
    from ignite_core.handlers.stop_on_signal import StopOnSignal
    from ignite_core.handlers.stores import EpochOutputStore
    from ignite_core.handlers.swa import SWA
    from ignite_core.handlers.terminate_on_nan import TerminateOnNan
    from ignite_core.handlers.time_limit import TimeLimit
    from ignite_core.handlers.timing import Timer
    from ignite_core.handlers.vote import Vote, find_vote, vote_of

__all__ = [
    "SWA",
    "AsyncDiskSaver",
    "BaseSaveHandler",
    "Checkpoint",
    "CheckpointEvents",
    "DCPSaver",
    "DetectAnomaly",
    "DiskSaver",
    "EMAHandler",
    "EarlyStopping",
    "EpochOutputStore",
    "FastaiLRFinder",
    "Freeze",
    "GarbageCollection",
    "GradientClipping",
    "GradientStats",
    "ModelCheckpoint",
    "Resumed",
    "StopOnSignal",
    "TerminateOnNan",
    "TimeLimit",
    "Timer",
    "Unfreeze",
    "Vote",
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
    "global_step_from_engine": "clock",
    "DetectAnomaly": "detect_anomaly",
    "EarlyStopping": "early_stopping",
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
    "Timer": "timing",
    "Vote": "vote",
    "find_vote": "vote",
    "vote_of": "vote",
}

__getattr__, __dir__ = lazily(__name__, _HOMES)
