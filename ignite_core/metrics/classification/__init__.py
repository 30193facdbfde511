"""Metrics of classifiers.

Shapes: ``N`` samples, ``C`` classes or labels, ``*`` further dimensions, ``K`` distinct labels or scores, ``B`` bins.
"""

from ignite_core._lazy import lazily

__getattr__, __dir__, __all__ = lazily(__name__, __file__)
