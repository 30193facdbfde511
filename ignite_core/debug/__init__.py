"""Try a script before it runs for days: one batch of everything, a validation first, a model that must overfit."""

from ignite_core.debug.rehearsal import DevRun, dev_run, overfit, sanity_check

__all__ = ["DevRun", "dev_run", "overfit", "sanity_check"]
