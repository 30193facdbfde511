"""A training that one rank is killed in, once: ``torchrun ... restarted.py FOLDER RANK``. What ends it is in FOLDER."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import TensorDataset

from ignite_core import distributed as idist
from ignite_core.engine import Events, create_supervised_trainer
from ignite_core.handlers import Checkpoint, resume

#: After this iteration the rank is killed: inside the second epoch, and three iterations after a save.
KILLED_AFTER = 11


def train(folder: str, guilty: int | None) -> tuple[int, dict[str, Any]]:
    """Train on all ranks; where each of them went on, and how it ended.

    Args:
        folder: For checkpoints.
        guilty: The rank that is killed in the first attempt.
    """
    torch.manual_seed(0)
    data = TensorDataset(torch.randn(64, 3), torch.randn(64, 1))
    model = idist.auto_model(nn.Sequential(nn.Linear(3, 8), nn.Dropout(), nn.Linear(8, 1)))
    optimizer = idist.auto_optim(torch.optim.Adam(model.parameters(), lr=0.01))
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.95)
    trainer = create_supervised_trainer(model, optimizer, nn.functional.mse_loss)
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda: schedule.step())
    objects = {"model": model, "optimizer": optimizer, "schedule": schedule, "trainer": trainer}
    Checkpoint(objects, folder, n_saved=2, require_empty=False).attach(trainer, every=4)
    begun = resume(trainer, objects, folder).iteration

    @trainer.on(Events.ITERATION_COMPLETED(once=KILLED_AFTER, priority=100))
    def die() -> None:
        if idist.get_rank() == guilty and begun == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    trainer.run(idist.auto_dataloader(data, batch_size=8, shuffle=True), max_epochs=3, seed=0)
    return begun, {name: obj.state_dict() for name, obj in objects.items()}


def main(folder: str, guilty: str) -> None:
    idist.initialize("gloo")
    ended = train(folder, int(guilty))
    torch.save(ended, Path(folder) / f"rank_{idist.get_rank()}.ended")
    idist.finalize()


if __name__ == "__main__":
    main(*sys.argv[1:])
