"""Errors that a caller may want to catch by name."""

__all__ = ["CheckpointError", "NotComputableError", "RankFailed"]


class NotComputableError(RuntimeError):
    """A metric was asked for its value before it has seen anything."""


class CheckpointError(RuntimeError):
    """A checkpoint could not be written, or what is there is damaged, incomplete or not safe to read.

    Nothing was changed: an older checkpoint still stands, and objects that were to be loaded are as they were.
    """


class RankFailed(RuntimeError):  # noqa: N818 - says what happened
    """Another process of the run has failed or is lost; the message quotes its traceback where it left one.

    Attributes:
        ranks: Which processes, by rank.
    """

    def __init__(self, message: str, ranks: tuple[int, ...] = ()) -> None:
        super().__init__(message)
        self.ranks = ranks
