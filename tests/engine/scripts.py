"""What the tests of resuming share: a training script in which every state and every random generator matters."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset, IterableDataset

from ignite_core.engine import Engine, Events, create_supervised_trainer
from ignite_core.metrics import Loss, RunningAverage

Item = tuple[Tensor, Tensor]


def augmented(index: int) -> Item:
    """A sample whose id is in its target, with noise from all three generators."""
    noise = torch.rand(3) + random.random() + np.random.rand()
    return torch.arange(3) + noise.float(), torch.tensor([float(index)])


class Samples(Dataset[Item]):
    """Samples with random augmentation."""

    def __init__(self, length: int = 20) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Item:
        return augmented(index)


class Stream(IterableDataset[Item]):
    """The same samples in a random order that only iterating tells, shared among workers."""

    def __init__(self, length: int = 20) -> None:
        self.length = length

    def __iter__(self) -> Iterator[Item]:
        worker = torch.utils.data.get_worker_info()
        number, of = (0, 1) if worker is None else (worker.id, worker.num_workers)
        waiting = list(range(number, self.length, of))
        while waiting:
            yield augmented(waiting.pop(random.randrange(len(waiting))))


class Script:
    """A trainer with dropout, a stateful optimizer, an average of the weights, a schedule, metrics and a scaler.

    Args:
        accumulation: Batches of an optimizer step.
        deterministic: Make a DeterministicEngine.
        amp: Mixed precision with a scaler.
        metrics: With values that go on from what was loaded; not those of several ranks, which go on as their mean.

    Attributes:
        ids: Of the samples of each batch.
        losses: After each iteration.
    """

    def __init__(
        self, accumulation: int = 1, deterministic: bool = False, amp: bool = False, metrics: bool = True
    ) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Dropout(0.5), nn.Linear(4, 1))
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=0.01)
        self.average = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda epoch: 0.9**epoch)
        self.loss = Loss(nn.functional.mse_loss, output_transform=lambda output: output[:2])
        self.running = RunningAverage(output_transform=lambda output: output[2])
        self.ids: list[list[int]] = []
        self.losses: list[float] = []
        self.trainer = create_supervised_trainer(
            self.model,
            self.optimizer,
            nn.functional.mse_loss,
            output_transform=lambda x, y, y_pred, loss: (y_pred.detach(), y, loss.detach()),
            gradient_accumulation_steps=accumulation,
            deterministic=deterministic,
            amp_mode="amp" if amp else None,
            scaler=amp,
        )
        self.metrics = {"loss": self.loss, "running": self.running} if metrics else {}
        for name, metric in self.metrics.items():
            metric.attach(self.trainer, name)
        self.trainer.add_event_handler(Events.ITERATION_COMPLETED, self.after_iteration)
        self.trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: self.schedule.step())

    def after_iteration(self, engine: Engine) -> None:
        self.ids.append([int(one) for one in engine.state.batch[1]])
        self.losses.append(engine.state.output[2].item())
        self.average.update_parameters(self.model)

    @property
    def to_save(self) -> dict[str, Any]:
        scaler = getattr(self.trainer.state, "scaler", None)
        return {
            "trainer": self.trainer,
            "model": self.model,
            "optimizer": self.optimizer,
            "average": self.average,
            "schedule": self.schedule,
            **self.metrics,
            **({} if scaler is None else {"scaler": scaler}),
        }


def building(**options: Any) -> Callable[[], tuple[Engine, dict[str, Any]]]:
    """A ``build`` for :func:`~ignite_core.testing.assert_resumable`."""

    def build() -> tuple[Engine, dict[str, Any]]:
        script = Script(**options)
        return script.trainer, script.to_save

    return build


def loader(num_workers: int = 0, dataset: Any = None, **options: Any) -> DataLoader[Any]:
    """Four batches an epoch."""
    dataset = Samples() if dataset is None else dataset
    options = {"batch_size": 5, "shuffle": not isinstance(dataset, IterableDataset), **options}
    return DataLoader(dataset, num_workers=num_workers, **options)


def one_thread() -> Iterator[None]:
    """For a fixture: small tensors on many threads only wait for each other, on a machine that has other work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
