"""An event engine for PyTorch: write one step, attach everything else to its events.

``import ignite_core`` costs next to nothing: a public name is loaded when it is first used (PEP 562), so who needs
the engine alone never waits for the metrics.
"""

from typing import TYPE_CHECKING

from ignite_core._lazy import lazily

if TYPE_CHECKING:
    from ignite_core import debug, distributed, engine, handlers, metrics, utils
    from ignite_core.engine import Engine, Events, State

__all__ = ["Engine", "Events", "State", "__version__", "debug", "distributed", "engine", "handlers", "metrics", "utils"]

__version__ = "0.1.0.dev0"

_HOMES = {"Engine": "engine", "Events": "engine", "State": "engine"}

__getattr__, __dir__ = lazily(__name__, _HOMES, {"debug", "distributed", "engine", "handlers", "metrics", "utils"})
