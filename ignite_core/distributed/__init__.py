"""One script, from one process to many machines: ``import ignite_core.distributed as idist``."""

from ignite_core._lazy import lazily

__getattr__, __dir__, _names = lazily(__name__, __file__)
__all__ = [name for name in _names if name not in ("all", "any")]  # `import *` must not hide Python's own
