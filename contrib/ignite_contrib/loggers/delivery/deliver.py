"""Send records to a back-end that may refuse some of them, or be unavailable."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from json import JSONDecodeError
from typing import Any

from ignite_contrib.loggers._redact import reason_of
from ignite_contrib.loggers.delivery.record import Record

__all__ = ["PartlySentError", "Send", "by_kind", "deliver", "each", "singles"]

Send = Callable[[Sequence[Record]], object]

#: Errors about the values themselves, for which a retry is useless ...
_PERMANENT = (
    ValueError,
    TypeError,
    ArithmeticError,
    LookupError,
    AttributeError,
    AssertionError,
    NotImplementedError,
    SystemError,
)
#: ... except for subclasses that are about the connection or the response.
_TRANSIENT = (OSError, JSONDecodeError)
#: HTTP statuses that mean the same: bad request, too large, not processable.
_PERMANENT_STATUS = (400, 413, 414, 415, 422)


class PartlySentError(Exception):
    """Raised by ``send``, from the error, if the back-end accepted only some of the records.

    Args:
        rest: The records that were not accepted; the first of them caused the error.
    """

    def __init__(self, rest: Sequence[Record]) -> None:
        super().__init__(rest)
        self.rest = list(rest)


def each(send_one: Callable[[Record], object], records: Sequence[Record]) -> None:
    """Send records one by one.

    Raises:
        PartlySentError: If one of them fails after others were sent.
    """
    for number, record in enumerate(records):
        try:
            send_one(record)
        except Exception as error:
            if not number:
                raise
            raise PartlySentError(records[number:]) from error


def singles(records: Sequence[Record]) -> list[Record]:
    """Split records into records of one value each."""
    return [replace(record, values={key: value}) for record in records for key, value in record.values.items()]


def by_kind(records: Sequence[Record]) -> list[list[Record]]:
    """Group records by kind: a back-end may accept one kind and not another."""
    kinds: dict[str, list[Record]] = {}
    for record in records:
        kinds.setdefault(record.kind, []).append(record)
    return list(kinds.values())


def deliver(send: Send, records: Sequence[Record]) -> tuple[list[Record], BaseException | None]:
    """Send records in order; if a call fails, bisect them until only refused values are left.

    A value is refused if the error is about values (``ValueError``, an HTTP status such as 400), or if a later value is
    accepted. If neither the next nor the last value is accepted either, the back-end is unavailable and the attempt
    ends.

    Args:
        send: Sends records, or raises.
        records: Records of one kind.

    Returns:
        The records that were not sent, with reasons, and the error if the back-end is unavailable.

    Example:
        >>> arrived = []
        >>> def send(records):
        ...     if any(value < 0 for record in records for value in record.values.values()):
        ...         raise ValueError("a negative value")
        ...     arrived.extend(record.step for record in records)
        >>> left, error = deliver(send, [Record("scalars", step, 0.0, {("x",): 3 - step}) for step in range(5)])
        >>> arrived, left[0].step, left[0].reason, error
        ([0, 1, 2, 3], 4, 'ValueError: a negative value', None)
    """
    refused: list[Record] = []
    parts, is_available = deque([list(records)]), False
    while parts:
        part = parts.popleft()
        rest, error = _attempt(send, part)
        is_available |= rest is not part
        if error is None or not rest:
            continue
        if not _is_single(rest):
            parts.extendleft(reversed(_split(rest, in_halves=is_available)))
        elif _is_permanent(error) or _is_available(send, parts, refused):
            is_available = True
            refused.append(_refused(rest[0], error))
        else:
            reason = reason_of(error)
            pending = [*rest, *(record for part in parts for record in part)]
            return [*refused, *(replace(record, reason=reason) for record in pending)], error
    return refused, None


def _attempt(send: Send, part: Sequence[Record]) -> tuple[Sequence[Record], BaseException | None]:
    """Return what was not sent, and why."""
    try:
        send(part)
    except PartlySentError as error:
        return error.rest, error.__cause__ or error
    except Exception as error:
        return part, error
    return [], None


def _is_available(send: Send, parts: deque[list[Record]], refused: list[Record]) -> bool:
    """Whether the back-end accepts the first or the last of the remaining records; that record is then sent."""
    for at in (0, -1):
        if not parts:
            return False
        record = parts[at].pop(at)
        if not parts[at]:
            del parts[at]
        rest, error = _attempt(send, [record])
        if error is None:
            return True
        if _is_single(rest) and _is_permanent(error):
            refused.append(_refused(rest[0], error))
            return True
        parts.insert(len(parts) if at else 0, list(rest))
    return False


def _is_permanent(error: BaseException) -> bool:
    status: Any = getattr(getattr(error, "response", None), "status_code", None)
    if status is None and hasattr(error, "get_http_status_code"):  # an error of MLflow
        status = error.get_http_status_code()
    if isinstance(status, int):
        return status in _PERMANENT_STATUS
    return isinstance(error, _PERMANENT) and not isinstance(error, _TRANSIENT)


def _refused(record: Record, error: BaseException) -> Record:
    return replace(record, reason=reason_of(error), is_refused=True)


def _is_single(records: Sequence[Record]) -> bool:
    return len(records) == 1 and len(records[0].values) <= 1


def _split(records: Sequence[Record], in_halves: bool) -> list[list[Record]]:
    """Split into halves, or into the first record (or value) and the rest."""
    if len(records) > 1:
        at = len(records) // 2 if in_halves else 1
        return [list(records[:at]), list(records[at:])]
    (record,) = records
    values = list(record.values.items())
    at = len(values) // 2 if in_halves else 1
    return [[replace(record, values=dict(part))] for part in (values[:at], values[at:])]
