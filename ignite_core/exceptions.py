"""Errors that a caller may want to catch by name."""

__all__ = ["NotComputableError"]


class NotComputableError(RuntimeError):
    """A metric was asked for its value before it has seen anything."""
