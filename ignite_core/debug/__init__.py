"""Try a script before a long run: one batch of everything, a validation first, overfitting a few batches."""

from ignite_core.debug.rehearsal import DevRun, dev_run, overfit, sanity_check

__all__ = ["DevRun", "dev_run", "overfit", "sanity_check"]
