"""Passwords and tokens are neither printed nor written to a file: they are cut out of texts and errors."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from ignite_contrib.loggers.delivery.record import text_of

__all__ = ["check_address", "reason_of", "redact", "redacted"]

#: Of a URI the user and the values of the query; what follows the name of a secret.
_SECRETS = (
    re.compile(r"""(://)[^\s'"<>]*(?=@)"""),
    re.compile(r"""([?&;][\w.~%\[\]-]+=)[^\s'"<>&;)]+"""),
    re.compile(
        r"""(\b(?:authorization|cookie|password|passwd|secret|token|api[_-]?key)\b['"]?\s*[:=]\s*['"]?(?:(?:basic|bearer)\s)?)"""
        r"""[^\s'",;)}]+""",
        re.IGNORECASE,
    ),
)

#: Characters of a reason; a server may answer with a whole page.
_LONGEST = 300


def redacted(text: str) -> str:
    """A text without passwords: of a URI neither the user nor the values of its query, and no credentials.

    Example:
        >>> redacted("GET http://alice:secret@localhost:5000/runs?token=abc failed")
        'GET http://***@localhost:5000/runs?token=*** failed'
        >>> redacted("{'Authorization': 'Basic YWxpY2U6c2VjcmV0'}")
        "{'Authorization': 'Basic ***'}"
    """
    for pattern in _SECRETS:
        text = pattern.sub(r"\1***", text)
    return text


def check_address(where: str, uri: str) -> None:
    """Refuse an address of which a client would take a part of the password for the port, and show it.

    Raises:
        ValueError: If the port is not a number.
    """
    try:
        _ = urlsplit(uri).port
    except ValueError:
        raise ValueError(
            f"{where}: the address must be like http://user:password@host:port, got {redacted(uri)}; write characters "
            "such as / and ? in a password as %2F and %3F"
        ) from None


def reason_of(error: BaseException) -> str:
    r"""What an error says, on one line that can be printed and kept.

    Example:
        >>> reason_of(OSError("https://alice:secret@host\n\x1b[2J is away"))
        'OSError: https://***@host [2J is away'
    """
    shown = "".join(char if char.isprintable() else " " for char in redacted(text_of(error)[: 20 * _LONGEST]))
    text = " ".join(shown.split())
    return f"{type(error).__name__}: {text[:_LONGEST]}{'...' if len(text) > _LONGEST else ''}"


def redact(error: BaseException) -> None:
    """Cut secrets out of an error that is about to be raised, and out of those that have caused it."""
    seen: set[int] = set()
    errors: list[object] = [error]
    while errors:
        one = errors.pop()
        if not isinstance(one, BaseException) or id(one) in seen:
            continue
        seen.add(id(one))
        errors += [*one.args, one.__cause__, one.__context__, *vars(one).values()]
        one.args = tuple(redacted(part) if isinstance(part, str) else part for part in one.args)
        for name, value in vars(one).items():
            if isinstance(value, str):
                setattr(one, name, redacted(value))
