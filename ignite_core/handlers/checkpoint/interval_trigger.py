"""Call a handler at fixed wall-clock intervals."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable

from ignite_core.distributed import utils as idist
from ignite_core.engine.engine import Engine
from ignite_core.handlers.checkpoint.ranks import saving_rank
from ignite_core.handlers.voting.vote import vote_of

__all__ = ["IntervalTrigger"]


class IntervalTrigger:
    """Calls a handler each time an interval has elapsed; the clock is read after each iteration.

    On several ranks the clock of one rank decides, and the engine's vote makes all ranks call the handler after the
    same iteration.

    Args:
        handler: Called with the engine.
        every_s: Length of the interval in seconds. The first one starts with the first iteration.
        clock: Returns the time in seconds.
        rank: The rank whose clock decides.

    Raises:
        ValueError: If ``every_s`` is not a positive number.
    """

    collective = "Checkpoint by the clock"
    event_priority = -20

    def __init__(
        self, handler: Callable[[Engine], object], every_s: float, clock: Callable[[], float], rank: int
    ) -> None:
        if not (isinstance(every_s, int | float) and 0 < every_s < math.inf):
            raise ValueError(f"Checkpoint.attach: every_s must be a positive number of seconds, got {every_s!r}")
        self.handler = handler
        self._every_s = every_s
        self._clock = clock
        self._rank = rank
        self._since: float | None = None
        self._requests: weakref.WeakKeyDictionary[Engine, Callable[..., None]] = weakref.WeakKeyDictionary()

    def __call__(self, engine: Engine) -> None:
        if idist.get_world_size() == 1:
            if self._is_due():
                self.handler(engine)
            return
        request = self._requests.get(engine)
        if request is None:
            request = self._requests[engine] = vote_of(engine).add("save by the clock", self._act)
        if idist.get_rank() == saving_rank(self._rank) and self._is_due():
            request()

    def _act(self, engine: Engine, number: int) -> None:
        self.handler(engine)

    def _is_due(self) -> bool:
        now = self._clock()
        if self._since is None:
            self._since = now
        if now - self._since < self._every_s:
            return False
        self._since = now
        return True
