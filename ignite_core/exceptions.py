"""Errors that a caller may want to catch by name, and how messages show what they name."""

from collections.abc import Iterable

__all__ = ["CheckpointError", "NotComputableError", "RankFailed", "few", "shown"]


def shown(text: object) -> str:
    r"""A text as it can be printed, whatever file it comes from: characters that act on a terminal are escaped.

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
    """A list of names for a message: the first of them, and how many more there are.

    Example:
        >>> few(["a", "b"]), few(range(10_000), most=3)
        ("['a', 'b']", '[0, 1, 2] and 9997 more')
    """
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{names[:most]}{more}"


class NotComputableError(RuntimeError):
    """A metric was asked for its value before it has seen anything."""


class CheckpointError(RuntimeError):
    """A checkpoint could not be written, or what is there is damaged, incomplete or not safe to read.

    Nothing was changed: an older checkpoint still stands, and objects that were to be loaded are as they were. The
    message may quote what is in a file; it is escaped, so that it can be printed.
    """

    def __init__(self, *args: object) -> None:
        super().__init__(*(shown(arg) if isinstance(arg, str) else arg for arg in args))


class RankFailed(RuntimeError):  # noqa: N818 - says what happened
    """Another process of the run has failed or is lost; the message quotes its traceback where it left one.

    Attributes:
        ranks: Which processes, by rank.
    """

    def __init__(self, message: str, ranks: tuple[int, ...] = ()) -> None:
        super().__init__(message)
        self.ranks = ranks
