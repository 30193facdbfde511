"""Remove passwords and tokens from texts and errors before they are printed or written to a file."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from ignite_contrib.loggers.delivery.record import text_of

__all__ = ["check_address", "reason_of", "redact", "redacted"]

#: The user and password of a URI, the values of its query, and what follows the name of a credential.
_SECRETS = (
    re.compile(r"""(://)[^\s'"<>]*(?=@)"""),
    re.compile(r"""([?&;][\w.~%\[\]-]+=)[^\s'"<>&;)]+"""),
    re.compile(
        r"""(\b(?:authorization|cookie|password|passwd|secret|token|api[_-]?key)\b['"]?\s*[:=]\s*['"]?(?:(?:basic|bearer)\s)?)"""
        r"""[^\s'",;)}]+""",
        re.IGNORECASE,
    ),
)

#: Longest reason in characters; a server may respond with a whole page.
_MAX_CHARACTERS = 300


def redacted(text: str) -> str:
    """Replace credentials in a text by ``***``.

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
    """Raise ValueError for an address whose password a client would take for the port, and print."""
    try:
        _ = urlsplit(uri).port
    except ValueError:
        raise ValueError(
            f"{where}: the address must be like http://user:password@host:port, got {redacted(uri)}; write characters "
            "such as / and ? in a password as %2F and %3F"
        ) from None


def reason_of(error: BaseException) -> str:
    r"""The type and message of an error, without credentials, on one line of printable characters.

    Example:
        >>> reason_of(OSError("https://alice:secret@host\n\x1b[2J is away"))
        'OSError: https://***@host [2J is away'
    """
    shown = redacted(text_of(error)[: 20 * _MAX_CHARACTERS])
    text = " ".join("".join(char if char.isprintable() else " " for char in shown).split())
    return f"{type(error).__name__}: {text[:_MAX_CHARACTERS]}{'...' if len(text) > _MAX_CHARACTERS else ''}"


def redact(error: BaseException) -> None:
    """Remove credentials from an error that is about to be raised, and from its causes."""
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
