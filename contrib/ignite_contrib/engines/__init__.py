"""Ready-made trainers, and functions that attach what most trainings need."""

from ignite_contrib.engines.tbptt import Tbptt_Events, create_supervised_tbptt_trainer

__all__ = ["Tbptt_Events", "create_supervised_tbptt_trainer"]
