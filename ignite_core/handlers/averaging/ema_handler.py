"""An exponential moving average of the weights of a model."""

from __future__ import annotations

import copy
import warnings
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch.nn import Module

from ignite_core.engine.engine import Engine
from ignite_core.engine.events import Events, EventsList
from ignite_core.handlers._arguments import check_engine, check_keys, choice, integer, number
from ignite_core.handlers.averaging._pairs import AveragedWeights, Pairs, online_model, warn_of_rounding
from ignite_core.handlers.checkpoint.states import unwrapped

__all__ = ["EMAHandler", "EMAWarmUp"]

_HERE = "EMAHandler"

#: After handlers that load weights when a run starts.
_LATE = -1000


class EMAWarmUp:
    """The momentum of each update: from one value to another on a straight line, then the other.

    Args:
        momentum_warmup: Of the first update.
        warmup_iters: So many updates, the first and the last of the line included; of 1, the line is a jump.
        momentum: Of the last of these, and of all after it.

    Attributes:
        event_index: Updates done.

    Example:
        >>> warm_up = EMAWarmUp(momentum_warmup=0.25, warmup_iters=3, momentum=0.75)
        >>> [warm_up(update) for update in (1, 2, 3, 4)]
        [0.25, 0.5, 0.75, 0.75]
    """

    def __init__(self, momentum_warmup: float, warmup_iters: int, momentum: float) -> None:
        self.momentum_warmup = momentum_warmup
        self.warmup_iters = warmup_iters
        self.momentum = momentum
        self.event_index = 0

    def __call__(self, event_index: int) -> float:
        """The momentum of an update; the first is 1."""
        share = (event_index - 1) / max(1, self.warmup_iters - 1)
        if share >= 1:
            return self.momentum
        return self.momentum_warmup + (self.momentum - self.momentum_warmup) * share

    def state_dict(self) -> OrderedDict[str, int]:
        """``event_index``."""
        return OrderedDict(event_index=self.event_index)

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state_dict` saved, here or in pytorch-ignite.

        Raises:
            TypeError: If it is not a mapping with an integer.
            ValueError: If the key is missing, or the number negative.
        """
        check_keys("EMAWarmUp", state_dict, ["event_index"])
        self.event_index = integer("EMAWarmUp", "event_index", state_dict["event_index"], least=0)


class EMAHandler(AveragedWeights):
    r"""Keeps a copy of a model whose weights follow those of the model slowly.

    At each update, with the momentum :math:`\lambda`,

    .. math:: \theta_\text{EMA} \leftarrow (1 - \lambda)\, \theta_\text{EMA} + \lambda\, \theta

    in one ``torch._foreach_lerp_`` for each device and dtype. Updates are made in the dtype of the model: one of
    bfloat16 or float16 rounds small steps away, so keep the weights in float32, as autocast does.

    The average begins with the weights of the model when the run starts, or, where updates begin later
    (``ITERATION_COMPLETED(after=1000)``), with those at the first update. Until then there is no average:
    :meth:`swapped_in` leaves the model as it is, and ``ema_model`` holds the weights that it began with, or, where
    updates begin later, those at the end of the last epoch.

    To resume exactly, put the handler itself into the ``to_save`` of a :class:`~ignite_core.handlers.Checkpoint`;
    or, as in pytorch-ignite, ``ema_model``, and with a warm-up ``momentum_scheduler``.

    Args:
        model: On its device already. A model that is sharded (FSDP2) is refused.
        momentum: Above 0, below 1.
        momentum_warmup: The momentum of the first update; in the next ones it moves to ``momentum``.
        warmup_iters: The number of the update at which it has arrived, at least 1. It goes with ``momentum_warmup``.
        handle_buffers: What happens to buffers, as running means of BatchNorm. ``"copy"``: they are those of the model;
            ``"update"``: they are averaged too, but copied where they are no floating point numbers; ``"ema_train"``:
            ``ema_model`` is in training mode and left to change its buffers itself.

    Attributes:
        model: The model, without DistributedDataParallel and torch.compile around it.
        ema_model: The copy; in evaluation mode, but for ``"ema_train"``. It needs no gradients.
        momentum_scheduler: The :class:`EMAWarmUp`; None without warm-up.

    Raises:
        TypeError: If the model or a number is none, or the model sharded.
        ValueError: If a number is out of its range, ``handle_buffers`` is none of these, or one of the two arguments of
            the warm-up is missing.

    References:
        Polyak, Juditsky, 1992, Acceleration of stochastic approximation by averaging. Tarvainen, Valpola, 2017, Mean
        teachers are better role models, section 2.

    Example:
        >>> model = torch.nn.Linear(1, 1, bias=False)
        >>> _ = torch.nn.init.constant_(model.weight, 0.0)
        >>> trainer = Engine(lambda engine, batch: torch.nn.init.constant_(model.weight, 1.0))
        >>> ema = EMAHandler(model, momentum=0.5)
        >>> ema.attach(trainer)
        >>> state = trainer.run([1, 2])
        >>> ema.ema_model.weight.item()
        0.75
        >>> with ema.swapped_in():
        ...     model.weight.item()
        0.75
        >>> model.weight.item()
        1.0
    """

    def __init__(
        self,
        model: Module,
        momentum: float = 0.0002,
        momentum_warmup: float | None = None,
        warmup_iters: int | None = None,
        handle_buffers: Literal["copy", "update", "ema_train"] = "copy",
    ) -> None:
        self.momentum = _momentum("momentum", momentum)
        self.momentum_scheduler = _warm_up(momentum_warmup, warmup_iters, self.momentum)
        self.handle_buffers = choice(_HERE, "handle_buffers", handle_buffers, ("copy", "update", "ema_train"))
        online = online_model(_HERE, model)
        self.ema_model = copy.deepcopy(online).requires_grad_(False).train(handle_buffers == "ema_train")
        super().__init__(online, self.ema_model)
        warn_of_rounding(_HERE, online, self.momentum)
        self._updates = 0
        self._is_late = False
        self._written = self._versions()

    def attach(
        self,
        engine: Engine,
        name: str = "ema_momentum",
        warn_if_exists: bool = True,
        event: Any = Events.ITERATION_COMPLETED,
    ) -> None:
        """Update the average at an event of an engine.

        Args:
            engine: The trainer.
            name: The attribute of ``engine.state`` with the momentum. Each update reads it, so it may be changed; but
                in a warm-up each update writes it first.
            warn_if_exists: Warn if the state has that attribute already: it is left as it is.
            event: Where batches are accumulated, name the moment at which the weights have moved, as
                ``StepEvents.OPTIM_STEP_COMPLETED`` or ``ITERATION_COMPLETED(every=4)``; else weights that have not
                moved count several times.

        Raises:
            TypeError: If ``engine`` is no engine, or the name no string.
        """
        check_engine("EMAHandler.attach", engine)
        if not isinstance(name, str):
            raise TypeError(f"EMAHandler.attach: name must be a string, got {name!r}")
        if not hasattr(engine.state, name):
            setattr(engine.state, name, self._present_momentum())
        elif warn_if_exists:
            warnings.warn(
                f"EMAHandler.attach: engine.state has an attribute {name!r} already, from a state that was loaded or "
                "from another handler; it is used as it is. Give another name, or warn_if_exists=False.",
                stacklevel=2,
            )
        self._is_late = _begins_later(event)
        engine.add_event_handler(Events.STARTED(priority=_LATE), self._begin)
        if self._is_late:
            engine.add_event_handler(Events.EPOCH_COMPLETED(priority=-_LATE), self._follow)
        engine.add_event_handler(event, self._update, name)
        if self.momentum_scheduler is not None:
            engine.add_event_handler(Events.STARTED, self._show_momentum, name)

    def state_dict(self) -> OrderedDict[str, Any]:
        """``ema_model``, ``updates``, those done, and in a warm-up ``event_index``, which are these too.

        Raises:
            RuntimeError: If the averaged weights are swapped in.
        """
        self._refuse_if_swapped_in("state_dict")
        state: OrderedDict[str, Any] = OrderedDict(ema_model=unwrapped(self.ema_model).state_dict())
        state["updates"] = self._updates
        if self.momentum_scheduler is not None:
            state.update(self.momentum_scheduler.state_dict())
        return state

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state_dict` saved.

        Raises:
            TypeError: If it is not a mapping.
            ValueError: If a key is missing.
            RuntimeError: If the averaged weights are swapped in, or are those of another model.
        """
        self._refuse_if_swapped_in("load_state_dict")
        check_keys("EMAHandler", state_dict, ["ema_model"])
        updates = integer(_HERE, "updates", state_dict.get("updates", 1), least=0)
        if self.momentum_scheduler is not None:
            self.momentum_scheduler.load_state_dict(state_dict)
        unwrapped(self.ema_model).load_state_dict(state_dict["ema_model"])
        self._updates, self._has_begun, self._written = updates, True, self._versions()

    def _is_average(self) -> bool:
        return self._updates > 0 or self._is_given()

    def _is_given(self) -> bool:
        """Whether others have written into ``ema_model``, as a checkpoint that holds it does."""
        return self._written != self._versions()

    def _versions(self) -> list[Any]:
        """What changes when parameters of the average are written."""
        return [(id(one), 0 if one.is_inference() else one._version) for one in self.ema_model.parameters()]

    def _take_over(self) -> None:
        super()._take_over()
        self._written = self._versions()

    def _present_momentum(self) -> float:
        """That of the last update; before the first one, of that."""
        warm_up = self.momentum_scheduler
        return self.momentum if warm_up is None else warm_up(max(1, warm_up.event_index))

    def _show_momentum(self, engine: Engine, name: str) -> None:
        """The warm-up may have been loaded since it was attached."""
        setattr(engine.state, name, self._present_momentum())

    def _update(self, engine: Engine, name: str) -> None:
        warm_up = self.momentum_scheduler
        if self._is_swapped_in:
            self._refuse_if_swapped_in("update")
        if warm_up is not None:
            warm_up.event_index += 1
            setattr(engine.state, name, warm_up(warm_up.event_index))
        momentum = getattr(engine.state, name)
        if not self._updates and self._is_late:
            self._follow()
        self._updates += 1
        pairs = self._current_pairs()
        with torch.no_grad():
            for ours, theirs in pairs.parameters:
                torch._foreach_lerp_(ours, theirs, momentum)
            for one, other in pairs.unlike:
                one.lerp_(other.to(one), momentum)
            if self.handle_buffers != "ema_train":
                _take_buffers(pairs, momentum if self.handle_buffers == "update" else None)


def _take_buffers(pairs: Pairs, momentum: float | None) -> None:
    """Average the buffers that can be; copy the others, or all of them."""
    for ours, theirs in pairs.floats:
        if momentum is None:
            torch._foreach_copy_(ours, theirs)
        else:
            torch._foreach_lerp_(ours, theirs, momentum)
    for ours, theirs in pairs.others:
        torch._foreach_copy_(ours, theirs)
    for one, other in pairs.unlike_buffers:
        if momentum is not None and one.is_floating_point():
            one.lerp_(other.to(one), momentum)
        else:
            one.copy_(other)


def _begins_later(event: Any) -> bool:
    """Whether the first updates of a run are left out."""
    filters = [getattr(one, "filter", None) for one in (event if isinstance(event, EventsList) else [event])]
    whens = [one.when for one in filters if one is not None and one.when is not None]
    return any((when.after or 0) > 0 or (when.once and when.once[0] > 1) for when in whens)


def _momentum(name: str, value: Any) -> float:
    momentum = number(_HERE, name, value, above=0)
    if not momentum < 1:
        raise ValueError(f"{_HERE}: {name} must be below 1, got {value}")
    return momentum


def _warm_up(momentum_warmup: Any, warmup_iters: Any, momentum: float) -> EMAWarmUp | None:
    if (momentum_warmup is None) != (warmup_iters is None):
        raise ValueError(
            f"{_HERE}: momentum_warmup and warmup_iters go together, got {momentum_warmup} and {warmup_iters}"
        )
    if momentum_warmup is None:
        return None
    first = _momentum("momentum_warmup", momentum_warmup)
    return EMAWarmUp(first, integer(_HERE, "warmup_iters", warmup_iters, least=1), momentum)
