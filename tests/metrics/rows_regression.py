"""Metrics of predicted numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy import stats
from scipy.spatial import distance
from sklearn import metrics as sklearn_metrics

from ignite_core.metrics.regression import (
    CanberraMetric,
    FractionalAbsoluteError,
    FractionalBias,
    GeometricMeanAbsoluteError,
    GeometricMeanRelativeAbsoluteError,
    KendallRankCorrelation,
    ManhattanDistance,
    MaximumAbsoluteError,
    MeanAbsoluteError,
    MeanAbsoluteRelativeError,
    MeanError,
    MeanNormalizedBias,
    MeanPairwiseDistance,
    MeanSquaredError,
    MedianAbsoluteError,
    MedianAbsolutePercentageError,
    MedianRelativeAbsoluteError,
    PearsonCorrelation,
    R2Score,
    RootMeanSquaredError,
    SpearmanRankCorrelation,
    WaveHedgesDistance,
)
from tests.metrics.table import Row

# ---------------------------------------------------------------------------------------------------------- what is fed


def floats(generator: torch.Generator, count: int) -> tuple[torch.Tensor, ...]:
    return tuple(torch.randn(count, generator=generator) for _ in range(2))


def columns(generator: torch.Generator, count: int) -> tuple[torch.Tensor, ...]:
    return tuple(torch.randn(count, 1, generator=generator, dtype=torch.float64) for _ in range(2))


def column_and_row(generator: torch.Generator, count: int) -> tuple[torch.Tensor, ...]:
    return torch.randn(count, 1, generator=generator), torch.randn(count, generator=generator)


def vectors(generator: torch.Generator, count: int) -> tuple[torch.Tensor, ...]:
    return tuple(torch.randn(count, 3, generator=generator) for _ in range(2))


def sequences(generator: torch.Generator, count: int) -> tuple[torch.Tensor, ...]:
    return tuple(torch.randn(count, 2, 3, generator=generator) for _ in range(2))


def whole(generator: torch.Generator, count: int) -> tuple[torch.Tensor, ...]:
    return tuple(torch.randint(0, 256, (count, 3), generator=generator, dtype=torch.uint8) for _ in range(2))


def halves(generator: torch.Generator, count: int) -> tuple[torch.Tensor, ...]:
    return tuple((100 * torch.randn(count, generator=generator)).half() for _ in range(2))


def positive(generator: torch.Generator, count: int) -> tuple[torch.Tensor, ...]:
    return tuple(torch.rand(count, generator=generator) + 0.1 for _ in range(2))


def tied(generator: torch.Generator, count: int) -> tuple[torch.Tensor, ...]:
    """Neither side is constant."""
    y_pred, y = torch.randint(4, (count,), generator=generator), torch.randint(3, (count,), generator=generator)
    y_pred[:2] = y[:2] = torch.tensor([0, 1])
    return y_pred.float(), y.double()


def far_from_zero(generator: torch.Generator, count: int) -> tuple[torch.Tensor, ...]:
    y = 1e6 + torch.randn(count, generator=generator, dtype=torch.float64)
    return y + 0.5 * torch.randn(count, generator=generator, dtype=torch.float64), y


# ----------------------------------------------------------------------------------------------------------- references

Array = np.ndarray[Any, np.dtype[np.float64]]


def in_numpy(formula: Callable[[Array, Array], Any]) -> Callable[[torch.Tensor, torch.Tensor], Any]:
    """Of flat arrays of float64, called with the ground truth first."""

    def reference(y_pred: torch.Tensor, y: torch.Tensor) -> float:
        return float(formula(y.flatten().double().numpy(), y_pred.flatten().double().numpy()))

    return reference


def squares_by_sample(y_pred: torch.Tensor, y: torch.Tensor) -> float:
    errors = (y_pred.double().numpy().astype(float) - y.double().numpy()).reshape(len(y), -1)
    return float(np.mean([error @ error for error in errors]))


def sums_by_sample(y_pred: torch.Tensor, y: torch.Tensor) -> float:
    pairs = zip(y_pred.flatten(1).double().numpy(), y.flatten(1).double().numpy(), strict=True)
    return float(np.mean([distance.cityblock(one, other) for one, other in pairs]))


def minkowski(p: float, eps: float) -> Callable[[torch.Tensor, torch.Tensor], float]:
    def reference(y_pred: torch.Tensor, y: torch.Tensor) -> float:
        pairs = zip(y_pred.flatten(0, -2).double().numpy() + eps, y.flatten(0, -2).double().numpy(), strict=True)
        return float(np.mean([distance.minkowski(one, other, p) for one, other in pairs]))

    return reference


def against_the_mean(a: Array, p: Array) -> Array:
    return np.asarray(np.abs(a - p) / np.abs(a - a.mean()))


kendall = {
    variant: in_numpy(lambda a, p, variant=variant: stats.kendalltau(p, a, variant=variant).statistic)  # type: ignore[misc]
    for variant in "bc"
}
spearman = in_numpy(lambda a, p: stats.spearmanr(p, a).statistic)
pearson = in_numpy(lambda a, p: stats.pearsonr(p, a).statistic)
r2 = in_numpy(sklearn_metrics.r2_score)
absolute, squared = in_numpy(sklearn_metrics.mean_absolute_error), in_numpy(sklearn_metrics.mean_squared_error)


def pair(y_pred: list[Any], y: list[Any]) -> tuple[torch.Tensor, ...]:
    return torch.tensor(y_pred), torch.tensor(y)


# errors (ground truth minus prediction): 0.5, -2, 3
THREE = pair([1.0, 2.0, -1.0], [1.5, 0.0, 2.0])
TIES = pair([1.0, 1.0, 2.0], [1.0, 2.0, 2.0])
ONE_SWAP = pair([1.0, 2.0, 3.0, 4.0], [1.0, 3.0, 2.0, 4.0])

ROWS = [
    Row("MeanAbsoluteError", MeanAbsoluteError, floats, absolute, (THREE, 5.5 / 3)),
    Row(
        "MeanAbsoluteError column and row",
        MeanAbsoluteError,
        column_and_row,
        absolute,
        (pair([[1.0], [2.0]], [1.0, 4.0]), 1.0),
    ),
    Row(
        "MeanAbsoluteError of vectors of whole numbers",
        MeanAbsoluteError,
        whole,
        sums_by_sample,
        (pair([[1, 2], [3, 4]], [[1, 3], [5, 0]]), 3.5),
    ),
    Row("MeanSquaredError", MeanSquaredError, floats, squared, (THREE, 13.25 / 3)),
    Row(
        "MeanSquaredError column and row",
        MeanSquaredError,
        column_and_row,
        squared,
        (pair([[1.0], [2.0]], [1.0, 4.0]), 2.0),
    ),
    Row(
        "MeanSquaredError of vectors",
        MeanSquaredError,
        sequences,
        squares_by_sample,
        (pair([[1.0, 2.0], [3.0, 4.0]], [[1.0, 3.0], [5.0, 0.0]]), 10.5),
    ),
    Row("MeanSquaredError of bytes", MeanSquaredError, whole, squares_by_sample, (pair([0, 255], [255, 0]), 65025.0)),
    Row("MeanSquaredError of halves", MeanSquaredError, halves, squared, (pair([1.0, 2.0], [2.0, 4.0]), 2.5)),
    Row(
        "RootMeanSquaredError",
        RootMeanSquaredError,
        floats,
        in_numpy(sklearn_metrics.root_mean_squared_error),
        (pair([1.0, 7.0], [2.0, 0.0]), 5.0),
    ),
    Row(
        "MeanPairwiseDistance",
        MeanPairwiseDistance,
        vectors,
        minkowski(2, 1e-6),
        (pair([[3.0, 4.0], [1.0, 1.0]], [[0.0, 0.0], [1.0, 2.0]]), 3.0),
        tolerance=2e-6,  # the epsilon is left out in what is worked out by hand
    ),
    Row(
        "MeanPairwiseDistance p=1",
        lambda: MeanPairwiseDistance(p=1, eps=0.0),
        sequences,
        minkowski(1, 0.0),
        (pair([[3.0, 4.0], [1.0, 1.0]], [[0.0, 0.0], [1.0, 2.0]]), 4.0),
    ),
    Row(
        "MeanPairwiseDistance p=4",
        lambda: MeanPairwiseDistance(p=4, eps=1e-3),
        vectors,
        minkowski(4, 1e-3),
        (pair([[1.999]], [[0.0]]), 2.0),
    ),
    Row("CanberraMetric", CanberraMetric, floats, in_numpy(distance.canberra), (THREE, 0.2 + 1 + 1)),
    Row("ManhattanDistance", ManhattanDistance, columns, in_numpy(distance.cityblock), (THREE, 5.5)),
    Row(
        "WaveHedgesDistance",
        WaveHedgesDistance,
        positive,
        in_numpy(lambda a, p: sum(1 - min(one, other) / max(one, other) for one, other in zip(a, p, strict=True))),
        (pair([1.0, 2.0, 0.0], [4.0, 1.0, 0.0]), 1.25),
    ),
    Row("MaximumAbsoluteError", MaximumAbsoluteError, floats, in_numpy(sklearn_metrics.max_error), (THREE, 3.0)),
    Row("MeanError", MeanError, floats, in_numpy(lambda a, p: a.mean() - p.mean()), (THREE, 0.5)),
    Row(
        "FractionalAbsoluteError",
        FractionalAbsoluteError,
        floats,
        in_numpy(lambda a, p: 2 * distance.canberra(a, p) / len(a)),
        (THREE, 4.4 / 3),
    ),
    Row(
        "FractionalBias",
        FractionalBias,
        positive,
        in_numpy(lambda a, p: np.mean(2 - 4 * p / (a + p))),
        (pair([1.0, 2.0, 0.0], [3.0, 2.0, 1.0]), 1.0),
    ),
    Row(
        "GeometricMeanAbsoluteError",
        GeometricMeanAbsoluteError,
        floats,
        in_numpy(lambda a, p: stats.gmean(np.abs(a - p))),
        (pair([1.0, 2.0], [2.0, 6.0]), 2.0),
    ),
    Row(
        "GeometricMeanRelativeAbsoluteError",
        GeometricMeanRelativeAbsoluteError,
        floats,
        in_numpy(lambda a, p: stats.gmean(against_the_mean(a, p))),
        (pair([2.0, 7.0], [1.0, 3.0]), 2.0),
    ),
    Row(
        "MeanAbsoluteRelativeError",
        MeanAbsoluteRelativeError,
        positive,
        in_numpy(sklearn_metrics.mean_absolute_percentage_error),
        (pair([1.0, 3.0], [2.0, -1.0]), 2.25),
    ),
    Row(
        "MeanNormalizedBias",
        MeanNormalizedBias,
        positive,
        in_numpy(lambda a, p: 1 - np.mean(p / a)),
        (pair([1.0, 5.0], [2.0, 4.0]), 0.125),
    ),
    Row(
        "MedianAbsoluteError",
        MedianAbsoluteError,
        floats,
        in_numpy(sklearn_metrics.median_absolute_error),
        (THREE, 2.0),
    ),
    Row(
        "MedianAbsoluteError of vectors",
        MedianAbsoluteError,
        vectors,
        in_numpy(sklearn_metrics.median_absolute_error),
        (pair([[1.0, 2.0], [3.0, 4.0]], [[1.0, 3.0], [5.0, 0.0]]), 1.5),
    ),
    Row(
        "MedianAbsolutePercentageError",
        MedianAbsolutePercentageError,
        floats,
        in_numpy(lambda a, p: np.median(np.abs(100 - 100 * p / a))),
        (pair([1.0, 2.0, 3.0], [2.0, 8.0, 4.0]), 50.0),
    ),
    Row(
        "MedianRelativeAbsoluteError",
        MedianRelativeAbsoluteError,
        columns,
        in_numpy(lambda a, p: np.median(against_the_mean(a, p))),
        (pair([1.0, 2.0, 3.0], [2.0, 6.0, 7.0]), 2.0),
    ),
    Row("PearsonCorrelation", PearsonCorrelation, columns, pearson, (pair([1.0, 2.0, 3.0], [1.0, 3.0, 2.0]), 0.5)),
    Row(
        "PearsonCorrelation far from zero",
        PearsonCorrelation,
        far_from_zero,
        pearson,
        (pair([1e6 + 1, 1e6 + 2, 1e6 + 3], [1e6 + 1, 1e6 + 3, 1e6 + 2]), 0.5),
        tolerance=1e-8,
    ),
    Row("R2Score", R2Score, floats, r2, (pair([1.0, 2.0, 4.0], [1.0, 2.0, 3.0]), 0.5)),
    Row(
        "R2Score far from zero",
        R2Score,
        far_from_zero,
        r2,
        (pair([1e6 + 1, 1e6 + 2, 1e6 + 4], [1e6 + 1, 1e6 + 2, 1e6 + 3]), 0.5),
        tolerance=1e-8,
    ),
    Row("KendallRankCorrelation b", KendallRankCorrelation, floats, kendall["b"], (ONE_SWAP, 4 / 6)),
    Row("KendallRankCorrelation b with ties", KendallRankCorrelation, tied, kendall["b"], (TIES, 0.5)),
    Row("KendallRankCorrelation c", lambda: KendallRankCorrelation("c"), columns, kendall["c"], (ONE_SWAP, 4 / 6)),
    Row("KendallRankCorrelation c with ties", lambda: KendallRankCorrelation("c"), tied, kendall["c"], (TIES, 4 / 9)),
    Row("SpearmanRankCorrelation", SpearmanRankCorrelation, floats, spearman, (ONE_SWAP, 0.8)),
    Row("SpearmanRankCorrelation with ties", SpearmanRankCorrelation, tied, spearman, (TIES, 0.5)),
]
