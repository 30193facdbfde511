"""Packages that only some backends need."""

from __future__ import annotations

import importlib
import os
from typing import Any

__all__ = ["check_launcher", "refuse", "require"]


def require(module: str, backend: str, install: str) -> Any:
    """Import a module of an optional package, or say how to get it.

    Raises:
        ModuleNotFoundError: If the package is missing; it names the backend, the package and the command.
    """
    package = module.partition(".")[0]
    try:
        importlib.import_module(package)
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise  # the package is there, but something that it needs is not
        raise ModuleNotFoundError(
            f"the backend {backend!r} needs the package {package!r}, which is not installed: {install}", name=package
        ) from error


def check_launcher(world_size: int, backend: str, advice: str) -> None:
    """Make sure that a process which is alone was not launched as one of several, by something else.

    Raises:
        RuntimeError: If torchrun's variables tell of others, whom this process would never meet.
    """
    told = os.environ.get("WORLD_SIZE", "1")
    if world_size == 1 and told != "1":
        raise RuntimeError(
            f"idist.initialize (backend {backend}): WORLD_SIZE={told!r}, as of torchrun, but {backend} did not start "
            f"this process and knows of no other one; {advice}"
        )


def refuse(where: str, backend: str, arguments: dict[str, Any]) -> None:
    """Say which arguments a framework does not take.

    Raises:
        TypeError: If there are any.
    """
    if arguments:
        raise TypeError(f"{where}: the backend {backend!r} takes no {', '.join(sorted(arguments))}")
