"""Where values of a run go: one module a back-end, loaded when its name is used."""

from ignite_core._lazy import lazily

__getattr__, __dir__, __all__ = lazily(__name__, __file__)
