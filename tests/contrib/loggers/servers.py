"""Real servers for tests, and a proxy in front of one that makes it slow, or takes it away."""

from __future__ import annotations

import fcntl
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

START_S = 120  # an overloaded machine; where nothing else runs it takes 8


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


class Server:
    """A server in a group of processes of its own."""

    def __init__(self, command: list[str], folder: Path, port: int, environment: dict[str, str] | None = None) -> None:
        self.command, self.folder, self.port = command, folder, port
        self.environment = {**os.environ, **(environment or {})}
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        log = self.folder / f"server-{self.port}.log"
        with log.open("ab") as file:
            self.process = subprocess.Popen(
                self.command, cwd=self.folder, env=self.environment, stdout=file, stderr=file, start_new_session=True
            )
        deadline = time.monotonic() + START_S
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"the server did not start: {log.read_text()[-2000:]}")
            time.sleep(0.05)  # nobody tells when it listens

    def answers(self) -> bool:
        try:
            urllib.request.urlopen(self.url, timeout=5).close()
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False
        return True

    def stop(self) -> None:
        """Kill it, as a power cut would."""
        if self.process is not None:
            kill_group(self.process.pid)
            self.process.wait()
            self.process = None


def kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def mlflow_server(folder: Path) -> Server:
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    command += ["--artifacts-destination", str(folder / "artifacts"), "--host", "127.0.0.1", "--port", str(port)]
    few = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}  # 2 processes, not 9
    return Server([*command, "--workers", "1"], folder, port, few)


# `python -m visdom.server` fetches the scripts of its page from the internet first.
_START_VISDOM = """
import sys
from visdom.server import app, run_server

port, env_path, static = sys.argv[1:]
if static:
    app.tornado_settings.update(static_path=static, template_path=static)
run_server.start_server(port=int(port), hostname="127.0.0.1", base_url="", env_path=env_path, bind_local=True)
"""


def visdom_server(folder: Path, static: Path | None = None) -> Server:
    """Its environments stand in the folder; ``static`` has the files of its page."""
    port = free_port()
    command = [sys.executable, "-c", _START_VISDOM, str(port), str(folder), str(static or "")]
    return Server(command, folder, port)


@contextmanager
def shared(folder: Path, make: Callable[[Path], Server]) -> Iterator[str]:
    """The address of a server that all processes of a test session share: the first starts it, the last one ends it."""
    users = folder / "users.json"
    with _locked(folder):
        state = json.loads(users.read_text()) if users.exists() else {"count": 0}
        server = None
        if not state["count"]:
            server = make(folder)
            server.start()
            assert server.process is not None
            state = {"count": 0, "pid": server.process.pid, "url": server.url}
        users.write_text(json.dumps({**state, "count": state["count"] + 1}))
    try:
        yield state["url"]
    finally:
        with _locked(folder):
            state = json.loads(users.read_text())
            state["count"] -= 1
            users.write_text(json.dumps(state))
            if not state["count"]:
                kill_group(state["pid"])
        if server is not None and server.process is not None:
            server.process.returncode = server.process.poll() or 0  # it may go on for others


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


class Proxy:
    """Stands in front of a server, at an address of its own.

    Attributes:
        calls: The path of each call that was answered.
        delay_s: Seconds that each call takes longer.
        may_answer: Cleared, no call is answered until it is set.
        is_asked: Set when a call has come.
    """

    def __init__(self, url: str) -> None:
        self.target = url.removeprefix("http://")
        self.port = free_port()
        self.calls: list[str] = []
        self.delay_s = 0.0
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.is_asked = threading.Event()
        self._server: ThreadingHTTPServer | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args: Any) -> None:
                """Say nothing."""

            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                proxy.is_asked.set()
                assert proxy.may_answer.wait(60)
                threading.Event().wait(proxy.delay_s)
                connection = http.client.HTTPConnection(proxy.target, timeout=60)
                headers = {name: value for name, value in self.headers.items() if name != "Host"}
                connection.request(self.command, self.path, body, headers)
                answer = connection.getresponse()
                content = answer.read()
                connection.close()
                try:
                    self.send_response(answer.status)
                    self.send_header("Content-Type", answer.getheader("Content-Type", "text/plain"))
                    self.send_header("Content-Length", str(len(content)))
                    self.end_headers()
                    self.wfile.write(content)
                except OSError:  # whoever has asked does not wait any more
                    return
                proxy.calls.append(self.path)

            do_GET = do_POST = do_PUT = do_PATCH = handle_any  # noqa: N815 - names of http.server

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        """Whoever calls now is refused."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
