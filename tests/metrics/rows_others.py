"""Of distributions, of vectors, and of whole batches."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import torch
from scipy.spatial.distance import cdist, jensenshannon, pdist, squareform
from scipy.special import softmax
from scipy.stats import entropy
from sklearn.metrics.pairwise import paired_cosine_distances

from ignite_core.metrics import (
    HSIC,
    CosineSimilarity,
    Entropy,
    JSDivergence,
    KLDivergence,
    MaximumMeanDiscrepancy,
    MutualInformation,
)
from tests.metrics.table import Row

Pair = tuple[torch.Tensor, ...]


def normal(*shape: int, scale: float = 1.0) -> Any:
    def draw(generator: torch.Generator, count: int) -> Pair:
        return tuple(torch.randn(count, *shape, generator=generator) * scale for _ in range(2))

    return draw


def partly_ruled_out(generator: torch.Generator, count: int) -> Pair:
    """Class 0 of every third sample cannot be, neither in truth nor in prediction."""
    y_pred, y = normal(3)(generator, count)
    y_pred[::3, 0] = y[::3, 0] = -torch.inf
    return y_pred, y


def dependent(*shape: int, noise: float = 0.1) -> Any:
    """Features ``(count, B, *)`` and others that follow from them, but for noise: ``B`` of them make a batch."""

    def draw(generator: torch.Generator, count: int) -> Pair:
        x, other = normal(*shape)(generator, count)
        return x, x.sin()[..., :2] + noise * other[..., :2]

    return draw


def apart(generator: torch.Generator, count: int) -> Pair:
    """Two distributions that are not the same, in ``count`` batches of 5 samples."""
    x, y = normal(5, 3)(generator, count)
    return x, 0.5 * y + 1.0


def probabilities(logits: torch.Tensor) -> Any:
    """One row for each prediction."""
    return softmax(logits.double().movedim(1, -1).flatten(0, -2).numpy(), axis=1)


def mutual_information(y_pred: torch.Tensor, y: torch.Tensor) -> float:
    """As the divergence of the joint distribution of sample and class from the product of both."""
    joint = probabilities(y_pred) / len(probabilities(y_pred))
    return float(entropy(joint.ravel(), np.outer(joint.sum(1), joint.sum(0)).ravel()))


def kernel(x: Any, variance: float | None = None) -> Any:
    squared = squareform(pdist(x.flatten(1).double().numpy(), "sqeuclidean"))
    return np.exp(-squared / 2 / (np.median(squared) if variance is None else variance))


def hsic_of_batch(k: Any, m: Any) -> float:
    """The sums over tuples of different samples: pairs, quadruples and triples."""
    n = len(k)
    pairs = np.mean([k[i, j] * m[i, j] for i, j in itertools.permutations(range(n), 2)])
    triples = np.mean([k[i, j] * m[i, q] for i, j, q in itertools.permutations(range(n), 3)])
    fours = np.mean([k[i, j] * m[q, r] for i, j, q, r in itertools.permutations(range(n), 4)])
    return max(float(pairs + fours - 2 * triples), 0.0)


def hsic(variance_x: float | None = None, variance_y: float | None = None) -> Any:
    def mean(x: torch.Tensor, y: torch.Tensor) -> float:
        return float(
            np.mean([hsic_of_batch(kernel(a, variance_x), kernel(b, variance_y)) for a, b in zip(x, y, strict=True)])
        )

    return mean


def mmd(variance: float) -> Any:
    def of_batch(x: Any, y: Any) -> float:
        def k(a: Any, b: Any) -> Any:
            return np.exp(-cdist(a, b, "sqeuclidean") / 2 / variance)

        others = ~np.eye(len(x), dtype=bool)
        return float(k(x, x)[others].mean() + k(y, y)[others].mean() - 2 * k(x, y).mean())

    def root(x: torch.Tensor, y: torch.Tensor) -> float:
        batches = zip(x.double().numpy(), y.double().numpy(), strict=True)
        return math.sqrt(max(np.mean([of_batch(*batch) for batch in batches]), 0.0))

    return root


class HSICOfBatches(HSIC):
    """What is one sample to the table is a batch to the metric, as its value depends on the batches."""

    def update(self, output: Any) -> None:
        for batch in zip(*output, strict=True):
            super().update(batch)


class MMDOfBatches(MaximumMeanDiscrepancy):
    """As above."""

    def update(self, output: Any) -> None:
        for batch in zip(*output, strict=True):
            super().update(batch)


def mean_entropy(y_pred: torch.Tensor, y: torch.Tensor) -> float:
    return float(entropy(probabilities(y_pred), axis=1).mean())


def mean_kl(y_pred: torch.Tensor, y: torch.Tensor) -> float:
    return float(entropy(probabilities(y), probabilities(y_pred), axis=1).mean())


def mean_js(y_pred: torch.Tensor, y: torch.Tensor) -> float:
    return float((jensenshannon(probabilities(y), probabilities(y_pred), axis=1) ** 2).mean())


def mean_cosine(y_pred: torch.Tensor, y: torch.Tensor) -> float:
    return float(1 - paired_cosine_distances(y_pred.double().flatten(1), y.double().flatten(1)).mean())


def log(*rows: list[float]) -> torch.Tensor:
    """Logits of these probabilities."""
    return torch.tensor(rows, dtype=torch.float64).log()


QUARTERS, HALVES, CERTAIN = [0.75, 0.25], [0.5, 0.5], [1.0, 0.0]

# Samples at 0, 0, 1000 and 1000: the kernel is 1 between equal ones and 0 else. Of the 12 ordered pairs 4 are 1 in both
# kernels, of the 24 quadruples (i, j, q, r) 8, of the 24 triples none: 1/3 + 1/3 - 0.
TWO_BY_TWO = torch.tensor([[[0.0], [0.0], [1000.0], [1000.0]]])

ROWS = [
    # (ln 2 + 0) / 2
    Row("Entropy", Entropy, normal(4), mean_entropy, ((log(HALVES, CERTAIN), torch.zeros(2)), math.log(2) / 2)),
    Row(
        "Entropy of pictures",
        Entropy,
        normal(3, 2, 2),
        mean_entropy,
        ((torch.zeros(1, 4, 2, 3), torch.zeros(1)), math.log(4)),
    ),
    Row(
        "Entropy with classes ruled out",
        Entropy,
        partly_ruled_out,
        mean_entropy,
        ((torch.tensor([[0.0, 0.0, -torch.inf]]), torch.zeros(1)), math.log(2)),
    ),
    # all of (1, 0) and (0, 1): ln 2 - 0
    Row(
        "MutualInformation",
        MutualInformation,
        normal(4, scale=3.0),
        mutual_information,
        ((log(CERTAIN, CERTAIN[::-1]), torch.zeros(2)), math.log(2)),
    ),
    # all alike: nothing is told
    Row(
        "MutualInformation of pictures",
        MutualInformation,
        normal(3, 2, 2),
        mutual_information,
        ((torch.zeros(2, 3, 1, 1), torch.zeros(2)), 0.0),
    ),
    # (1/2) ln (2/3) + (1/2) ln 2 = (1/2) ln (4/3)
    Row("KLDivergence", KLDivergence, normal(4), mean_kl, ((log(QUARTERS), log(HALVES)), math.log(4 / 3) / 2)),
    # ln 2 where true, of one of two
    Row(
        "KLDivergence of pictures",
        KLDivergence,
        normal(3, 2, 2),
        mean_kl,
        (
            (torch.zeros(1, 2, 1, 2), log(CERTAIN, HALVES).T.reshape(1, 2, 1, 2)),
            math.log(2) / 2,
        ),
    ),
    Row(
        "KLDivergence with classes ruled out",
        KLDivergence,
        partly_ruled_out,
        mean_kl,
        ((log(HALVES), log(CERTAIN)), math.log(2)),
    ),
    # m = (3/4, 1/4): (1/2) ln (4/3) + (1/2) ((1/2) ln (2/3) + (1/2) ln 2) = (3/4) ln (4/3)
    Row("JSDivergence", JSDivergence, normal(4), mean_js, ((log(CERTAIN), log(HALVES)), 0.75 * math.log(4 / 3))),
    Row(
        "JSDivergence of pictures",
        JSDivergence,
        normal(3, 2, 2),
        mean_js,
        ((torch.ones(1, 3, 2, 2), torch.zeros(1, 3, 2, 2)), 0.0),
    ),
    # nothing in common
    Row(
        "JSDivergence with classes ruled out",
        JSDivergence,
        partly_ruled_out,
        mean_js,
        ((log(CERTAIN), log(CERTAIN[::-1])), math.log(2)),
    ),
    # 24 / (5 * 5)
    Row(
        "CosineSimilarity",
        CosineSimilarity,
        normal(5),
        mean_cosine,
        ((torch.tensor([[3.0, 4.0]]), torch.tensor([[4.0, 3.0]])), 0.96),
    ),
    # 1 and -1, whatever the lengths
    Row(
        "CosineSimilarity of pictures",
        CosineSimilarity,
        normal(2, 3),
        mean_cosine,
        ((torch.ones(2, 2, 2), torch.tensor([3.0, -0.5]).view(2, 1, 1).expand(2, 2, 2)), 0.0),
    ),
    # The median of the squared distances, 8 of 0 and 8 of 10^6, is their mean; so the kernel is a = 1/e between samples
    # that differ: pairs (1 + 2 a^2) / 3, quadruples the same, triples (2 a + a^2) / 3, in all 2 (1 - a)^2 / 3.
    Row("HSIC", HSICOfBatches, dependent(6, 3), hsic(), ((TWO_BY_TWO, TWO_BY_TWO), 2 / 3 * (1 - math.exp(-1)) ** 2)),
    Row(
        "HSIC of a given width",
        lambda: HSICOfBatches(sigma_x=2.0, sigma_y=0.5),
        dependent(5, 3, 2),
        hsic(4.0, 0.25),
        ((TWO_BY_TWO, -TWO_BY_TWO), 2 / 3),
    ),
    # who is equal in one is not in the other; of the triples 4 are 1: 0 + 0 - 2 / 6, but no lower than 0
    Row(
        "HSIC of independent features",
        lambda: HSICOfBatches(sigma_x=1.0, sigma_y=1.0),
        dependent(5, 2, noise=100.0),
        hsic(1.0, 1.0),
        ((TWO_BY_TWO, TWO_BY_TWO[:, [0, 2, 1, 3]]), 0.0),
    ),
    # all alike in each, nothing in common: 1 + 1 - 0
    Row(
        "MaximumMeanDiscrepancy",
        MMDOfBatches,
        apart,
        mmd(1.0),
        ((torch.zeros(1, 2, 1), torch.full((1, 2, 1), 1000.0)), math.sqrt(2)),
    ),
    # 0 + 0 - 2/4, the mean of which is no lower than 0
    Row(
        "MaximumMeanDiscrepancy of one distribution",
        lambda: MMDOfBatches(var=4.0),
        normal(4, 2),
        mmd(4.0),
        ((torch.tensor([[[0.0], [1000.0]]]), torch.tensor([[[0.0], [-1000.0]]])), 0.0),
    ),
]
