"""The base class of metrics and what all of them share."""

from ignite_core.metrics.core import composite as composite  # the class that operators on metrics return
