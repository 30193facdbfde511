"""A learning rate range test."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

from torch import Tensor
from torch.nn import Module
from torch.optim import Optimizer

from ignite_core.distributed import utils as idist
from ignite_core.engine.engine import Engine
from ignite_core.engine.events import Events
from ignite_core.exceptions import few
from ignite_core.handlers._arguments import check_engine, integer, number
from ignite_core.handlers.checkpoint.states import check_objects, leaves
from ignite_core.handlers.training._lr_ramp import LRRamp, write_lrs
from ignite_core.handlers.training._optimizer_hooks import check_optimizer
from ignite_core.metrics.plotting import axes_for
from ignite_core.snapshot import Snapshot

__all__ = ["FastaiLRFinder"]

_HERE = "FastaiLRFinder"
_ATTACH = "FastaiLRFinder.attach"

#: After all other handlers, so that the learning rate that they write is overwritten.
_LAST = -1_000_000_000


class FastaiLRFinder:
    """Finds a learning rate: trains for some iterations with increasing rates, and records the loss.

    The test uses the trainer itself: ``with finder.attach(trainer, to_save) as trainer: trainer.run(data)``. On exit,
    also after an exception, the model, the optimizer, everything else in ``to_save``, the random generators and the
    trainer are restored bit for bit. Handlers of the trainer are called as usual. What they change must be in
    ``to_save``, so it is best to attach the finder before other handlers, in particular those that write files.

    The run ends early when the loss has diverged, or is NaN or infinite.

    References:
        Smith, 2017, Cyclical learning rates for training neural networks, section 3.3. Howard, Gugger, 2020, fastai: a
        layered API for deep learning.

    Example:
        >>> import torch
        >>> weight = torch.nn.Parameter(torch.tensor([1.0]))
        >>> optimizer = torch.optim.SGD([weight], lr=0.1)
        >>> def step(engine, batch):
        ...     loss = weight.square().sum()
        ...     optimizer.zero_grad()
        ...     loss.backward()
        ...     optimizer.step()
        ...     return loss.item()
        >>> finder = FastaiLRFinder()
        >>> with finder.attach(Engine(step), {"optimizer": optimizer}, num_iter=40, start_lr=1e-3) as trainer:
        ...     state = trainer.run([0] * 10)
        >>> finder.get_results()["lr"][:3], weight.item(), optimizer.param_groups[0]["lr"]
        ([0.001, 0.00126..., 0.00160...], 1.0, 0.1)
        >>> finder.apply_suggested_lr(optimizer)
        >>> 0.1 < optimizer.param_groups[0]["lr"] < 1
        True
    """

    def __init__(self) -> None:
        self.logger = logging.getLogger(f"{__name__}.{type(self).__name__}")
        self._history: dict[str, list[Any]] = {}
        self._best_loss: float | None = None
        self._has_diverged = False
        self._is_attached = False

    @contextmanager
    def attach(
        self,
        trainer: Engine,
        to_save: Mapping[str, Any],
        output_transform: Callable[[Any], Any] = lambda output: output,
        num_iter: int | None = None,
        start_lr: float | Sequence[float] | None = None,
        end_lr: float | Sequence[float] = 10.0,
        step_mode: Literal["exp", "linear"] = "exp",
        smooth_f: float = 0.05,
        diverge_th: float = 5.0,
    ) -> Iterator[Engine]:
        r"""A context in which the next run of the trainer is a range test; on exit everything is restored.

        In iteration :math:`i = 0, 1, \dots, n - 1` the learning rate is :math:`a \, (b / a)^{i / (n - 1)}` for
        ``"exp"`` and :math:`a + (b - a) \, i / (n - 1)` for ``"linear"``, with :math:`a` of ``start_lr`` and :math:`b`
        of ``end_lr``.

        Args:
            trainer: The trainer; in the context it starts from zero, even if it was run before.
            to_save: The objects to restore, by name: the optimizer under the name ``"optimizer"``, the model, and
                everything else that the run changes (schedulers, a scaler, averaged weights).
            output_transform: Function of ``engine.state.output`` that returns the loss: a number, or a tensor with one
                element.
            num_iter: Number of iterations, which overrides the limits given to ``run``; by default those limits.
            start_lr: The first learning rate, above 0; one for all parameter groups, or one for each. By default the
                rates of the optimizer.
            end_lr: The last learning rate, above the first; one for all parameter groups, or one for each.
            step_mode: ``"exp"`` or ``"linear"``.
            smooth_f: Share of the new loss in the recorded one, ``smooth_f * loss + (1 - smooth_f) * previous``; at
                least 0, below 1. With 0 the loss is not smoothed.
            diverge_th: The loss has diverged when the recorded loss exceeds ``diverge_th`` times the best one; at
                least 1.

        Yields:
            The trainer.

        Raises:
            TypeError: If an argument has the wrong type; in the run, if the loss is not a number.
            ValueError: If a number is out of its range, or there is not one number for each parameter group; in the
                run, if the length of an epoch is not known and ``num_iter`` is not given.
            RuntimeError: If the finder is already attached, or the trainer is running.
        """
        _check(trainer, to_save, output_transform)
        ramp = LRRamp(_ATTACH, to_save["optimizer"], num_iter, start_lr, end_lr, step_mode)
        smooth_f = number(_ATTACH, "smooth_f", smooth_f, least=0)
        if not smooth_f < 1:
            raise ValueError(f"{_ATTACH}: smooth_f must be below 1, got {smooth_f}")
        diverge_th = number(_ATTACH, "diverge_th", diverge_th, least=1)
        if self._is_attached or trainer.is_running:
            raise RuntimeError(f"{_ATTACH}: this finder is already attached, or the trainer is running")
        with Snapshot() as snapshot, ExitStack() as handlers:
            snapshot.save_engine(trainer)
            for one in _in_order(to_save):
                if one is not trainer:
                    snapshot.save(one)
            for event, handler, *args in (
                (Events.STARTED, self._begin, ramp, snapshot),
                (Events.ITERATION_STARTED(priority=_LAST), ramp.set_lr),
                (Events.ITERATION_COMPLETED, self._record, ramp, output_transform, smooth_f, diverge_th),
                (Events.COMPLETED, self._end),
            ):
                handlers.enter_context(trainer.add_event_handler(event, handler, *args))
            self._is_attached = True
            try:
                yield trainer
            finally:
                self._is_attached = False

    def get_results(self) -> dict[str, list[Any]]:
        """The lists ``lr`` and ``loss`` of the last run; with several parameter groups ``lr`` is a list of lists."""
        return self._history

    def lr_suggestion(self) -> Any:
        """The learning rate at which the recorded loss fell fastest before its minimum.

        Returns:
            The rate with the smallest central difference ``(loss[i + 1] - loss[i - 1]) / 2``; with several parameter
            groups, a list with that of each.

        Raises:
            RuntimeError: If there was no run, or the loss was lowest in the first two iterations.
        """
        suggested = self._suggested_iteration()
        return self._history["lr"][suggested]

    def apply_suggested_lr(self, optimizer: Optimizer) -> None:
        """Write the suggestion into an optimizer, after the block of :meth:`attach`, which restores the rates.

        Raises:
            RuntimeError: If there is no suggestion, the finder is still attached, or the optimizer has a different
                number of parameter groups.
        """
        if self._is_attached:
            raise RuntimeError(f"{_HERE}.apply_suggested_lr: leave the block of attach() first, which restores the lr")
        suggestion = self.lr_suggestion()
        lrs = suggestion if isinstance(suggestion, list) else [suggestion]
        if len(lrs) != len(optimizer.param_groups):
            raise RuntimeError(
                f"{_HERE}.apply_suggested_lr: the optimizer must have as many parameter groups as the one of the run, "
                f"got {len(optimizer.param_groups)} instead of {len(lrs)}"
            )
        write_lrs(optimizer, lrs)

    def plot(
        self,
        skip_start: int = 10,
        skip_end: int = 5,
        log_lr: bool = True,
        display_suggestion: bool = True,
        ax: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Plot the recorded loss over the learning rate, with a line for each parameter group; requires matplotlib.

        Args:
            skip_start: Number of iterations at the start that are not shown.
            skip_end: Number of iterations at the end that are not shown.
            log_lr: Use a logarithmic axis for the learning rate.
            display_suggestion: Mark the suggestion.
            ax: Axes to draw on; by default new ones.
            kwargs: Arguments of ``pyplot.subplots`` for new axes.

        Returns:
            The axes: ``finder.plot().figure.savefig("lr.png")``.

        Raises:
            RuntimeError: If there was no run, or no suggestion.
            TypeError: If a number is not an integer.
            ValueError: If a number is negative, or fewer than two iterations remain.
            ModuleNotFoundError: If new axes are needed and matplotlib is not installed.
        """
        skip_start = integer(f"{_HERE}.plot", "skip_start", skip_start, least=0)
        skip_end = integer(f"{_HERE}.plot", "skip_end", skip_end, least=0)
        self._refuse_without_run()
        shown = slice(skip_start, len(self._history["loss"]) - skip_end)
        lrs, losses = self._history["lr"][shown], self._history["loss"][shown]
        if len(losses) < 2:
            raise ValueError(
                f"{_HERE}.plot: at least two iterations must remain, got {len(self._history['loss'])} without the "
                f"first {skip_start} and the last {skip_end}; give a smaller skip_start or skip_end"
            )
        suggested = self._suggested_iteration() if display_suggestion else None
        axes = axes_for(f"{_HERE}.plot", ax, **kwargs)
        columns = list(zip(*lrs, strict=True)) if isinstance(lrs[0], list) else [lrs]
        for group, column in enumerate(columns):
            axes.plot(column, losses, label=f"parameter group {group}" if len(columns) > 1 else "loss")
        if suggested is not None:
            self._mark(axes, suggested, shown)
        if log_lr:
            axes.set_xscale("log")
        axes.set_xlim(min(column[0] for column in columns), max(column[-1] for column in columns))
        axes.set_xlabel("Learning rate")
        axes.set_ylabel("Loss")
        axes.legend()
        return axes

    def _mark(self, axes: Any, suggested: int, shown: slice) -> None:
        if not shown.start <= suggested < shown.stop:
            warnings.warn(
                f"{_HERE}.plot: the suggestion, at iteration {suggested}, is not among the plotted iterations, "
                f"{shown.start} to {shown.stop - 1}; give a smaller skip_start or skip_end",
                stacklevel=3,
            )
            return
        suggestion, loss = self._history["lr"][suggested], self._history["loss"][suggested]
        for group, lr in enumerate(suggestion if isinstance(suggestion, list) else [suggestion]):
            where = f" for group {group}" if isinstance(suggestion, list) else ""
            axes.scatter(lr, loss, s=75, zorder=3, color=f"C{group + 3}", label=f"suggested lr{where}: {lr:.3g}")

    def _suggested_iteration(self) -> int:
        """The iteration whose learning rate is suggested, counted from 0."""
        self._refuse_without_run()
        losses = self._history["loss"]
        lowest = losses.index(min(losses)) if losses else 0
        if lowest < 2:
            raise RuntimeError(
                f"{_HERE}.lr_suggestion: the loss must decrease at first, but it was lowest in iteration {lowest} "
                f"of {len(losses)}; give a smaller start_lr or a larger end_lr"
            )
        return min(range(1, lowest), key=lambda i: losses[i + 1] - losses[i - 1])

    def _refuse_without_run(self) -> None:
        if not self._history:
            raise RuntimeError(f"{_HERE}: nothing was recorded yet; run the trainer in the block of attach() first")

    def _begin(self, trainer: Engine, ramp: LRRamp, snapshot: Snapshot) -> None:
        self._history = {"lr": [], "loss": []}
        self._best_loss, self._has_diverged = None, False
        snapshot.save_data(trainer.state.dataloader)
        ramp.set_length(trainer)
        self.logger.debug("Running the LR finder for %d iterations", ramp.length)

    def _record(
        self,
        trainer: Engine,
        ramp: LRRamp,
        output_transform: Callable[[Any], Any],
        smooth_f: float,
        diverge_th: float,
    ) -> None:
        """Record the loss, and end the run if it has diverged."""
        losses = self._history["loss"]
        loss = _mean_over_ranks(_number(output_transform(trainer.state.output)))
        if smooth_f > 0 and losses:
            loss = smooth_f * loss + (1 - smooth_f) * losses[-1]
        if math.isfinite(loss):
            lrs = ramp.lrs(trainer.state.iteration)
            self._history["lr"].append(lrs[0] if len(lrs) == 1 else lrs)
            losses.append(loss)
            best = self._best_loss = loss if self._best_loss is None else min(loss, self._best_loss)
            self._has_diverged = loss > best + (diverge_th - 1) * abs(best)  # valid for negative losses too
        else:
            self._has_diverged = True
        if self._has_diverged:
            self.logger.info("The loss has diverged; ending the run of the LR finder")
            trainer.terminate()

    def _end(self, trainer: Engine) -> None:
        trainer.state.max_iters = None  # another run in the same block starts from zero
        if not self._has_diverged:
            warnings.warn(
                f"{_HERE}: the run has ended and the loss has not diverged; give a larger end_lr or a smaller "
                "diverge_th, or check plot()",
                stacklevel=2,
            )


def _in_order(to_save: Mapping[str, Any]) -> list[Any]:
    """The objects to save: modules and optimizers last to be restored, as restoring others might change them."""
    objects = [one for _, one in leaves(to_save, "state_dict")]
    return sorted(objects, key=lambda one: not isinstance(one, Module | Optimizer))


def _mean_over_ranks(loss: float) -> float:
    ranks = idist.get_world_size()
    if ranks == 1:
        return loss
    total: float = idist.all_reduce(loss)
    return total / ranks


def _number(loss: Any) -> float:
    """The loss as a number; this waits for the device."""
    if isinstance(loss, Tensor) and loss.numel() == 1:
        return float(loss.item())
    if isinstance(loss, int | float) and not isinstance(loss, bool):
        return float(loss)
    got = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else f"{loss!r}"
    raise TypeError(
        f"{_HERE}: the loss must be a number, or a tensor with one element, got {got}; give an output_transform that "
        "extracts it from the output, such as attach(trainer, to_save, output_transform=lambda out: out['loss'])"
    )


def _check(trainer: Any, to_save: Any, output_transform: Any) -> None:
    """Check the types of the arguments of ``attach``."""
    check_engine(_ATTACH, trainer, "trainer")
    check_objects(to_save, "state_dict", _ATTACH)
    check_objects(to_save, "load_state_dict", _ATTACH)
    if "optimizer" not in to_save:
        raise ValueError(f"{_ATTACH}: to_save must have the key 'optimizer', got {few(to_save)}")
    check_optimizer(_ATTACH, to_save["optimizer"])
    if not callable(output_transform):
        raise TypeError(f"{_ATTACH}: output_transform must be callable, got {output_transform!r}")
