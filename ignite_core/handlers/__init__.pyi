from .profiling.basic_time_profiler import BasicTimeProfiler as BasicTimeProfiler
from .checkpoint.async_saver import AsyncDiskSaver as AsyncDiskSaver
from .checkpoint.checkpoint import (
    Checkpoint as Checkpoint,
    CheckpointEvents as CheckpointEvents,
)
from .checkpoint.model_checkpoint import ModelCheckpoint as ModelCheckpoint
from .checkpoint.dcp_saver import DCPSaver as DCPSaver
from .checkpoint.resume import Resumed as Resumed, resume as resume
from .checkpoint.savers import BaseSaveHandler as BaseSaveHandler, DiskSaver as DiskSaver
from ._global_step import clock_of as clock_of, global_step_from_engine as global_step_from_engine
from .training.detect_anomaly import DetectAnomaly as DetectAnomaly
from .stopping.early_stopping import EarlyStopping as EarlyStopping
from .averaging.ema_handler import EMAHandler as EMAHandler
from .profiling.flight_recorder import FlightRecorder as FlightRecorder
from .training.freezing import Freeze as Freeze, Unfreeze as Unfreeze
from .training.garbage_collection import GarbageCollection as GarbageCollection
from .training.gradient_clipping import GradientClipping as GradientClipping
from .training.gradient_stats import GradientStats as GradientStats
from .profiling.handlers_time_profiler import HandlersTimeProfiler as HandlersTimeProfiler
from .logging.base_logger import BaseLogger as BaseLogger, Writer as Writer
from .logging.log_handlers import (
    FigureHandler as FigureHandler,
    GradsHistHandler as GradsHistHandler,
    GradsScalarHandler as GradsScalarHandler,
    ImageHandler as ImageHandler,
    LogHandler as LogHandler,
    OptimizerParamsHandler as OptimizerParamsHandler,
    OutputHandler as OutputHandler,
    TextHandler as TextHandler,
    WeightsHistHandler as WeightsHistHandler,
    WeightsScalarHandler as WeightsScalarHandler,
)
from .training.lr_finder import FastaiLRFinder as FastaiLRFinder
from .logging._scalars import kept as kept, numbers_of as numbers_of
from .schedules.base import BaseParamScheduler as BaseParamScheduler
from .schedules.batch_size import BatchSizeScheduler as BatchSizeScheduler
from .schedules.concat import ConcatScheduler as ConcatScheduler
from .schedules.cyclical import (
    CosineAnnealingScheduler as CosineAnnealingScheduler,
    CyclicalScheduler as CyclicalScheduler,
    LinearCyclicalScheduler as LinearCyclicalScheduler,
)
from .schedules.group import ParamGroupScheduler as ParamGroupScheduler
from .schedules.one_cycle import OneCycle as OneCycle, spread as spread
from .schedules.param_scheduler import ParamScheduler as ParamScheduler, PiecewiseLinear as PiecewiseLinear
from .schedules.plateau import ReduceLROnPlateauScheduler as ReduceLROnPlateauScheduler
from .schedules.state_scheduler import (
    ExpStateScheduler as ExpStateScheduler,
    LambdaStateScheduler as LambdaStateScheduler,
    MultiStepStateScheduler as MultiStepStateScheduler,
    PiecewiseLinearStateScheduler as PiecewiseLinearStateScheduler,
    StateParamScheduler as StateParamScheduler,
    StepStateScheduler as StepStateScheduler,
)
from .schedules.torch_scheduler import LRScheduler as LRScheduler
from .schedules.concat import create_lr_scheduler_with_warmup as create_lr_scheduler_with_warmup
from .stopping.stop_on_signal import StopOnSignal as StopOnSignal
from .stores import EpochOutputStore as EpochOutputStore
from .averaging.swa import SWA as SWA
from .stopping.terminate_on_nan import TerminateOnNan as TerminateOnNan
from .stopping.time_limit import TimeLimit as TimeLimit
from .profiling.timing import Timer as Timer
from .profiling.torch_profile import TorchProfile as TorchProfile
from .voting.vote import Vote as Vote, find_vote as find_vote, vote_of as vote_of
