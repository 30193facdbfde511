from .distances import (
    CanberraMetric as CanberraMetric,
    ManhattanDistance as ManhattanDistance,
    WaveHedgesDistance as WaveHedgesDistance,
)
from .geometric import (
    GeometricMeanAbsoluteError as GeometricMeanAbsoluteError,
    GeometricMeanRelativeAbsoluteError as GeometricMeanRelativeAbsoluteError,
)
from .mean_pairwise_distance import MeanPairwiseDistance as MeanPairwiseDistance
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
from .relative import (
    FractionalAbsoluteError as FractionalAbsoluteError,
    FractionalBias as FractionalBias,
    MeanAbsoluteRelativeError as MeanAbsoluteRelativeError,
    MeanError as MeanError,
    MeanNormalizedBias as MeanNormalizedBias,
)
