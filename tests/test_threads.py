"""Background threads: all of them have ended when the interpreter ends, whatever they were doing."""

import logging
import multiprocessing
import subprocess
import sys
import threading
from multiprocessing.connection import Connection
from multiprocessing.util import _finalizer_registry  # type: ignore[attr-defined]

import pytest

from ignite_core import threads
from ignite_core.threads import start_thread

#: Its threads stop when asked, and say when they have: the last one started is the first one stopped.
SCRIPT = """
import atexit, threading
from ignite_core.threads import start_thread

def start(name):
    stopped = threading.Event()
    start_thread(lambda: (stopped.wait(), print(name, flush=True)), name, stopped.set)

atexit.register(start, "started at exit")
start("first")
start("second")
"""


def test_a_thread_that_has_returned_leaves_nothing_to_do_at_the_end() -> None:
    before = len(_finalizer_registry)
    thread = start_thread(lambda: None, "returns", lambda: None)
    thread.join()

    assert thread.name == "returns"
    assert len(_finalizer_registry) == before


def test_the_end_of_the_interpreter_stops_all_threads_and_waits_for_them() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60, check=True)

    assert (done.stdout.split("\n"), done.stderr) == (["started at exit", "second", "first", ""], "")


def _end_with_a_thread(result: Connection) -> None:
    stopped = threading.Event()
    start_thread(lambda: (stopped.wait(), result.send("stopped")), "waits", stopped.set)


def test_so_does_the_end_of_a_process_of_multiprocessing() -> None:
    reader, writer = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=_end_with_a_thread, args=(writer,))
    process.start()
    process.join(60)

    assert (process.exitcode, reader.poll(), reader.recv()) == (0, True, "stopped")


def test_a_thread_that_does_not_stop_in_time_is_named(caplog: pytest.LogCaptureFixture) -> None:
    stopped = threading.Event()
    thread = start_thread(stopped.wait, "does not stop", lambda: None)
    with caplog.at_level(logging.ERROR, threads.__name__):
        threads._end(thread, lambda: None, 0.001)
    stopped.set()
    thread.join()

    assert caplog.messages == ["the thread 'does not stop' did not end within 0.001 s of the end of the program"]
