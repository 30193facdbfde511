"""An event engine for PyTorch: write one step, attach everything else to its events.

``import ignite_core`` costs next to nothing: a public name is loaded when it is first used (PEP 562), so who needs
the engine alone never waits for the metrics.
"""

from ignite_core._lazy import lazily

__version__ = "0.1.0.dev0"

__getattr__, __dir__, __all__ = lazily(__name__, __file__)
__all__ += ["__version__"]
