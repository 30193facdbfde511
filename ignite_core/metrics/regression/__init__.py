"""Metrics of predicted numbers.

Shapes: ``N`` samples, ``D`` numbers each, ``*`` further dimensions. :math:`P` are predictions, :math:`A` is the truth.
"""

from ignite_core._lazy import lazily

__getattr__, __dir__, __all__ = lazily(__name__, __file__)
