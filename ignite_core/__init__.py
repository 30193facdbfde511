"""An event engine for PyTorch: write one step, attach everything else to its events.

``import ignite_core`` costs next to nothing: a public name is loaded when it is first used (PEP 562), so who needs
the engine alone never waits for the metrics.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ignite_core import distributed, engine, metrics, utils
    from ignite_core.engine import Engine, Events, State

__all__ = ["Engine", "Events", "State", "__version__", "distributed", "engine", "metrics", "utils"]

__version__ = "0.1.0.dev0"

_HOMES = {"Engine": "engine", "Events": "engine", "State": "engine"}
_SUBPACKAGES = frozenset({"distributed", "engine", "metrics", "utils"})


def __getattr__(name: str) -> Any:
    if name in _SUBPACKAGES:
        return import_module(f"{__name__}.{name}")  # the import itself binds the name here
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value  # found directly from now on, without this function
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
