"""Metrics of classifiers."""

from ignite_core.metrics.classification.accuracy import Accuracy

__all__ = ["Accuracy"]
