"""How many times a save moves from one file of ignite_core to another: consecutive calls in different files."""

from __future__ import annotations

import os
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import nn

import ignite_core
from ignite_core.engine import Engine, Events
from ignite_core.handlers import Checkpoint

__all__ = ["MOST", "moves_of", "moves_of_a_save"]

#: A save that takes more of them is spread over too many modules.
MOST = 120

_ROOT = f"{Path(ignite_core.__file__).parent}{os.sep}"


def moves_of(call: Callable[[], object]) -> list[tuple[str, str]]:
    """The moves between files of ignite_core during a call, each as two file names."""
    visited: list[str] = []

    def profile(frame: FrameType, event: str, argument: Any) -> None:
        file = frame.f_code.co_filename
        if event == "call" and file.startswith(_ROOT) and visited[-1:] != [file]:
            visited.append(file)

    sys.setprofile(profile)
    try:
        call()
    finally:
        sys.setprofile(None)
    names = [Path(file).name for file in visited]
    return list(pairwise(names))


def moves_of_a_save() -> list[tuple[str, str]]:
    """Of a model, an optimizer and the trainer, into a folder that has as many checkpoints as stay."""
    model, trainer = nn.Linear(2, 2), Engine(lambda engine, batch: None)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Checkpoint({"model": model, "optimizer": optimizer, "trainer": trainer}, folder, n_saved=2)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, checkpoint)
        trainer.run(range(10), max_epochs=3)
        trainer.state.iteration += 1
        return moves_of(lambda: checkpoint(trainer))


if __name__ == "__main__":
    found = moves_of_a_save()
    print(f"a save: {len(found)} moves between {len({file for move in found for file in move})} files (at most {MOST})")
    for (source, target), count in Counter(found).most_common(10):
        print(f"{count:4}  {source} -> {target}")
