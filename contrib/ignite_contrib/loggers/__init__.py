"""Where values of a run go: one writer a back-end."""

from ignite_contrib.loggers.tqdm import ProgressBar

__all__ = ["ProgressBar"]
