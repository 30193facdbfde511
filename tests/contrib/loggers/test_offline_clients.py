"""W&B, ClearML, Neptune and Polyaxon with their own clients, which write to files where there is no server.

All but W&B ask for versions of other packages that do not go together, so each has an environment of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

CLIENTS = {"clearml": "clearml==2.1.12", "neptune": "neptune==1.14.0", "polyaxon": "polyaxon==2.18.0"}


def python_with(name: str) -> Path:
    """A Python that has a client beside what is here; made once, and removed by `make clean`."""
    folder = ROOT / ".venv" / "clients" / name
    python = folder / "bin" / "python"
    if not (folder / "is_complete").exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        (site_packages,) = folder.glob("lib/python*/site-packages")
        (site_packages / "shared.pth").write_text(sysconfig.get_path("purelib") + "\n")
        constraint = folder / "build.txt"
        constraint.write_text("setuptools<81\n")  # a package that Neptune needs is built with pkg_resources
        environment = {**os.environ, "PIP_BUILD_CONSTRAINT": str(constraint), "PIP_CONSTRAINT": str(constraint)}
        subprocess.run([python, "-m", "pip", "install", "-q", CLIENTS[name]], check=True, env=environment)
        (folder / "is_complete").touch()
    return python


def log_and_read_back(python: Path | str, name: str, folder: Path) -> None:
    command = [python, "-W", "ignore", Path(__file__).with_name("offline_clients.py"), name]
    environment = {
        **os.environ,
        "HOME": str(folder),
        "CLEARML_CACHE_DIR": str(folder / "cache"),
        **{f"WANDB_{kind}_DIR": str(folder / "home") for kind in ("CACHE", "CONFIG", "DATA", "ARTIFACT")},
        "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "contrib"))),
    }
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)

    assert done.returncode == 0, done.stderr[-5000:]
    assert "read back" in done.stdout


def test_what_is_logged_to_wandb_offline_is_read_back(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    log_and_read_back(sys.executable, "wandb", tmp_path)


@pytest.mark.nightly
@pytest.mark.skipif(os.environ.get("IGNITE_CORE_NIGHTLY") != "1", reason="installs clients: make nightly")
@pytest.mark.parametrize("name", CLIENTS)
def test_what_is_logged_offline_is_read_back(name: str, tmp_path: Path) -> None:
    log_and_read_back(python_with(name), name, tmp_path)
