"""Metrics: exact whatever the batches, attached to an engine or used in a bare loop."""

from ignite_core.metrics.accumulation import Average, GeometricAverage, VariableAccumulation
from ignite_core.metrics.classification import Accuracy
from ignite_core.metrics.compat import reinit__is_reduced, sync_all_reduce
from ignite_core.metrics.epoch_metric import EpochMetric
from ignite_core.metrics.expression import MetricGroup, MetricsLambda
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
    "Average",
    "BatchFiltered",
    "BatchWise",
    "EpochMetric",
    "EpochWise",
    "GeometricAverage",
    "Loss",
    "Metric",
    "MetricGroup",
    "MetricUsage",
    "MetricsLambda",
    "RunningAverage",
    "RunningBatchWise",
    "RunningEpochWise",
    "SingleEpochRunningBatchWise",
    "VariableAccumulation",
    "gathered",
    "maximum",
    "minimum",
    "reinit__is_reduced",
    "sync_all_reduce",
    "total",
]
