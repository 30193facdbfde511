"""Whether larger values of a metric are better."""

from __future__ import annotations

from ignite_core.engine.engine import Engine
from ignite_core.metrics.core.composite import find_metric

__all__ = ["higher_is_better"]


def higher_is_better(engine: Engine, name: str) -> bool | None:
    """``higher_is_better`` of the metric of ``engine.state.metrics[name]``; None if that is not known."""
    metric = find_metric(engine, name)
    return None if metric is None else metric.higher_is_better
