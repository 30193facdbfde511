"""Metrics: exact whatever the batches, attached to an engine or used in a bare loop."""

from ignite_core.metrics.classification import Accuracy
from ignite_core.metrics.loss import Loss
from ignite_core.metrics.metric import Metric
from ignite_core.metrics.running_average import RunningAverage
from ignite_core.metrics.states import gathered, maximum, minimum, total
from ignite_core.metrics.usage import (
    BatchFiltered,
    BatchWise,
    EpochWise,
    MetricUsage,
    RunningBatchWise,
    RunningEpochWise,
    SingleEpochRunningBatchWise,
)

__all__ = [
    "Accuracy",
    "BatchFiltered",
    "BatchWise",
    "EpochWise",
    "Loss",
    "Metric",
    "MetricUsage",
    "RunningAverage",
    "RunningBatchWise",
    "RunningEpochWise",
    "SingleEpochRunningBatchWise",
    "gathered",
    "maximum",
    "minimum",
    "total",
]
