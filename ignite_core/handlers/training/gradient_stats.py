"""Norms of the gradients at each step of an optimizer."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module, Parameter
from torch.optim import Optimizer

from ignite_core.engine.engine import Engine
from ignite_core.engine.registration import RemovableHandle
from ignite_core.handlers._arguments import check_engine, check_keys, integer
from ignite_core.handlers.checkpoint.states import unwrapped
from ignite_core.handlers.training._optimizer_hooks import before_each_step, check_optimizer, gradient_norm

__all__ = ["GradientStats"]

_HERE = "GradientStats"


class GradientStats:
    """Writes norms of the gradients to ``engine.state.metrics`` at each step of an optimizer.

    They are measured inside ``optimizer.step()``, where gradients are fully accumulated, synchronised over the ranks,
    and without the factor of a :class:`torch.amp.GradScaler`. They are the norms before clipping if this handler is
    attached before :class:`~ignite_core.handlers.GradientClipping`, otherwise those after clipping. The host does not
    wait for a device: a value on a device becomes a number when it is read.

    The metrics are ``grad_norm``, the 2-norm of all gradients together; ``grad_max``, the largest absolute value of an
    element; and with a model, ``grad_norm/CHILD``, the 2-norm for each of its children by name.

    Args:
        optimizer: The optimizer.
        model: A model whose children are measured separately; wrappers such as DistributedDataParallel are removed.
        every: Measure at every ``every``-th step of the optimizer.
        name: Prefix of the names.

    Raises:
        ValueError: If ``every`` is below 1.

    Example:
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 1, bias=False))
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> def step(engine, batch):
        ...     optimizer.zero_grad()
        ...     model(batch).sum().backward()
        ...     optimizer.step()
        >>> trainer = Engine(step)
        >>> handle = GradientStats(optimizer, model).attach(trainer)
        >>> trainer.run([torch.tensor([[3.0, -4.0]])]).metrics
        {'grad_norm': 5.0, 'grad_max': 4.0, 'grad_norm/0': 5.0}
    """

    def __init__(
        self, optimizer: Optimizer, model: Module | None = None, *, every: int = 1, name: str = "grad"
    ) -> None:
        check_optimizer(_HERE, optimizer)
        if not isinstance(model, Module | None):
            raise TypeError(f"GradientStats: model must be a torch.nn.Module, got {model!r}")
        if not isinstance(name, str):
            raise TypeError(f"GradientStats: name must be a string, got {name!r}")
        self.optimizer = optimizer
        self.model = model
        self.every = integer(_HERE, "every", every, least=1)
        self.name = name
        self._steps = 0

    def attach(self, engine: Engine) -> RemovableHandle:
        """Measure while the engine runs, and write to its metrics.

        Returns:
            A handle whose ``remove()`` detaches this handler, also during a run.
        """
        check_engine("GradientStats.attach", engine)
        return engine.add_run_context(lambda engine: before_each_step(self.optimizer, partial(self._measure, engine)))

    def state_dict(self) -> OrderedDict[str, int]:
        """``steps``, the number of optimizer steps so far; needed only with ``every``."""
        return OrderedDict(steps=self._steps)

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue from what :meth:`state_dict` saved.

        Raises:
            ValueError: If the key is missing, or the number is negative.
        """
        check_keys("GradientStats", state_dict, ["steps"])
        self._steps = integer(_HERE, "steps", state_dict["steps"], least=0)

    @torch.no_grad()
    def _measure(self, engine: Engine, parameters: list[Parameter]) -> None:
        self._steps += 1
        if self._steps % self.every:
            return
        metrics = engine.state.metrics
        metrics[f"{self.name}_norm"] = _norm(parameters, 2.0)
        metrics[f"{self.name}_max"] = _norm(parameters, math.inf)
        if self.model is None:
            return
        for child, module in unwrapped(self.model).named_children():
            own = [one for one in module.parameters() if one.grad is not None]
            if own:
                metrics[f"{self.name}_norm/{child}"] = _norm(own, 2.0)


def _norm(parameters: Iterable[Parameter], order: float) -> Any:
    """A number if the gradients are on the CPU, otherwise a tensor on the device."""
    norm: Any = gradient_norm(parameters, order)
    if hasattr(norm, "full_tensor"):  # sharded parameters
        norm = norm.full_tensor()
    assert isinstance(norm, Tensor)
    return norm.item() if norm.device.type == "cpu" else norm
