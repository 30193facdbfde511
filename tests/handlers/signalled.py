"""A training for torchrun, or alone: ``signalled.py FOLDER WHAT``. It ends when it gets a signal, or a rank dies."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

import torch
from torch import nn

from ignite_core import distributed as idist
from ignite_core.engine import Engine, Events
from ignite_core.handlers import Checkpoint, StopOnSignal, vote_of


def say(*words: Any) -> None:
    """One line, in one piece: others write to the same pipe."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def main(folder: str, what: str) -> None:
    if "RANK" in os.environ:
        idist.initialize("gloo")
    rank = idist.get_rank()
    model = nn.Linear(1, 1)

    def step(engine: Engine, batch: int) -> float:
        time.sleep(0.005)
        if what == "dies" and rank == 1 and engine.state.iteration == 30:
            say("dies", time.monotonic())
            os._exit(1)
        return idist.all_reduce(1.0)

    trainer = Engine(step)
    checkpoint = Checkpoint({"model": model, "trainer": trainer}, folder, n_saved=None)
    checkpoint.attach(trainer, every=10**6 if what != "slow" else 5)
    StopOnSignal(checkpoint).attach(trainer)
    vote_of(trainer, every=5)
    trainer.add_event_handler(Events.ITERATION_COMPLETED(once=12), lambda: say("ready", rank, os.getpid()))

    @trainer.on(Events.COMPLETED | Events.EXCEPTION_RAISED)
    def clean_up(engine: Engine, *_: Any) -> None:
        say("cleaned", rank, engine.state.iteration, time.monotonic())

    if what == "slow":  # from now on the disk takes for ever
        quick = os.fsync

        def slow(*_: Any) -> None:
            os.fsync = quick  # to give up a save may need it again
            say("saving", rank)
            time.sleep(1000)

        @trainer.on(Events.ITERATION_COMPLETED(once=12))
        def make_slow() -> None:
            os.fsync = slow  # type: ignore[assignment]

    torch.set_num_threads(1)
    trainer.run(epoch_length=10**7)


if __name__ == "__main__":
    main(*sys.argv[1:])
