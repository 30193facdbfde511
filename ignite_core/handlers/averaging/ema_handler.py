"""An exponential moving average of the weights of a model."""

from __future__ import annotations

import copy
import warnings
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, Literal

import torch
from torch.nn import Module

from ignite_core.engine.engine import Engine
from ignite_core.engine.events import EventName, Events, EventsList
from ignite_core.engine.registration import RemovableHandle
from ignite_core.handlers._arguments import check_engine, check_keys, choice, integer, number
from ignite_core.handlers.averaging._pairs import AveragedWeights, Pairs, online_model, warn_of_rounding
from ignite_core.handlers.checkpoint.states import unwrapped

__all__ = ["EMAHandler", "EMAWarmUp"]

_HERE = "EMAHandler"

#: After handlers of ``STARTED`` that load weights.
_LATE = -1000


class EMAWarmUp:
    """The momentum of each update: a straight line from one value to another, then constant.

    Args:
        momentum_warmup: Momentum of the first update.
        warmup_iters: Number of updates on the line, the first and the last included; with 1 there is no line.
        momentum: Momentum of the last update on the line and of all after it.

    Attributes:
        event_index: Number of updates so far.

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
        """Continue from what :meth:`state_dict` saved, in this library or in pytorch-ignite.

        Raises:
            ValueError: If the key is missing, or the number is negative.
        """
        check_keys("EMAWarmUp", state_dict, ["event_index"])
        self.event_index = integer("EMAWarmUp", "event_index", state_dict["event_index"], least=0)


class EMAHandler(AveragedWeights):
    r"""Keeps a copy of a model with the exponential moving average of its weights.

    With the momentum :math:`\lambda`, each update computes

    .. math:: \theta_\text{EMA} \leftarrow (1 - \lambda)\, \theta_\text{EMA} + \lambda\, \theta

    in one ``torch._foreach_lerp_`` for each device and dtype. Updates have the dtype of the model. As bfloat16 and
    float16 round small updates to zero, keep the weights in float32, as autocast does.

    The average starts from the weights of the model at the start of the run, or, if updates begin later
    (``ITERATION_COMPLETED(after=1000)``), at the first update. Before that there is no average: :meth:`swapped_in` does
    not change the model, and ``ema_model`` has the weights at the start of the run, or, if updates begin later, those
    at the end of the last epoch.

    To resume exactly, put the handler itself into the ``to_save`` of a :class:`~ignite_core.handlers.Checkpoint`;
    or, as in pytorch-ignite, ``ema_model`` and, with a warm-up, ``momentum_scheduler``.

    Args:
        model: The model, already on its device. A sharded model (FSDP2) is refused.
        momentum: The momentum, above 0 and below 1.
        momentum_warmup: Momentum of the first update; it then moves linearly to ``momentum``.
        warmup_iters: Number of the update that reaches ``momentum``, at least 1. Required with ``momentum_warmup``.
        handle_buffers: How buffers, such as running means of BatchNorm, are treated. ``"copy"``: they are copied from
            the model. ``"update"``: they are averaged too, or copied if they are not floating point numbers.
            ``"ema_train"``: they are not written, and ``ema_model`` is in training mode, so that it can update them.

    Attributes:
        model: The model, without DistributedDataParallel and torch.compile around it.
        ema_model: The copy; in evaluation mode, except for ``"ema_train"``. It does not require gradients.
        momentum_scheduler: The :class:`EMAWarmUp`; None without warm-up.

    Raises:
        TypeError: If the model is not a module or is sharded, or a number is not a number.
        ValueError: If a number is out of its range, ``handle_buffers`` is unknown, or one of the two arguments of the
            warm-up is missing.

    References:
        Polyak, Juditsky, 1992, Acceleration of stochastic approximation by averaging. Tarvainen, Valpola, 2017, Mean
        teachers are better role models, section 2.

    Example:
        >>> model = torch.nn.Linear(1, 1, bias=False)
        >>> _ = torch.nn.init.constant_(model.weight, 0.0)
        >>> trainer = Engine(lambda engine, batch: torch.nn.init.constant_(model.weight, 1.0))
        >>> ema = EMAHandler(model, momentum=0.5)
        >>> handle = ema.attach(trainer)
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
        self._begins_later = False
        self._written = self._versions()

    def attach(
        self,
        engine: Engine,
        name: str = "ema_momentum",
        warn_if_exists: bool = True,
        event: EventName = Events.ITERATION_COMPLETED,
    ) -> RemovableHandle:
        """Update the average at an event of an engine.

        Args:
            engine: The trainer.
            name: Name of the attribute of ``engine.state`` with the momentum. Each update reads it, so it can be
                changed; during a warm-up each update writes it first.
            warn_if_exists: Warn if the state already has that attribute; it is not overwritten.
            event: With gradient accumulation, an event at which the weights have changed, such as
                ``StepEvents.OPTIM_STEP_COMPLETED`` or ``ITERATION_COMPLETED(every=4)``; otherwise unchanged weights
                are counted several times.

        Returns:
            A handle whose ``remove()`` detaches the handler, and deletes the attribute if it was created here.

        Raises:
            TypeError: If ``engine`` is not an Engine, or the name is not a string.
        """
        check_engine("EMAHandler.attach", engine)
        if not isinstance(name, str):
            raise TypeError(f"EMAHandler.attach: name must be a string, got {name!r}")
        self._begins_later = _begins_later(event)
        with ExitStack() as attached:
            if not hasattr(engine.state, name):
                setattr(engine.state, name, self._current_momentum())
                attached.callback(_delete_attribute, engine.state, name)
            elif warn_if_exists:
                warnings.warn(
                    f"EMAHandler.attach: engine.state already has an attribute {name!r}, from a loaded state or "
                    "another handler; it is not overwritten. Give another name, or warn_if_exists=False.",
                    stacklevel=2,
                )
            attached.enter_context(engine.add_event_handler(Events.STARTED(priority=_LATE), self._begin))
            if self._begins_later:
                last = Events.EPOCH_COMPLETED(priority=-_LATE)
                attached.enter_context(engine.add_event_handler(last, self._follow))
            attached.enter_context(engine.add_event_handler(event, self._update, name))
            if self.momentum_scheduler is not None:
                attached.enter_context(engine.add_event_handler(Events.STARTED, self._show_momentum, name))
            return RemovableHandle(attached.pop_all().close)

    def state_dict(self) -> OrderedDict[str, Any]:
        """``ema_model``; ``updates``, their number so far; with a warm-up also ``event_index``, the same number.

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
        """Continue from what :meth:`state_dict` saved.

        Raises:
            ValueError: If a key is missing.
            RuntimeError: If the averaged weights are swapped in, or belong to another model.
        """
        self._refuse_if_swapped_in("load_state_dict")
        check_keys("EMAHandler", state_dict, ["ema_model"])
        updates = integer(_HERE, "updates", state_dict.get("updates", 1), least=0)
        if self.momentum_scheduler is not None:
            self.momentum_scheduler.load_state_dict(state_dict)
        unwrapped(self.ema_model).load_state_dict(state_dict["ema_model"])
        self._updates, self._has_begun, self._written = updates, True, self._versions()

    def _is_average(self) -> bool:
        """Whether there was an update, or ``ema_model`` was written from outside, such as from a checkpoint."""
        return self._updates > 0 or self._written != self._versions()

    def _versions(self) -> list[Any]:
        """Identities and versions of the parameters, which change when they are written."""
        return [(id(one), 0 if one.is_inference() else one._version) for one in self.ema_model.parameters()]

    def _copy_model(self) -> None:
        super()._copy_model()
        self._written = self._versions()

    def _current_momentum(self) -> float:
        """The momentum of the last update, or before the first update its momentum."""
        warm_up = self.momentum_scheduler
        return self.momentum if warm_up is None else warm_up(max(1, warm_up.event_index))

    def _show_momentum(self, engine: Engine, name: str) -> None:
        """Write the momentum again, as the warm-up may have been loaded after ``attach``."""
        setattr(engine.state, name, self._current_momentum())

    def _update(self, engine: Engine, name: str) -> None:
        warm_up = self.momentum_scheduler
        if self._is_swapped_in:
            self._refuse_if_swapped_in("update")
        if warm_up is not None:
            warm_up.event_index += 1
            setattr(engine.state, name, warm_up(warm_up.event_index))
        momentum = getattr(engine.state, name)
        if not self._updates and self._begins_later:
            self._follow()
        self._updates += 1
        pairs = self._current_pairs()
        with torch.no_grad():
            for ours, theirs in pairs.parameters:
                torch._foreach_lerp_(ours, theirs, momentum)
            for one, other in pairs.unlike:
                one.lerp_(other.to(one), momentum)
            if self.handle_buffers != "ema_train":
                _update_buffers(pairs, momentum if self.handle_buffers == "update" else None)


def _update_buffers(pairs: Pairs, momentum: float | None) -> None:
    """Average the floating point buffers and copy the others; copy all if momentum is None."""
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


def _begins_later(event: EventName) -> bool:
    """Whether the filter of an event skips the first updates of a run."""
    filters = [getattr(one, "filter", None) for one in (event if isinstance(event, EventsList) else [event])]
    whens = [one.when for one in filters if one is not None and one.when is not None]
    return any((when.after or 0) > 0 or (when.once and when.once[0] > 1) for when in whens)


def _delete_attribute(owner: Any, name: str) -> None:
    if hasattr(owner, name):
        delattr(owner, name)


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
