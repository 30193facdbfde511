"""Imported by the fork server of :mod:`multiprocessing` if it starts during a run that catches signals.

A signal to the process group would end the server and its processes, which stop without their parent. So the server
blocks these signals, and its processes unblock them first. In any other process the import has no effect.
"""

import signal
import traceback
from multiprocessing.util import register_after_fork

_NUMBERS = [
    getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1", "SIGUSR2") if hasattr(signal, name)
]


def _unblock(_: object) -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _NUMBERS)


if any(frame.f_globals.get("__name__") == "multiprocessing.forkserver" for frame, _ in traceback.walk_stack(None)):
    signal.pthread_sigmask(signal.SIG_BLOCK, _NUMBERS)
    register_after_fork(_unblock, _unblock)
