"""Metrics of distributions. Shapes: ``N`` samples, ``C`` classes or ``D`` features, ``*`` further dimensions."""
