"""How much is tried: a part on each change, everything under ``make faults``."""

import os

__all__ = ["FULL", "sized"]

#: Whether everything is to be tried, which takes an hour rather than minutes.
FULL = os.environ.get("IGNITE_CORE_FAULTS") == "full"


def sized(on_each_change: int, in_full: int) -> int:
    """How many cases to try."""
    return in_full if FULL else on_each_change
