"""For tests of your own: a function on several ranks of one machine, and the proof that a script resumes exactly."""

from ignite_core.testing.distributed import run_distributed
from ignite_core.testing.resumable import assert_resumable

__all__ = ["assert_resumable", "run_distributed"]
