"""Tools for tests: run a function on several ranks, and check that a script resumes exactly."""

from ignite_core.testing.distributed import run_distributed
from ignite_core.testing.resumable import assert_resumable

__all__ = ["assert_resumable", "run_distributed"]
