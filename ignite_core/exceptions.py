"""Exceptions of the library, and text for their messages."""

from collections.abc import Iterable

__all__ = ["CheckpointError", "NotComputableError", "RankFailed", "few", "shown"]


def shown(text: object) -> str:
    r"""A text from a file, safe to print: control characters are escaped.

    Example:
        >>> print(shown("a\x1b[31m\u202eb"))
        a\x1b[31m\u202eb
    """
    text = str(text)
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() or one == "\n" else one.encode("unicode_escape").decode("ascii") for one in text
    )


def few(names: Iterable[object], most: int = 8) -> str:
    """A list of names for a message: the first ones, and the number of others.

    Example:
        >>> few(["a", "b"]), few(range(10_000), most=3)
        ("['a', 'b']", '[0, 1, 2] and 9997 more')
    """
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{names[:most]}{more}"


class NotComputableError(RuntimeError):
    """``compute`` of a metric was called before the first ``update``."""


class CheckpointError(RuntimeError):
    """A checkpoint could not be written, or is damaged, incomplete or not safe to read.

    Nothing was changed: older checkpoints still exist, and objects to be loaded are unchanged. The message may quote
    the content of a file, with control characters escaped.
    """

    def __init__(self, *args: object) -> None:
        super().__init__(*(shown(arg) if isinstance(arg, str) else arg for arg in args))


class RankFailed(RuntimeError):  # noqa: N818 - says what happened
    """Another process of the run has failed or is lost; the message quotes its traceback if there is one.

    Attributes:
        ranks: The ranks of these processes.
    """

    def __init__(self, message: str, ranks: tuple[int, ...] = ()) -> None:
        super().__init__(message)
        self.ranks = ranks
