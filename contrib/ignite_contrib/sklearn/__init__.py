"""Engines as estimators of scikit-learn, and scores of scikit-learn as metrics."""

from typing import Any

from ignite_contrib._require import require
from ignite_core._lazy import lazily

_import, __dir__, __all__ = lazily(__name__, __file__)


def __getattr__(name: str) -> Any:
    if name in __all__:
        require("sklearn", extra="sklearn", feature="ignite_contrib.sklearn")
    return _import(name)
