"""Functions of notebooks and interactive sessions: only a forked process has them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

__all__ = ["check_forks", "is_of_session"]


def is_of_session(fn: Callable[..., Any]) -> bool:
    """Whether a function is defined in a main module that is not a file, such as a notebook.

    Example:
        >>> is_of_session(is_of_session)
        False
    """
    while isinstance(fn, partial):
        fn = fn.func
    main: Any = sys.modules["__main__"]
    has_file = main.__spec__ is not None or os.path.exists(getattr(main, "__file__", None) or "")
    return getattr(fn, "__module__", None) == "__main__" and not has_file


def check_forks(fn: Callable[..., Any], start_method: str | None) -> str:
    """The start method for such a function; ValueError if ``start_method`` is another one or forking is impossible."""
    if start_method not in (None, "fork") or not hasattr(os, "fork"):
        got = f"got start_method={start_method!r} on {sys.platform}"
    elif torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        got = "which cannot be done once CUDA is in use; restart the session and spawn first"
    else:
        return "fork"
    raise ValueError(
        f"idist.spawn: {getattr(fn, '__qualname__', repr(fn))} is defined in an interactive session, where only a "
        f"forked process finds it, {got}; or define it in a module and import it"
    )
