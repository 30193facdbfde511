"""A process that writes checkpoints out of memory it shares with the one that trains; it never imports torch.

It is started anew (not forked), reads one request after the other from its standard input and answers each with a line.
It ends with the process that started it: a checkpoint published after that would meet those of the next run.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ignite_core.exceptions import CheckpointError
from ignite_core.handlers.checkpoint.archive import write_archive
from ignite_core.handlers.checkpoint.storage import publish

__all__ = ["WriterProcess", "serve"]

#: How long an end that is under way may take, in seconds.
_GRACE_S = 5.0

#: Without the user's site-packages, paths and variables: nothing there can slow down or stop the start.
_START = [
    "-I",
    "-S",
    "-c",
    "import sys; sys.path.insert(0, sys.argv[1]); from ignite_core.handlers.checkpoint.writer import serve; serve()",
    str(Path(__file__).parents[3]),
]

_PR_SET_PDEATHSIG = 1


class WriterProcess:
    """The side of the process that trains. Call it from one thread, but for :meth:`kill`.

    Args:
        descriptor: A memfd, and how many bytes it has.
    """

    def __init__(self, descriptor: tuple[int, int]) -> None:
        file, size = descriptor
        command = [sys.executable, *_START, str(file), str(size), str(os.getpid())]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=[file], cwd="/"
        )
        self._why = ""  # it was ended

    def publish(
        self, path: Path, about: Mapping[str, Any], entries: Sequence[tuple[str, bool, int, int]], sent: bytes
    ) -> None:
        """Have a checkpoint written, and wait until it is safe on disk.

        Raises:
            CheckpointError: With the message of the other process, or how that has ended.
        """
        request = {"path": str(path.absolute()), "about": about, "entries": entries, "sent": len(sent)}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # then there is no answer either
            self._process.stdin.write(json.dumps(request).encode() + b"\n" + sent)
            self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise CheckpointError(f"the process that wrote {path} {self._ending()}; the next save starts another one")
        error = json.loads(answer)
        if error is not None:
            raise CheckpointError(error)

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def kill(self, why: str) -> None:
        """End it whatever it is doing; a call that waits for it raises and says why."""
        self._why = why
        self._process.kill()

    def close(self) -> None:
        """Let it end, which it does at once when it has nothing to write."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(b"\n")  # the end of the pipe would not do: forked workers keep it open
            self._process.stdin.close()
        self._ending()
        self._process.stdout.close()

    def _ending(self) -> str:
        try:
            code = self._process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return "hangs, and was told to end"
        if self._why:
            return f"was ended: {self._why}"
        return f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"


def serve() -> None:
    """What the other process does; its arguments are a folder to import from, the memfd, its size, and the parent."""
    file, size, parent = map(int, sys.argv[2:])
    _end_with(parent)
    memory = memoryview(mmap.mmap(file, size, prot=mmap.PROT_READ))
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    while line := requests.readline().strip():
        answers.write(json.dumps(_answer(json.loads(line), memory, requests.read)).encode() + b"\n")
        answers.flush()
    os._exit(0)  # nothing is left to do, and the memory need not be unmapped


def _answer(request: dict[str, Any], memory: memoryview, read: Any) -> str | None:
    """Write a checkpoint; None, or what went wrong."""
    sent = memoryview(read(request["sent"]))
    records = [
        (name, (sent if is_sent else memory)[offset : offset + size])
        for name, is_sent, offset, size in request["entries"]
    ]
    try:
        publish(Path(request["path"]), lambda file: write_archive(file, records), request["about"])
    except CheckpointError as error:
        return str(error)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def _end_with(parent: int) -> None:
    """Be killed when the thread that started this process is gone, as it is when its process was killed."""
    import ctypes  # here: only this process needs it

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)  # it was gone before
