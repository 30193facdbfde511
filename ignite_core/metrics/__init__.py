"""Metrics: exact whatever the batches and the ranks, attached to an engine or used in a bare loop."""

from typing import TYPE_CHECKING

from ignite_core._lazy import lazily
from ignite_core.metrics.expression import MetricGroup, MetricsLambda
from ignite_core.metrics.metric import Metric
from ignite_core.metrics.states import gathered, maximum, minimum, total
from ignite_core.metrics.usage import (
    BatchFiltered,
    BatchWise,
    EpochWise,
    MetricUsage,
    RunningBatchWise,
    RunningEpochWise,
    SingleEpochRunningBatchWise,
    find_metric,
)

if TYPE_CHECKING:
    from ignite_core.metrics.accumulation import Average, GeometricAverage, VariableAccumulation
    from ignite_core.metrics.classification.accuracy import Accuracy
    from ignite_core.metrics.classification.average_precision import AveragePrecision
    from ignite_core.metrics.classification.cohen_kappa import CohenKappa
    from ignite_core.metrics.classification.confusion_matrix import ConfusionMatrix
    from ignite_core.metrics.classification.fbeta import Fbeta
    from ignite_core.metrics.classification.matrix_scores import (
        DiceCoefficient,
        IoU,
        JaccardIndex,
        cmAccuracy,
        cmPrecision,
        cmRecall,
        mIoU,
    )
    from ignite_core.metrics.classification.matthews_corrcoef import MatthewsCorrCoef
    from ignite_core.metrics.classification.multilabel_confusion_matrix import MultiLabelConfusionMatrix
    from ignite_core.metrics.classification.precision_recall import Precision, Recall
    from ignite_core.metrics.classification.precision_recall_curve import PrecisionRecallCurve
    from ignite_core.metrics.classification.report import ClassificationReport
    from ignite_core.metrics.classification.roc_auc import ROC_AUC, RocCurve
    from ignite_core.metrics.classification.top_k import TopKCategoricalAccuracy
    from ignite_core.metrics.compat import reinit__is_reduced, sync_all_reduce
    from ignite_core.metrics.cosine_similarity import CosineSimilarity
    from ignite_core.metrics.entropy import Entropy
    from ignite_core.metrics.epoch_metric import EpochMetric, EpochMetricWarning
    from ignite_core.metrics.frequency import Frequency
    from ignite_core.metrics.gpu_info import GpuInfo
    from ignite_core.metrics.hsic import HSIC
    from ignite_core.metrics.js_divergence import JSDivergence
    from ignite_core.metrics.kl_divergence import KLDivergence
    from ignite_core.metrics.loss import Loss
    from ignite_core.metrics.maximum_mean_discrepancy import MaximumMeanDiscrepancy
    from ignite_core.metrics.mutual_information import MutualInformation
    from ignite_core.metrics.regression.distances import CanberraMetric, ManhattanDistance, WaveHedgesDistance
    from ignite_core.metrics.regression.fractional import FractionalAbsoluteError, FractionalBias
    from ignite_core.metrics.regression.geometric import GeometricMeanAbsoluteError, GeometricMeanRelativeAbsoluteError
    from ignite_core.metrics.regression.maximum_absolute_error import MaximumAbsoluteError
    from ignite_core.metrics.regression.mean_absolute_error import MeanAbsoluteError
    from ignite_core.metrics.regression.mean_error import MeanError
    from ignite_core.metrics.regression.mean_pairwise_distance import MeanPairwiseDistance
    from ignite_core.metrics.regression.mean_squared_error import MeanSquaredError, RootMeanSquaredError
    from ignite_core.metrics.regression.median import (
        MedianAbsoluteError,
        MedianAbsolutePercentageError,
        MedianRelativeAbsoluteError,
    )
    from ignite_core.metrics.regression.pearson_correlation import PearsonCorrelation
    from ignite_core.metrics.regression.plot import plot_regression
    from ignite_core.metrics.regression.r2_score import R2Score
    from ignite_core.metrics.regression.rank_correlation import KendallRankCorrelation, SpearmanRankCorrelation
    from ignite_core.metrics.regression.relative import MeanAbsoluteRelativeError, MeanNormalizedBias
    from ignite_core.metrics.running_average import RunningAverage

__all__ = [
    "HSIC",
    "ROC_AUC",
    "Accuracy",
    "Average",
    "AveragePrecision",
    "BatchFiltered",
    "BatchWise",
    "CanberraMetric",
    "ClassificationReport",
    "CohenKappa",
    "ConfusionMatrix",
    "CosineSimilarity",
    "DiceCoefficient",
    "Entropy",
    "EpochMetric",
    "EpochMetricWarning",
    "EpochWise",
    "Fbeta",
    "FractionalAbsoluteError",
    "FractionalBias",
    "Frequency",
    "GeometricAverage",
    "GeometricMeanAbsoluteError",
    "GeometricMeanRelativeAbsoluteError",
    "GpuInfo",
    "IoU",
    "JSDivergence",
    "JaccardIndex",
    "KLDivergence",
    "KendallRankCorrelation",
    "Loss",
    "ManhattanDistance",
    "MatthewsCorrCoef",
    "MaximumAbsoluteError",
    "MaximumMeanDiscrepancy",
    "MeanAbsoluteError",
    "MeanAbsoluteRelativeError",
    "MeanError",
    "MeanNormalizedBias",
    "MeanPairwiseDistance",
    "MeanSquaredError",
    "MedianAbsoluteError",
    "MedianAbsolutePercentageError",
    "MedianRelativeAbsoluteError",
    "Metric",
    "MetricGroup",
    "MetricUsage",
    "MetricsLambda",
    "MultiLabelConfusionMatrix",
    "MutualInformation",
    "PearsonCorrelation",
    "Precision",
    "PrecisionRecallCurve",
    "R2Score",
    "Recall",
    "RocCurve",
    "RootMeanSquaredError",
    "RunningAverage",
    "RunningBatchWise",
    "RunningEpochWise",
    "SingleEpochRunningBatchWise",
    "SpearmanRankCorrelation",
    "TopKCategoricalAccuracy",
    "VariableAccumulation",
    "WaveHedgesDistance",
    "cmAccuracy",
    "cmPrecision",
    "cmRecall",
    "find_metric",
    "gathered",
    "mIoU",
    "maximum",
    "minimum",
    "plot_regression",
    "reinit__is_reduced",
    "sync_all_reduce",
    "total",
]

_HOMES = {
    "Average": "accumulation",
    "GeometricAverage": "accumulation",
    "VariableAccumulation": "accumulation",
    "Accuracy": "classification.accuracy",
    "AveragePrecision": "classification.average_precision",
    "CohenKappa": "classification.cohen_kappa",
    "ConfusionMatrix": "classification.confusion_matrix",
    "Fbeta": "classification.fbeta",
    "DiceCoefficient": "classification.matrix_scores",
    "IoU": "classification.matrix_scores",
    "JaccardIndex": "classification.matrix_scores",
    "cmAccuracy": "classification.matrix_scores",
    "cmPrecision": "classification.matrix_scores",
    "cmRecall": "classification.matrix_scores",
    "mIoU": "classification.matrix_scores",
    "MatthewsCorrCoef": "classification.matthews_corrcoef",
    "MultiLabelConfusionMatrix": "classification.multilabel_confusion_matrix",
    "Precision": "classification.precision_recall",
    "Recall": "classification.precision_recall",
    "PrecisionRecallCurve": "classification.precision_recall_curve",
    "ClassificationReport": "classification.report",
    "ROC_AUC": "classification.roc_auc",
    "RocCurve": "classification.roc_auc",
    "TopKCategoricalAccuracy": "classification.top_k",
    "reinit__is_reduced": "compat",
    "sync_all_reduce": "compat",
    "CosineSimilarity": "cosine_similarity",
    "Entropy": "entropy",
    "EpochMetric": "epoch_metric",
    "EpochMetricWarning": "epoch_metric",
    "Frequency": "frequency",
    "GpuInfo": "gpu_info",
    "HSIC": "hsic",
    "JSDivergence": "js_divergence",
    "KLDivergence": "kl_divergence",
    "Loss": "loss",
    "MaximumMeanDiscrepancy": "maximum_mean_discrepancy",
    "MutualInformation": "mutual_information",
    "CanberraMetric": "regression.distances",
    "ManhattanDistance": "regression.distances",
    "WaveHedgesDistance": "regression.distances",
    "FractionalAbsoluteError": "regression.fractional",
    "FractionalBias": "regression.fractional",
    "GeometricMeanAbsoluteError": "regression.geometric",
    "GeometricMeanRelativeAbsoluteError": "regression.geometric",
    "MaximumAbsoluteError": "regression.maximum_absolute_error",
    "MeanAbsoluteError": "regression.mean_absolute_error",
    "MeanError": "regression.mean_error",
    "MeanPairwiseDistance": "regression.mean_pairwise_distance",
    "MeanSquaredError": "regression.mean_squared_error",
    "RootMeanSquaredError": "regression.mean_squared_error",
    "MedianAbsoluteError": "regression.median",
    "MedianAbsolutePercentageError": "regression.median",
    "MedianRelativeAbsoluteError": "regression.median",
    "PearsonCorrelation": "regression.pearson_correlation",
    "plot_regression": "regression.plot",
    "R2Score": "regression.r2_score",
    "KendallRankCorrelation": "regression.rank_correlation",
    "SpearmanRankCorrelation": "regression.rank_correlation",
    "MeanAbsoluteRelativeError": "regression.relative",
    "MeanNormalizedBias": "regression.relative",
    "RunningAverage": "running_average",
}

__getattr__, __dir__ = lazily(__name__, _HOMES)
