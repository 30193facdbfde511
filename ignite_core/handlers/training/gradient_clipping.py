"""Clip gradients before each step of an optimizer."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from ignite_core.engine.engine import Engine
from ignite_core.engine.registration import RemovableHandle
from ignite_core.handlers._arguments import check_engine, number
from ignite_core.handlers.training._optimizer_hooks import before_each_step, check_optimizer, gradient_norm

__all__ = ["GradientClipping"]

_HERE = "GradientClipping"


class GradientClipping:
    """Clips the gradients of an optimizer before each of its steps, in any step function.

    A hook of the optimizer does this inside ``optimizer.step()``. At that point gradients are fully accumulated,
    synchronised over the ranks, and without the factor of a :class:`torch.amp.GradScaler`. The order is always:
    clipping, update of the weights, handlers of ``ITERATION_COMPLETED`` such as
    :class:`~ignite_core.handlers.EMAHandler`. The host does not wait for a device.

    Args:
        optimizer: The optimizer. With several optimizers, use one handler for each.
        max_norm: Largest norm of all gradients together, above 0; gradients with a larger norm are scaled down.
        max_value: Largest absolute value of each element, above 0; larger elements are cut. Excludes ``max_norm``.
        norm_type: Order of the p-norm, above 0; ``math.inf`` is the largest absolute value.

    Attributes:
        norm: With ``max_norm``: the norm before clipping at the last step, a tensor on the device; initially None.

    Raises:
        TypeError: If ``optimizer`` is not a torch.optim.Optimizer, or a number is not a number.
        ValueError: If a number is not above 0, or not exactly one of the two limits is given.

    References:
        Pascanu, Mikolov, Bengio, 2013, On the difficulty of training recurrent neural networks, algorithm 1.

    Example:
        >>> weight = torch.nn.Parameter(torch.zeros(2))
        >>> optimizer = torch.optim.SGD([weight], lr=1.0)
        >>> def step(engine, batch):
        ...     optimizer.zero_grad()
        ...     (weight * batch).sum().backward()
        ...     optimizer.step()
        >>> trainer = Engine(step)
        >>> clipping = GradientClipping(optimizer, max_norm=1.0)
        >>> handle = clipping.attach(trainer)
        >>> state = trainer.run([torch.tensor([3.0, 4.0])])
        >>> weight.detach(), clipping.norm
        (tensor([-0.6000, -0.8000]), tensor(5.))
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_norm: float | None = None,
        max_value: float | None = None,
        *,
        norm_type: float = 2.0,
    ) -> None:
        check_optimizer(_HERE, optimizer)
        if (max_norm is None) == (max_value is None):
            raise ValueError(
                f"GradientClipping: give one of max_norm and max_value, got max_norm={max_norm}, max_value={max_value}"
            )
        self.optimizer = optimizer
        self.max_norm = None if max_norm is None else number(_HERE, "max_norm", max_norm, above=0)
        self.max_value = None if max_value is None else number(_HERE, "max_value", max_value, above=0)
        self.norm_type = number(_HERE, "norm_type", norm_type, above=0)
        self.norm: Tensor | None = None

    def attach(self, engine: Engine) -> RemovableHandle:
        """Clip while the engine runs; steps outside its runs are not changed.

        If a :class:`~ignite_core.handlers.GradientStats` is attached to the same engine, the handler that was attached
        first is called first.

        Returns:
            A handle whose ``remove()`` detaches this handler, also during a run.
        """
        check_engine("GradientClipping.attach", engine)
        return engine.add_run_context(lambda _: before_each_step(self.optimizer, self._clip))

    def _clip(self, parameters: list[Parameter]) -> None:
        if self.max_norm is not None:
            self.norm = gradient_norm(parameters, self.norm_type)
            torch.nn.utils.clip_grads_with_norm_(parameters, self.max_norm, self.norm)
        elif self.max_value is not None:
            torch.nn.utils.clip_grad_value_(parameters, self.max_value)
