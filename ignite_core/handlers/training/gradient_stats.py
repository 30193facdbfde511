"""How large the gradients are, at each step of an optimizer."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module, Parameter
from torch.optim import Optimizer

from ignite_core.engine.engine import Engine
from ignite_core.handlers._arguments import check_engine, check_keys, integer
from ignite_core.handlers.checkpoint.states import unwrapped
from ignite_core.handlers.training._optimizer_hooks import before_each_step, check_optimizer, gradient_norm

__all__ = ["GradientStats"]

_HERE = "GradientStats"


class GradientStats:
    """Puts norms of the gradients into ``engine.state.metrics`` each time the optimizer moves the weights.

    They are those inside ``optimizer.step()``: of all that was accumulated, synchronised over the ranks, and without
    the factor of a :class:`torch.amp.GradScaler`. Before or after clipping: as it was attached before or after
    :class:`~ignite_core.handlers.GradientClipping`. Nothing waits for a device: what lies on one becomes a number when
    it is read.

    The metrics are ``grad_norm``, the 2-norm of all gradients together; ``grad_max``, the largest absolute value of an
    element; and with a model, ``grad_norm/CHILD``, the 2-norm for each of its children by name.

    Args:
        optimizer: Whose gradients.
        model: Also look at the children of this model one by one; wrappers as DistributedDataParallel are looked into.
        every: At each so-manieth step of the optimizer.
        name: What the names begin with.

    Raises:
        TypeError: If the optimizer, the model or the number is none, or the name no string.
        ValueError: If ``every`` is below 1.

    Example:
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 1, bias=False))
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> def step(engine, batch):
        ...     optimizer.zero_grad()
        ...     model(batch).sum().backward()
        ...     optimizer.step()
        >>> trainer = Engine(step)
        >>> GradientStats(optimizer, model).attach(trainer)
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

    def attach(self, engine: Engine) -> None:
        """Measure while the engine runs, into its metrics.

        Raises:
            TypeError: If ``engine`` is no engine.
        """
        check_engine("GradientStats.attach", engine)
        engine.add_run_context(self._measuring)

    def state_dict(self) -> OrderedDict[str, int]:
        """``steps``, those of the optimizer that were seen; needed only with ``every``."""
        return OrderedDict(steps=self._steps)

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state_dict` saved.

        Raises:
            TypeError: If it is not a mapping with an integer.
            ValueError: If the key is missing, or the number negative.
        """
        check_keys("GradientStats", state_dict, ["steps"])
        self._steps = integer(_HERE, "steps", state_dict["steps"], least=0)

    def _measuring(self, engine: Engine) -> AbstractContextManager[None]:
        return before_each_step(self.optimizer, partial(self._measure, engine))

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
    """A number where that waits for nobody, else a tensor on the device."""
    norm: Any = gradient_norm(parameters, order)
    if hasattr(norm, "full_tensor"):  # sharded parameters
        norm = norm.full_tensor()
    assert isinstance(norm, Tensor)
    return norm.item() if norm.device.type == "cpu" else norm
