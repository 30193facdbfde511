from .accumulation import (
    Average as Average,
    GeometricAverage as GeometricAverage,
    VariableAccumulation as VariableAccumulation,
)
from .classification.accuracy import Accuracy as Accuracy, TopKCategoricalAccuracy as TopKCategoricalAccuracy
from .classification.agreement import CohenKappa as CohenKappa, MatthewsCorrCoef as MatthewsCorrCoef
from .classification.confusion_matrix import (
    ConfusionMatrix as ConfusionMatrix,
    MultiLabelConfusionMatrix as MultiLabelConfusionMatrix,
)
from .classification.curves import (
    AveragePrecision as AveragePrecision,
    PrecisionRecallCurve as PrecisionRecallCurve,
    ROC_AUC as ROC_AUC,
    RocCurve as RocCurve,
)
from .classification.fbeta import Fbeta as Fbeta
from .classification.matrix_scores import (
    DiceCoefficient as DiceCoefficient,
    IoU as IoU,
    JaccardIndex as JaccardIndex,
    cmAccuracy as cmAccuracy,
    cmPrecision as cmPrecision,
    cmRecall as cmRecall,
    mIoU as mIoU,
)
from .classification.precision_recall import Precision as Precision, Recall as Recall
from .classification.report import ClassificationReport as ClassificationReport
from .core.compat import reinit__is_reduced as reinit__is_reduced, sync_all_reduce as sync_all_reduce
from .cosine_similarity import CosineSimilarity as CosineSimilarity
from .distributions.entropy import Entropy as Entropy, MutualInformation as MutualInformation
from .epoch_metric import EpochMetric as EpochMetric, EpochMetricWarning as EpochMetricWarning
from .core.composite import MetricGroup as MetricGroup, MetricsLambda as MetricsLambda, find_metric as find_metric
from .frequency import Frequency as Frequency
from .gpu_info import GpuInfo as GpuInfo
from .distributions.kernels import HSIC as HSIC, MaximumMeanDiscrepancy as MaximumMeanDiscrepancy
from .distributions.kl_divergence import JSDivergence as JSDivergence, KLDivergence as KLDivergence
from .loss import Loss as Loss
from .core.metric import Metric as Metric
from .regression.distances import (
    CanberraMetric as CanberraMetric,
    ManhattanDistance as ManhattanDistance,
    MeanPairwiseDistance as MeanPairwiseDistance,
    WaveHedgesDistance as WaveHedgesDistance,
)
from .regression.mean_errors import (
    FractionalAbsoluteError as FractionalAbsoluteError,
    FractionalBias as FractionalBias,
    GeometricMeanAbsoluteError as GeometricMeanAbsoluteError,
    GeometricMeanRelativeAbsoluteError as GeometricMeanRelativeAbsoluteError,
    MeanAbsoluteRelativeError as MeanAbsoluteRelativeError,
    MeanError as MeanError,
    MeanNormalizedBias as MeanNormalizedBias,
)
from .regression.errors import (
    MaximumAbsoluteError as MaximumAbsoluteError,
    MeanAbsoluteError as MeanAbsoluteError,
    MeanSquaredError as MeanSquaredError,
    RootMeanSquaredError as RootMeanSquaredError,
)
from .regression.median import (
    MedianAbsoluteError as MedianAbsoluteError,
    MedianAbsolutePercentageError as MedianAbsolutePercentageError,
    MedianRelativeAbsoluteError as MedianRelativeAbsoluteError,
)
from .regression.pearson_correlation import PearsonCorrelation as PearsonCorrelation
from .regression.r2_score import R2Score as R2Score, plot_regression as plot_regression
from .regression.rank_correlation import (
    KendallRankCorrelation as KendallRankCorrelation,
    SpearmanRankCorrelation as SpearmanRankCorrelation,
)
from .running_average import RunningAverage as RunningAverage
from .core.states import gathered as gathered, maximum as maximum, minimum as minimum, total as total
from .core.usage import (
    BatchFiltered as BatchFiltered,
    BatchWise as BatchWise,
    EpochWise as EpochWise,
    MetricUsage as MetricUsage,
    RunningBatchWise as RunningBatchWise,
    RunningEpochWise as RunningEpochWise,
    SingleEpochRunningBatchWise as SingleEpochRunningBatchWise,
)
