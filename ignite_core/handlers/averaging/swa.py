"""Stochastic weight averaging: the mean of the weights at several events of a training."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import AveragedModel, update_bn

from ignite_core.distributed import utils as idist
from ignite_core.engine.engine import Engine
from ignite_core.engine.events import EventName, Events
from ignite_core.engine.registration import RemovableHandle
from ignite_core.handlers._arguments import check_engine
from ignite_core.handlers.averaging._pairs import AveragedWeights, online_model, warn_of_rounding
from ignite_core.rng import rng_state, set_rng_state

__all__ = ["SWA"]

#: Share of the last of 50 models in their mean.
_LEAST_SHARE = 0.02


class SWA(AveragedWeights):
    r"""Averages the weights of a model over the last epochs of a training, with :mod:`torch.optim.swa_utils`.

    The average is the plain mean, :math:`\theta_\text{SWA} = \frac1n \sum_i \theta_i`. Before the first update there is
    no average: :meth:`swapped_in` does not change the model, and ``swa_model`` has the weights of the model at the end
    of the last epoch. At the end of the run the running means and variances of BatchNorm are computed for the averaged
    weights, as no batch was passed through these.

    Put the handler into the ``to_save`` of a :class:`~ignite_core.handlers.Checkpoint` to resume exactly. It does not
    change the learning rate: see :class:`torch.optim.swa_utils.SWALR`.

    Args:
        model: The model, already on its device.
        input_transform: Function of a batch that returns the input of the model for the update of BatchNorm; by default
            the first element of a list or tuple, otherwise the batch itself, moved to the device of the model.

    Attributes:
        model: The model, without DistributedDataParallel and torch.compile around it.
        swa_model: The :class:`torch.optim.swa_utils.AveragedModel`; ``swa_model.n_averaged`` is the number of updates.

    Raises:
        TypeError: If the model is not a module or is sharded (FSDP2), or ``input_transform`` is not callable.

    References:
        Izmailov et al., 2018, Averaging weights leads to wider optima and better generalization, algorithm 1.

    Example:
        >>> model = torch.nn.Linear(1, 1, bias=False)
        >>> trainer = Engine(lambda engine, batch: torch.nn.init.constant_(model.weight, engine.state.epoch))
        >>> swa = SWA(model)
        >>> handle = swa.attach(trainer, Events.EPOCH_COMPLETED(after=2))
        >>> state = trainer.run([0], max_epochs=5)
        >>> swa.swa_model.module.weight.item()  # of epochs 3, 4 and 5
        4.0
    """

    def __init__(self, model: Module, *, input_transform: Callable[[Any], Any] | None = None) -> None:
        if input_transform is not None and not callable(input_transform):
            raise TypeError(f"SWA: input_transform must be callable, got {input_transform!r}")
        online = online_model("SWA", model)
        warn_of_rounding("SWA", online, _LEAST_SHARE)
        self.swa_model = AveragedModel(online)
        self.swa_model.requires_grad_(False).eval()
        self._input_transform = input_transform
        super().__init__(online, self.swa_model.module)

    def attach(
        self,
        engine: Engine,
        event: EventName = Events.EPOCH_COMPLETED,
        *,
        bn_event: EventName | None = Events.COMPLETED,
        bn_data: Iterable[Any] | None = None,
    ) -> RemovableHandle:
        """Add the weights to the average at an event of an engine.

        Args:
            engine: The trainer.
            event: ``Events.EPOCH_COMPLETED(after=75)`` begins at the end of epoch 76.
            bn_event: When to update BatchNorm, if the model has such layers; None: only by :meth:`update_bn`.
            bn_data: Batches for this update; by default the data of the run, which are iterated once more.

        Returns:
            A handle whose ``remove()`` detaches the handler.
        """
        check_engine("SWA.attach", engine)
        with ExitStack() as attached:
            attached.enter_context(engine.add_event_handler(Events.STARTED(priority=-1000), self._begin))
            attached.enter_context(engine.add_event_handler(Events.EPOCH_COMPLETED(priority=1000), self._follow))
            attached.enter_context(engine.add_event_handler(event, self._update))
            if bn_event is not None:
                attached.enter_context(engine.add_event_handler(bn_event, self._update_bn_of_run, bn_data))
            return RemovableHandle(attached.pop_all().close)

    def update_bn(self, data: Iterable[Any]) -> None:
        """Compute the running means and variances of BatchNorm for the averaged weights.

        The averaged model is called with each batch, in training mode. On several ranks each rank iterates its own
        data, and all get the mean over all batches. The state of random generators is restored.

        Raises:
            ValueError: If there is no batch.
            RuntimeError: If the averaged weights are swapped in.
        """
        self._refuse_if_swapped_in("update_bn")
        norms = [one for one in self.swa_model.modules() if isinstance(one, _BatchNorm) and one.track_running_stats]
        if not norms:
            return
        before = rng_state()
        try:
            batches = iter(data)
            first = next(batches, batches)
            if first is batches:
                raise ValueError("SWA.update_bn: the data must have a batch, got none; give bn_data to attach()")
            with _restored(self.swa_model, norms):
                update_bn((self._input(batch) for batch in itertools.chain([first], batches)), self.swa_model)
        finally:
            set_rng_state(before)
        _average_over_ranks(norms)

    def state_dict(self) -> Any:
        """The state of ``swa_model``.

        Raises:
            RuntimeError: If the averaged weights are swapped in.
        """
        self._refuse_if_swapped_in("state_dict")
        return self.swa_model.state_dict()

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue from what :meth:`state_dict` saved.

        Raises:
            RuntimeError: If the averaged weights are swapped in, or belong to another model.
        """
        self._refuse_if_swapped_in("load_state_dict")
        self.swa_model.load_state_dict(state_dict)
        self._has_begun = True

    def _is_average(self) -> bool:
        return int(self.swa_model.n_averaged) > 0

    def _update(self) -> None:
        self._refuse_if_swapped_in("update")
        self._current_pairs()  # raises if the parameters of the model have changed
        self.swa_model.update_parameters(self.model)

    def _update_bn_of_run(self, engine: Engine, data: Iterable[Any] | None) -> None:
        data = engine.state.dataloader if data is None else data
        if self._is_average() and data is not None:
            self.update_bn(data)

    def _input(self, batch: Any) -> Any:
        if self._input_transform is not None:
            return (self._input_transform(batch),)  # update_bn takes the first element
        first = batch[0] if isinstance(batch, list | tuple) else batch
        parameter = next(self.swa_model.parameters(), None)
        return first if parameter is None else first.to(parameter.device)


@contextmanager
def _restored(model: Module, norms: list[_BatchNorm]) -> Iterator[None]:
    """Restore momenta and evaluation mode, also if a batch raises."""
    momenta = [norm.momentum for norm in norms]
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        model.eval()


@torch.no_grad()
def _average_over_ranks(norms: list[_BatchNorm]) -> None:
    """Mean over the ranks, weighted by their numbers of batches: the result of one rank with all batches."""
    if idist.get_world_size() == 1:
        return
    parts: list[Tensor] = []
    for norm in norms:
        mean, variance, batches = (buffer.double() for buffer in _buffers(norm))
        parts += [mean * batches, variance * batches, batches.reshape(1)]
    sums = iter(torch.split(idist.all_reduce(torch.cat(parts)), [len(part) for part in parts]))
    for norm in norms:
        mean, variance, batches = next(sums), next(sums), next(sums)
        for buffer, value in zip(_buffers(norm), (mean / batches, variance / batches, batches[0]), strict=True):
            buffer.copy_(value)


def _buffers(norm: _BatchNorm) -> tuple[Tensor, Tensor, Tensor]:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert norm.num_batches_tracked is not None
    return norm.running_mean, norm.running_var, norm.num_batches_tracked
