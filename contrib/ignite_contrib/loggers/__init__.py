"""Loggers, one module for each back-end, imported when its name is first used."""

from ignite_core._lazy import lazily

__getattr__, __dir__, __all__ = lazily(__name__, __file__)
