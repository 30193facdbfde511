"""Metrics of predicted numbers."""

from typing import TYPE_CHECKING

from ignite_core._lazy import lazily

if TYPE_CHECKING:
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

__all__ = [
    "CanberraMetric",
    "FractionalAbsoluteError",
    "FractionalBias",
    "GeometricMeanAbsoluteError",
    "GeometricMeanRelativeAbsoluteError",
    "KendallRankCorrelation",
    "ManhattanDistance",
    "MaximumAbsoluteError",
    "MeanAbsoluteError",
    "MeanAbsoluteRelativeError",
    "MeanError",
    "MeanNormalizedBias",
    "MeanPairwiseDistance",
    "MeanSquaredError",
    "MedianAbsoluteError",
    "MedianAbsolutePercentageError",
    "MedianRelativeAbsoluteError",
    "PearsonCorrelation",
    "R2Score",
    "RootMeanSquaredError",
    "SpearmanRankCorrelation",
    "WaveHedgesDistance",
    "plot_regression",
]

_HOMES = {
    "CanberraMetric": "distances",
    "ManhattanDistance": "distances",
    "WaveHedgesDistance": "distances",
    "FractionalAbsoluteError": "fractional",
    "FractionalBias": "fractional",
    "GeometricMeanAbsoluteError": "geometric",
    "GeometricMeanRelativeAbsoluteError": "geometric",
    "MaximumAbsoluteError": "maximum_absolute_error",
    "MeanAbsoluteError": "mean_absolute_error",
    "MeanError": "mean_error",
    "MeanPairwiseDistance": "mean_pairwise_distance",
    "MeanSquaredError": "mean_squared_error",
    "RootMeanSquaredError": "mean_squared_error",
    "MedianAbsoluteError": "median",
    "MedianAbsolutePercentageError": "median",
    "MedianRelativeAbsoluteError": "median",
    "PearsonCorrelation": "pearson_correlation",
    "plot_regression": "plot",
    "R2Score": "r2_score",
    "KendallRankCorrelation": "rank_correlation",
    "SpearmanRankCorrelation": "rank_correlation",
    "MeanAbsoluteRelativeError": "relative",
    "MeanNormalizedBias": "relative",
}

__getattr__, __dir__ = lazily(__name__, _HOMES)
