"""Import optional packages when the feature that needs them is constructed."""

from __future__ import annotations

import importlib
from types import ModuleType

__all__ = ["require"]


def require(module: str, *, extra: str, feature: str) -> ModuleType:
    """Import an optional module, with an error message that tells how to install it.

    Raises:
        ModuleNotFoundError: If its package is not installed; the message has the command that installs it. An import
            that fails inside an installed package is raised as it is.
    """
    package = module.partition(".")[0]
    try:
        importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise ModuleNotFoundError(
            f"{feature} needs the package {package!r}: pip install 'ignite-core[{extra}]'", name=package
        ) from error
    return importlib.import_module(module)
