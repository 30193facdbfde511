"""Freeze and unfreeze parts of a model, for fine-tuning."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from torch.nn import Module, Parameter
from torch.utils import hooks

from ignite_core.engine.engine import Engine
from ignite_core.engine.events import EventName, Events
from ignite_core.engine.registration import RemovableHandle
from ignite_core.handlers._arguments import check_engine, check_keys

__all__ = ["Freeze", "Unfreeze"]


class _Frozen(ABC):
    """Base class of :class:`Freeze` and :class:`Unfreeze`: an event unfreezes a module, and this is saved."""

    def __init__(self, module: Module, is_frozen: bool) -> None:
        if not isinstance(module, Module):
            raise TypeError(f"{type(self).__name__}: module must be a torch.nn.Module, got {module!r}")
        self.module = module
        self.is_frozen = is_frozen
        self._is_loaded = False

    @abstractmethod
    def unfreeze(self) -> None:
        """Unfreeze the module now."""

    def state_dict(self) -> OrderedDict[str, bool]:
        """``is_frozen``."""
        return OrderedDict(is_frozen=self.is_frozen)

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Freeze or unfreeze the module, as it was when the state was saved.

        Raises:
            ValueError: If the key is missing.
        """
        check_keys(type(self).__name__, state_dict, ["is_frozen"])
        self._is_loaded = True
        if not state_dict["is_frozen"]:
            self.unfreeze()

    def _unfreeze_at(self, engine: Engine, event: EventName) -> RemovableHandle:
        unfreeze = engine.add_event_handler(event, self.unfreeze)
        warn = engine.add_event_handler(Events.STARTED, self._warn_if_not_loaded)
        return RemovableHandle(unfreeze.remove, warn.remove)

    def _warn_if_not_loaded(self, engine: Engine) -> None:
        if engine.is_resumed and not self._is_loaded:
            warnings.warn(
                f"{type(self).__name__}: the run continues from iteration {engine.state.iteration}, but the state of "
                "this handler was not loaded: if its event has passed, the module stays frozen. Save and load the "
                "handler with the model.",
                stacklevel=2,
            )


class Freeze(_Frozen):
    """Freezes a module until an event.

    From :meth:`attach` on its parameters do not require gradients, and their gradients are deleted. The backward pass
    therefore ends at the module, and optimizers skip its parameters, including weight decay and momentum. The module
    also stays in evaluation mode when the model around it is put into training mode: running means of BatchNorm do not
    change, and Dropout has no effect. At the event, the parameters that required gradients before require them again.
    Give all parameters to the optimizer at the start.

    Put the handler into the ``to_save`` of a :class:`~ignite_core.handlers.Checkpoint`, so that a run that is resumed
    after the event does not freeze the module again.

    DistributedDataParallel registers the parameters that require gradients when it is constructed: construct it before
    this handler is attached, with ``find_unused_parameters=True``.

    Args:
        module: The module, usually a part of a model.
        until: The event that unfreezes it, such as ``Events.EPOCH_STARTED(once=3)``; None: it stays frozen.
        keep_eval: Keep the module in evaluation mode. If False, its mode is that of the model.

    Attributes:
        is_frozen: Whether the module is frozen now.

    Raises:
        TypeError: If ``module`` is not a torch.nn.Module.

    Example:
        >>> import torch
        >>> backbone, head = torch.nn.Linear(2, 2), torch.nn.Linear(2, 1)
        >>> trainer = Engine(lambda engine, batch: backbone.weight.requires_grad)
        >>> handle = Freeze(backbone, until=Events.EPOCH_STARTED(once=3)).attach(trainer)
        >>> @trainer.on(Events.EPOCH_COMPLETED)
        ... def show():
        ...     print(trainer.state.epoch, "trained:", trainer.state.output)
        >>> state = trainer.run([0], max_epochs=3)
        1 trained: False
        2 trained: False
        3 trained: True
    """

    def __init__(self, module: Module, until: EventName | None = None, *, keep_eval: bool = True) -> None:
        super().__init__(module, is_frozen=False)
        self.until = until
        self.keep_eval = keep_eval
        self._frozen: list[Parameter] = []  # those that required gradients before
        self._hooks: list[hooks.RemovableHandle] = []

    def attach(self, engine: Engine) -> RemovableHandle:
        """Freeze the module now, unless it is unfrozen in a loaded state; an event of the engine unfreezes it.

        Returns:
            A handle whose ``remove()`` detaches this handler and unfreezes the module.
        """
        check_engine("Freeze.attach", engine)
        handlers = RemovableHandle() if self.until is None else self._unfreeze_at(engine, self.until)
        if not self._is_loaded:
            self.freeze()
        return RemovableHandle(self.unfreeze, handlers.remove)

    def freeze(self) -> None:
        """Freeze the module now."""
        if self.is_frozen:
            return
        self.is_frozen = True
        self._frozen = [parameter for parameter in self.module.parameters() if parameter.requires_grad]
        for parameter in self._frozen:
            parameter.requires_grad_(False)
            parameter.grad = None
        if self.keep_eval:
            self.module.eval()
            self._hooks = [one.register_forward_pre_hook(_stay_in_eval) for one in self.module.modules()]

    def unfreeze(self) -> None:
        """Unfreeze the parameters that required gradients before."""
        if not self.is_frozen:
            return
        self.is_frozen = False
        for parameter in self._frozen:
            parameter.requires_grad_(True)
        if self.keep_eval:
            self.module.train()
        for hook in self._hooks:
            hook.remove()
        self._frozen, self._hooks = [], []

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        super().load_state_dict(state_dict)
        if state_dict["is_frozen"]:
            self.freeze()


class Unfreeze(_Frozen):
    """Unfreezes at an event a module that was frozen with ``requires_grad_(False)``.

    From then on all its parameters require gradients. Give them to the optimizer at the start. With
    DistributedDataParallel use :class:`Freeze`, as it never synchronises parameters that were frozen when it was
    constructed.

    Put the handler into the ``to_save`` of a :class:`~ignite_core.handlers.Checkpoint`, as with :class:`Freeze`.

    Args:
        module: The module, usually a part of a model.
        at: The event, such as ``Events.EPOCH_STARTED(once=3)``.

    Attributes:
        is_frozen: Whether the event is still to come.

    Raises:
        TypeError: If ``module`` is not a torch.nn.Module.

    Example:
        >>> import torch
        >>> backbone = torch.nn.Linear(2, 2).requires_grad_(False)
        >>> trainer = Engine(lambda engine, batch: None)
        >>> handle = Unfreeze(backbone, at=Events.EPOCH_STARTED(once=2)).attach(trainer)
        >>> state = trainer.run([0], max_epochs=2)
        >>> backbone.weight.requires_grad
        True
    """

    def __init__(self, module: Module, at: EventName) -> None:
        super().__init__(module, is_frozen=True)
        self.at = at

    def attach(self, engine: Engine) -> RemovableHandle:
        """Unfreeze the module at the event of an engine.

        Returns:
            A handle whose ``remove()`` detaches this handler.
        """
        check_engine("Unfreeze.attach", engine)
        return self._unfreeze_at(engine, self.at)

    def unfreeze(self) -> None:
        """Unfreeze the module now."""
        self.is_frozen = False
        for parameter in self.module.parameters():
            if parameter.is_floating_point() or parameter.is_complex():
                parameter.requires_grad_(True)


def _stay_in_eval(module: Module, args: Any) -> None:
    """Hook before each forward pass of a frozen module and of its submodules, which may be called directly."""
    if module.training:
        module.eval()
