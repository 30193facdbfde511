"""Metrics: exact for any batch size and number of ranks, attached to an engine or used in a plain loop."""

from ignite_core._lazy import lazily

__getattr__, __dir__, __all__ = lazily(__name__, __file__)
