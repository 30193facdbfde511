"""Imported by the fork server of :mod:`multiprocessing`, if it starts during a run that catches signals.

A signal to the process group would end the server, and its processes with it: they stop when their parent is gone. So
it blocks these signals. Its processes inherit that, but unblock them before they do anything.
"""

import signal
from multiprocessing.util import register_after_fork

_NUMBERS = [getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1", "SIGUSR2")]


def _unblock(_: object) -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _NUMBERS)


signal.pthread_sigmask(signal.SIG_BLOCK, _NUMBERS)
register_after_fork(_unblock, _unblock)
