"""Handlers: what is attached to an engine's events to save, resume, schedule, log, stop and watch a run."""

from ignite_core._lazy import lazily

__getattr__, __dir__, __all__ = lazily(__name__, __file__)
