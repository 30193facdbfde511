"""Keep a part of a model as it is for a while, as in fine-tuning."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from torch.nn import Module, Parameter
from torch.utils.hooks import RemovableHandle

from ignite_core.engine.engine import Engine
from ignite_core.engine.events import Events
from ignite_core.handlers._arguments import check_engine, check_keys

__all__ = ["Freeze", "Unfreeze"]


class _Frozen(ABC):
    """What :class:`Freeze` and :class:`Unfreeze` share: an event lets a module be trained, and that is saved."""

    def __init__(self, module: Module, is_frozen: bool) -> None:
        if not isinstance(module, Module):
            raise TypeError(f"{type(self).__name__}: module must be a torch.nn.Module, got {module!r}")
        self.module = module
        self.is_frozen = is_frozen
        self._is_loaded = False

    @abstractmethod
    def unfreeze(self) -> None:
        """Let the module be trained from now on."""

    def state_dict(self) -> OrderedDict[str, bool]:
        """``is_frozen``."""
        return OrderedDict(is_frozen=self.is_frozen)

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Let the module be trained, or not, as it was when this was saved.

        Raises:
            TypeError: If it is not a mapping.
            ValueError: If the key is missing.
        """
        check_keys(type(self).__name__, state_dict, ["is_frozen"])
        self._is_loaded = True
        if not state_dict["is_frozen"]:
            self.unfreeze()

    def _unfreeze_at(self, engine: Engine, event: Any) -> None:
        engine.add_event_handler(event, self.unfreeze)
        engine.add_event_handler(Events.STARTED, self._warn_if_forgotten)

    def _warn_if_forgotten(self, engine: Engine) -> None:
        if engine.is_resumed and not self._is_loaded:
            warnings.warn(
                f"{type(self).__name__}: the run goes on from iteration {engine.state.iteration}, but the state of "
                "this handler was not loaded: if its event has passed, the module stays frozen. Save and load the "
                "handler with the model.",
                stacklevel=2,
            )


class Freeze(_Frozen):
    """Keeps a module from being trained, until an event.

    Its parameters need no gradient from :meth:`attach` on, and lose the one they have; so the backward pass ends at it,
    and optimizers pass over it, weight decay and momentum included. It also stays in evaluation mode, whoever puts
    the model around it into training mode: running means of BatchNorm do not move, Dropout does nothing. At the event,
    the parameters that were trained before are trained again. Give all parameters to the optimizer at the start.

    Put the handler into the ``to_save`` of a :class:`~ignite_core.handlers.Checkpoint`: a run that goes on after the
    event must know that it has passed.

    DistributedDataParallel looks at what needs gradients when it is made: make it before you attach this, with
    ``find_unused_parameters=True``.

    Args:
        module: Mostly a part of a model.
        until: The event that ends it, as ``Events.EPOCH_STARTED(once=3)``; None: it stays frozen.
        keep_eval: Keep it in evaluation mode; else whoever sets the mode of the model sets that of the module too.

    Attributes:
        is_frozen: Whether it is frozen now.

    Raises:
        TypeError: If ``module`` is none.

    Example:
        >>> import torch
        >>> backbone, head = torch.nn.Linear(2, 2), torch.nn.Linear(2, 1)
        >>> trainer = Engine(lambda engine, batch: backbone.weight.requires_grad)
        >>> Freeze(backbone, until=Events.EPOCH_STARTED(once=3)).attach(trainer)
        >>> @trainer.on(Events.EPOCH_COMPLETED)
        ... def show():
        ...     print(trainer.state.epoch, "trained:", trainer.state.output)
        >>> state = trainer.run([0], max_epochs=3)
        1 trained: False
        2 trained: False
        3 trained: True
    """

    def __init__(self, module: Module, until: Any = None, *, keep_eval: bool = True) -> None:
        super().__init__(module, is_frozen=False)
        self.until = until
        self.keep_eval = keep_eval
        self._held: list[Parameter] = []  # those that were trained before
        self._hooks: list[RemovableHandle] = []

    def attach(self, engine: Engine) -> None:
        """Freeze the module now, unless a loaded state says that this is over; an event of the engine ends it.

        Raises:
            TypeError: If ``engine`` is no engine.
        """
        check_engine("Freeze.attach", engine)
        if not self._is_loaded:
            self.freeze()
        if self.until is not None:
            self._unfreeze_at(engine, self.until)

    def freeze(self) -> None:
        """Freeze the module now."""
        if self.is_frozen:
            return
        self.is_frozen = True
        self._held = [parameter for parameter in self.module.parameters() if parameter.requires_grad]
        for parameter in self._held:
            parameter.requires_grad_(False)
            parameter.grad = None
        if self.keep_eval:
            self.module.eval()
            self._hooks = [one.register_forward_pre_hook(_stay_in_eval) for one in self.module.modules()]

    def unfreeze(self) -> None:
        """Let what was trained before be trained again."""
        if not self.is_frozen:
            return
        self.is_frozen = False
        for parameter in self._held:
            parameter.requires_grad_(True)
        if self.keep_eval:
            self.module.train()
        for hook in self._hooks:
            hook.remove()
        self._held, self._hooks = [], []

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        super().load_state_dict(state_dict)
        if state_dict["is_frozen"]:
            self.freeze()


class Unfreeze(_Frozen):
    """Lets a module be trained from an event on, which you have frozen yourself by ``requires_grad_(False)``.

    All its parameters that need no gradient then need one. Give them to the optimizer at the start. With
    DistributedDataParallel use :class:`Freeze`: it would never synchronise what was frozen when it was made.

    Put the handler into the ``to_save`` of a :class:`~ignite_core.handlers.Checkpoint`, as with :class:`Freeze`.

    Args:
        module: Mostly a part of a model.
        at: The event, as ``Events.EPOCH_STARTED(once=3)``.

    Attributes:
        is_frozen: Whether the event is still to come.

    Raises:
        TypeError: If ``module`` is none.

    Example:
        >>> import torch
        >>> backbone = torch.nn.Linear(2, 2).requires_grad_(False)
        >>> trainer = Engine(lambda engine, batch: None)
        >>> Unfreeze(backbone, at=Events.EPOCH_STARTED(once=2)).attach(trainer)
        >>> state = trainer.run([0], max_epochs=2)
        >>> backbone.weight.requires_grad
        True
    """

    def __init__(self, module: Module, at: Any) -> None:
        super().__init__(module, is_frozen=True)
        self.at = at

    def attach(self, engine: Engine) -> None:
        """Wait for the event.

        Raises:
            TypeError: If ``engine`` is no engine.
        """
        check_engine("Unfreeze.attach", engine)
        self._unfreeze_at(engine, self.at)

    def unfreeze(self) -> None:
        """Let the module be trained from now on."""
        self.is_frozen = False
        for parameter in self.module.parameters():
            if parameter.is_floating_point() or parameter.is_complex():
                parameter.requires_grad_(True)


def _stay_in_eval(module: Module, args: Any) -> None:
    """Before each forward pass of a frozen module, and of those in it, as they may be called by themselves."""
    if module.training:
        module.eval()
