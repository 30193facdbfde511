"""Loggers whose back-end is a server: what is logged is sent in the background, and nothing is lost if it is away."""

from __future__ import annotations

import atexit
import logging
import os
import secrets
import time
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from ignite_contrib.loggers.delivery.delivery import by_kind, deliver
from ignite_contrib.loggers.delivery.outbox import Outbox
from ignite_contrib.loggers.delivery.record import Kind, Record, plain
from ignite_contrib.loggers.delivery.spool import Unsent
from ignite_contrib.loggers.redact import reason_of, redact
from ignite_core.handlers import BaseLogger, kept

__all__ = ["BackgroundLogger"]

_logger = logging.getLogger(__name__)

Values = Mapping[tuple[str, ...], Any]


class BackgroundLogger(BaseLogger):
    """A logger that sends in the background; a back-end defines :meth:`send`.

    No call waits for the back-end. One that is slow gets many values at once; of one that is away it is said once, and
    the values are kept in a file until it is back. Values that it refuses, while it takes others, are kept there with
    the reason. :meth:`close`, the end of a run and that of the program wait for it, at most ten seconds; what is left
    is in the file then, and :meth:`resend` sends it.

    Args:
        open_client: As of :class:`~ignite_core.handlers.BaseLogger`.
        unsent: The file for what cannot be sent, of this logger alone; by default one in the working folder, which is
            named after the back-end.

    Attributes:
        wait_s: Of the class: seconds that a flush, and the end, wait at most.
    """

    _run: str = ""  # what the back-end calls this run; it is noted with all that is logged
    wait_s: ClassVar[float] = 10.0

    def __init__(self, open_client: Callable[[], Any], *, unsent: str | os.PathLike[str] | None = None) -> None:
        super().__init__(open_client)
        name = self._name = type(self).__name__
        own = f"{name}-unsent-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(4)}.jsonl"
        path = Path(own if unsent is None else unsent).absolute()
        self._outbox = Outbox(self.send, path, name)
        self._is_open = False

    @abstractmethod
    def send(self, records: Sequence[Record]) -> None:
        """Send what was logged, in its order, or raise. Called in a thread, with records of one kind.

        After an error the same records come again, in smaller parts, until it is known which are refused. If some have
        been sent before the error, raise :class:`~ignite_contrib.loggers.delivery.delivery.PartlySentError`.
        """

    def scalars(self, step: int, values: Values) -> None:
        """Have numbers sent, and text where the back-end takes it."""
        self._put("scalars", step, {key: _number(value) for key, value in values.items()})

    def flush(self) -> None:
        """Wait until all has arrived or stands in the file, at most ten seconds."""
        self._outbox.flush(self.wait_s)

    def close(self) -> None:
        """Send the rest, which takes at most ten seconds. What the back-end did not take stands in the file."""
        if self._is_open:
            self._is_open = False
            atexit.unregister(self._outbox.close)
            self._outbox.close(self.wait_s)

    def resend(self, path: str | os.PathLike[str]) -> None:
        """Send what an earlier run has left in a file, which is deleted then.

        What the back-end refuses stays in the file, and one error says so.

        Raises:
            FileNotFoundError: If there is no such file.
            Exception: Of the back-end, if it is away; what it did not take stays in the file.
        """
        refused: list[Record] = []
        errors: list[BaseException] = []
        unsent = Unsent(Path(path))
        unsent.path.stat()

        def send_again(records: list[Record]) -> list[Record]:
            left = []
            for some in by_kind(records):
                rest, error = (some, None) if errors else deliver(self.send, some)
                left += rest
                refused.extend(record for record in rest if record.is_refused)
                errors.extend([error] if error else [])
            return left

        unsent.sweep(send_again, with_refused=True)
        if errors:
            redact(errors[0])
            raise errors[0]
        if refused:
            _logger.error(
                "%s: %d records are refused (the first one: %s); they stay in %s",
                self._name,
                len(refused),
                refused[0].reason,
                path,
            )

    def _put(self, kind: Kind, step: int, values: Values) -> None:
        if not self._is_open:
            self._is_open = True
            atexit.register(self._outbox.close, self.wait_s)  # after the client, whose own end comes later then
        self._outbox.put(Record(kind, int(step), time.time(), values, self._run))

    def _keep(self, kind: Kind, step: int, values: Values, error: Exception) -> None:
        """Have :meth:`resend` send what the back-end has not taken."""
        path, reason = self._outbox.unsent.path, reason_of(error)
        try:
            self._outbox.unsent.add([Record(kind, step, time.time(), values, self._run, reason)])
        except OSError as refusal:
            _logger.error("%s: %s is lost: %s; %s takes nothing: %s", self._name, kind, reason, path, refusal)
        else:
            _logger.warning("%s: %s has not arrived (%s); it stands in %s", self._name, kind, reason, path)


def _number(value: Any) -> Any:
    """A number or text, or a tensor of one element on a device that nobody waits for here."""
    number = kept(value)
    return plain(value) if number is None else number
