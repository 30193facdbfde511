"""Metrics: exact whatever the batches and the ranks, attached to an engine or used in a bare loop."""

from ignite_core._lazy import lazily
from ignite_core.metrics.core import usage as usage  # it tells Metric how to attach to an engine

__getattr__, __dir__, __all__ = lazily(__name__, __file__)
