"""Sends records to a back-end that may refuse some of them, or be away."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from json import JSONDecodeError
from typing import Any

from ignite_contrib.loggers.delivery.record import Record
from ignite_contrib.loggers.redact import reason_of

__all__ = ["PartlySentError", "Send", "by_kind", "deliver", "each", "singles"]

Send = Callable[[Sequence[Record]], object]

#: Errors about the values themselves: to send these once more is of no use.
_FINAL = (
    ValueError,
    TypeError,
    ArithmeticError,
    LookupError,
    AttributeError,
    AssertionError,
    NotImplementedError,
    SystemError,
)

#: Some of these that are about the server, or what it has answered.
_NOT_FINAL = (OSError, JSONDecodeError)

#: Answers of a server that say the same: a bad request, one that is too large, one that cannot be processed.
_FINAL_STATUS = (400, 413, 414, 415, 422)


class PartlySentError(Exception):
    """A back-end raises it from the error when it has taken some of the records.

    Args:
        rest: Those that it has not taken; the first of them caused the error.
    """

    def __init__(self, rest: Sequence[Record]) -> None:
        super().__init__(rest)
        self.rest = list(rest)


def each(send_one: Callable[[Record], object], records: Sequence[Record]) -> None:
    """Send records one by one.

    Raises:
        PartlySentError: If one of them fails and those before it are sent.
    """
    for number, record in enumerate(records):
        try:
            send_one(record)
        except Exception as error:
            if not number:
                raise
            raise PartlySentError(records[number:]) from error


def singles(records: Sequence[Record]) -> list[Record]:
    """The same values, each in a record of its own."""
    return [replace(record, values={key: value}) for record in records for key, value in record.values.items()]


def by_kind(records: Sequence[Record]) -> list[list[Record]]:
    """Records of one kind together, as a back-end may take one kind and not another."""
    kinds: dict[str, list[Record]] = {}
    for record in records:
        kinds.setdefault(record.kind, []).append(record)
    return list(kinds.values())


def deliver(send: Send, records: Sequence[Record]) -> tuple[list[Record], BaseException | None]:
    """Send records in their order, in parts where some are refused, until only refused values are left.

    A value is refused if the error is about values (``ValueError``, a status such as 400), or if a later one is taken.
    Where neither the next nor the last one is taken either, the back-end is away: no more is tried.

    Args:
        send: Sends records, or raises.
        records: All of one kind.

    Returns:
        The records that were not taken, with reasons, and the error if the back-end is away.

    Example:
        >>> arrived = []
        >>> def send(records):
        ...     if any(value < 0 for record in records for value in record.values.values()):
        ...         raise ValueError("a negative value")
        ...     arrived.extend(record.step for record in records)
        >>> left, away = deliver(send, [Record("scalars", step, 0.0, {("x",): 3 - step}) for step in range(5)])
        >>> arrived, left[0].step, left[0].reason, away
        ([0, 1, 2, 3], 4, 'ValueError: a negative value', None)
    """
    refused: list[Record] = []
    parts, is_taken = deque([list(records)]), False
    while parts:
        part = parts.popleft()
        rest, error = _attempt(send, part)
        is_taken |= rest is not part
        if error is None or not rest:
            continue
        if not _is_single(rest):
            parts.extendleft(reversed(_split(rest, is_taken)))
        elif _is_final(error):
            is_taken = True  # at least it was looked at
            refused.append(_failed(rest[0], error))
        elif _is_there(send, parts, refused):
            is_taken = True
            refused.append(_failed(rest[0], error))
        else:
            reason = reason_of(error)
            pending = [*rest, *(record for part in parts for record in part)]
            return [*refused, *(replace(record, reason=reason) for record in pending)], error
    return refused, None


def _attempt(send: Send, part: Sequence[Record]) -> tuple[Sequence[Record], BaseException | None]:
    """What was not sent, and why."""
    try:
        send(part)
    except PartlySentError as error:
        return error.rest, error.__cause__ or error
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # such as SystemExit, which would end the thread
        return part, error
    return [], None


def _is_there(send: Send, parts: deque[list[Record]], refused: list[Record]) -> bool:
    """Whether the back-end takes the next or the last one of what is left to be sent, which is sent then."""
    for part, at in ((0, 0), (-1, -1)):
        if not parts:
            return False
        record = parts[part].pop(at)
        if not parts[part]:
            del parts[part]
        rest, error = _attempt(send, [record])
        if error is None:
            return True
        if _is_single(rest) and _is_final(error):
            refused.append(_failed(rest[0], error))
            return True
        parts.insert(len(parts) if part else 0, list(rest))
    return False


def _is_final(error: BaseException) -> bool:
    status: Any = getattr(getattr(error, "response", None), "status_code", None)
    if status is None and hasattr(error, "get_http_status_code"):  # of MLflow
        status = error.get_http_status_code()
    if isinstance(status, int):
        return status in _FINAL_STATUS
    return isinstance(error, _FINAL) and not isinstance(error, _NOT_FINAL)


def _failed(record: Record, error: BaseException) -> Record:
    return replace(record, reason=reason_of(error), is_refused=True)


def _is_single(records: Sequence[Record]) -> bool:
    return len(records) == 1 and len(records[0].values) <= 1


def _split(records: Sequence[Record], in_halves: bool) -> list[list[Record]]:
    """Two parts; the first of one record, or one value, while it is not known whether anything is taken."""
    if len(records) > 1:
        at = len(records) // 2 if in_halves else 1
        return [list(records[:at]), list(records[at:])]
    (record,) = records
    values = list(record.values.items())
    at = len(values) // 2 if in_halves else 1
    return [[replace(record, values=dict(values[:at]))], [replace(record, values=dict(values[at:]))]]
