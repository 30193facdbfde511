from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contrib.loggers.servers import Proxy, Server, mlflow_server, shared, visdom_server

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # else it calls its makers, and writes to the user's folder


@pytest.fixture(scope="session")
def session_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the whole session, also where several processes run it."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "servers"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def mlflow_url(session_folder: Path) -> Iterator[str]:
    """A real server of MLflow; there is one in a session, since it takes 8 s to start."""
    folder = session_folder / "mlflow"
    folder.mkdir(exist_ok=True)
    with shared(folder, mlflow_server) as url:
        yield url


@pytest.fixture
def mlflow_proxy(mlflow_url: str) -> Iterator[Proxy]:
    proxy = Proxy(mlflow_url)
    yield proxy
    proxy.may_answer.set()
    proxy.stop()


@pytest.fixture(scope="session")
def visdom(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A real server of Visdom."""
    server = visdom_server(tmp_path_factory.mktemp("visdom"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def visdom_proxy(visdom: Server) -> Iterator[Proxy]:
    proxy = Proxy(visdom.url)
    yield proxy
    proxy.may_answer.set()
    proxy.stop()
