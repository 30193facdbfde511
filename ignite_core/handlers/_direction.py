"""Whether larger values of a metric are better."""

from __future__ import annotations

from ignite_core.engine.engine import Engine
from ignite_core.metrics.core.composite import find_metric

__all__ = ["higher_is_better"]


def higher_is_better(engine: Engine, name: str) -> bool | None:
    """``higher_is_better`` of the metric behind ``engine.state.metrics[name]``.

    Returns:
        None if no metric is attached under the name, or if the metric does not say.

    Example:
        >>> from ignite_core.metrics import Loss
        >>> evaluator = Engine(lambda engine, batch: batch)
        >>> _ = Loss(lambda y_pred, y: y).attach(evaluator, "loss")
        >>> higher_is_better(evaluator, "loss"), higher_is_better(evaluator, "accuracy")
        (False, None)
    """
    metric = find_metric(engine, name)
    return None if metric is None else metric.higher_is_better
