from .distances import (
    CanberraMetric as CanberraMetric,
    ManhattanDistance as ManhattanDistance,
    MeanPairwiseDistance as MeanPairwiseDistance,
    WaveHedgesDistance as WaveHedgesDistance,
)
from .mean_errors import (
    FractionalAbsoluteError as FractionalAbsoluteError,
    FractionalBias as FractionalBias,
    GeometricMeanAbsoluteError as GeometricMeanAbsoluteError,
    GeometricMeanRelativeAbsoluteError as GeometricMeanRelativeAbsoluteError,
    MeanAbsoluteRelativeError as MeanAbsoluteRelativeError,
    MeanError as MeanError,
    MeanNormalizedBias as MeanNormalizedBias,
)
from .errors import (
    MaximumAbsoluteError as MaximumAbsoluteError,
    MeanAbsoluteError as MeanAbsoluteError,
    MeanSquaredError as MeanSquaredError,
    RootMeanSquaredError as RootMeanSquaredError,
)
from .median import (
    MedianAbsoluteError as MedianAbsoluteError,
    MedianAbsolutePercentageError as MedianAbsolutePercentageError,
    MedianRelativeAbsoluteError as MedianRelativeAbsoluteError,
)
from .pearson_correlation import PearsonCorrelation as PearsonCorrelation
from .r2_score import R2Score as R2Score, plot_regression as plot_regression
from .rank_correlation import (
    KendallRankCorrelation as KendallRankCorrelation,
    SpearmanRankCorrelation as SpearmanRankCorrelation,
)
