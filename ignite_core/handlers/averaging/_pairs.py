"""A model beside a copy of it that holds averaged weights: their tensors in pairs, and exchanging the two."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import chain
from operator import is_, methodcaller
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import DataParallel, Module

from ignite_core.engine.engine import Engine
from ignite_core.handlers.checkpoint.states import unwrapped

__all__ = ["AveragedWeights", "Pairs", "online_model", "warn_of_rounding"]

#: Tensors of the copy, and beside each that of the model.
Columns = tuple[list[Tensor], list[Tensor]]

_END: Final = (object(),)
_values = methodcaller("values")


def online_model(where: str, model: Any) -> Module:
    """The model that is trained, without DistributedDataParallel and torch.compile around it.

    Raises:
        TypeError: If it is no module, or a sharded one.
    """
    if not isinstance(model, Module):
        raise TypeError(f"{where}: model must be a torch.nn.Module, got {model!r}")
    inner = model if isinstance(model, DataParallel) else unwrapped(model)
    assert isinstance(inner, Module)
    _refuse_sharded(where, inner)
    return inner


def warn_of_rounding(where: str, model: Module, momentum: float) -> None:
    """Warn if weights that differ by a tenth would not move in the dtype of the model, by a step of this momentum."""
    kinds = {one.dtype for one in model.parameters() if one.is_floating_point()}
    stuck = sorted(str(kind) for kind in kinds if torch.finfo(kind).eps / 2 > momentum / 10)
    if stuck:
        warnings.warn(
            f"{where}: the average is kept in the dtype of the model, and {', '.join(stuck)} rounds most of its small "
            "steps away; keep the weights in float32 and compute in lower precision by autocast",
            stacklevel=3,
        )


class Pairs:
    """The tensors of a model and of its copy, collected once, in lists that ``torch._foreach`` functions take.

    Args:
        where: Who collects them, for error messages.
        model: Its parameters must be those of the copy by name and shape.
        copy: Gets the buffers of the model that it does not have in this shape.

    Attributes:
        parameters: Lists of one device and dtype each.
        floats: So are these, of buffers that can be averaged.
        others: And these, of the other buffers.
        unlike: Parameters, then buffers, that have another device or dtype than in the copy.

    Raises:
        ValueError: If the parameters are not those of the copy.
    """

    __slots__ = ("_held", "_tables", "floats", "others", "parameters", "unlike", "unlike_buffers")

    def __init__(self, where: str, model: Module, copy: Module) -> None:
        _refuse_sharded(where, model)
        theirs, ours = dict(model.named_parameters()), dict(copy.named_parameters())
        _check_same(where, theirs, ours)
        self.unlike: list[tuple[Tensor, Tensor]] = []
        self.unlike_buffers: list[tuple[Tensor, Tensor]] = []
        self.parameters = _columns(((ours[name], theirs[name]) for name in theirs), self.unlike)
        columns = _columns(_buffers(model, copy), self.unlike_buffers)
        self.floats = [column for column in columns if _can_be_averaged(column[0][0])]
        self.others = [column for column in columns if not _can_be_averaged(column[0][0])]
        modules = [*model.modules(), *copy.modules()]
        self._tables = [table for one in modules for table in (one._parameters, one._buffers, one._modules)]
        self._held = list(self._walk())

    def are_current(self) -> bool:
        """Whether these are still the tensors of both; some may have been replaced."""
        return all(map(is_, self._walk(), self._held))

    @torch.no_grad()
    def copy(self) -> None:
        """Give the copy the values of the model."""
        for ours, theirs in (*self.parameters, *self.floats, *self.others):
            torch._foreach_copy_(ours, theirs)
        for one, other in self.unlike + self.unlike_buffers:
            one.copy_(other)

    def exchange(self) -> None:
        """Give the model the values of the copy, and the copy those of the model; both, or if that fails neither.

        Raises:
            TypeError: If two tensors differ in dtype, so that this could not be undone exactly.
        """
        both = [pair for column in (*self.parameters, *self.floats, *self.others) for pair in zip(*column, strict=True)]
        both += self.unlike + self.unlike_buffers
        for one, other in both:
            if one.dtype != other.dtype:
                raise TypeError(f"averaged weights of {one.dtype} cannot be swapped in for weights of {other.dtype}")
        done: list[tuple[Tensor, Tensor]] = []
        values: tuple[Tensor, ...] = ()
        try:
            for pair in both:
                values = (pair[0].clone(), pair[1].clone())  # Ctrl-C may come between any two lines
                pair[0].copy_(values[1])
                pair[1].copy_(values[0])
                done.append(pair)
                values = ()
        except BaseException:
            if values and not (done and done[-1] is pair):
                pair[0].copy_(values[0])
                pair[1].copy_(values[1])
            for one, other in done:
                value = one.clone()
                one.copy_(other)
                other.copy_(value)
            raise

    def _walk(self) -> Iterator[Any]:
        return chain(chain.from_iterable(map(_values, self._tables)), _END)


class AveragedWeights:
    """What averages the weights of a model in a copy of it; the base of handlers that do.

    Args:
        model: The model that is trained.
        copy: Holds the average.
    """

    def __init__(self, model: Module, copy: Module) -> None:
        self.model = model
        self._copy = copy
        self._is_swapped_in = False
        self._has_begun = False  # the copy was given the weights of the model at the start of a run, or was loaded
        self._pairs: Pairs | None = None

    @contextmanager
    def swapped_in(self) -> Iterator[Module]:
        """Inside, the model holds the averaged weights and buffers, and its own are put by; afterwards it is as before.

        It takes no memory but that of two tensors at a time. Save no checkpoint inside that is to be resumed from: it
        would hold the averaged weights as those of the model.

        Yields:
            The model.

        Raises:
            RuntimeError: If they are swapped in already.
        """
        self._refuse_if_swapped_in("swapped_in")
        if not self._is_average():
            yield self.model
            return
        self._exchange()
        self._is_swapped_in = True
        try:
            yield self.model
        finally:
            self._is_swapped_in = False
            try:
                self._exchange()
            except KeyboardInterrupt:  # the exchange was undone, but the model must have its own weights
                self._exchange()
                raise

    def swap_in_during(self, evaluator: Engine) -> None:
        """Let each run of an engine happen inside :meth:`swapped_in`, all its handlers included.

        Raises:
            TypeError: If it is no engine.
        """
        if not isinstance(evaluator, Engine):
            raise TypeError(f"{type(self).__name__}.swap_in_during: takes an Engine, got {evaluator!r}")
        evaluator.add_run_context(self._during)

    def _during(self, evaluator: Engine) -> AbstractContextManager[Module]:
        return self.swapped_in()

    def _is_average(self) -> bool:
        """Whether there is an average that can be swapped in."""
        return True

    def _begin(self, engine: Engine) -> None:
        """Begin with the weights that the run begins with, which may have been loaded since this was made."""
        if not (self._has_begun and engine.state.iteration):
            self._follow()

    def _follow(self) -> None:
        """Until there is an average, the copy holds what the model does."""
        if not self._is_average():
            self._take_over()

    def _take_over(self) -> None:
        self._current_pairs().copy()
        self._has_begun = True

    def _current_pairs(self) -> Pairs:
        pairs = self._pairs
        if pairs is None or not pairs.are_current():
            pairs = self._pairs = Pairs(type(self).__name__, self.model, self._copy)
        return pairs

    def _refuse_if_swapped_in(self, what: str) -> None:
        if self._is_swapped_in:
            raise RuntimeError(
                f"{type(self).__name__}.{what}: the averaged weights are swapped in for those of the model; leave "
                "swapped_in(), or end the evaluation, first"
            )

    @torch.no_grad()
    def _exchange(self) -> None:
        self._current_pairs().exchange()


def _can_be_averaged(tensor: Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()


def _refuse_sharded(where: str, model: Module) -> None:
    kind = getattr(sys.modules.get("torch.distributed.fsdp"), "FSDPModule", ())  # not imported for the sake of asking
    if any(isinstance(one, kind) for one in model.modules()):
        raise TypeError(
            f"{where}: model must not be sharded by fully_shard (FSDP2), as torch makes no copy of such a model to "
            "hold the average; train it with DistributedDataParallel, or average its full state dicts"
        )


def _check_same(where: str, theirs: dict[str, Any], ours: dict[str, Any]) -> None:
    apart = [name for name in {**theirs, **ours} if name not in theirs or name not in ours]
    apart += [name for name in theirs if name in ours and theirs[name].shape != ours[name].shape]
    if apart:
        raise ValueError(
            f"{where}: the model must have the parameters that its averaged copy has, by name and shape; "
            f"they differ in {apart}: make a new {where} for a model that was changed"
        )


def _columns(pairs: Any, unlike: list[tuple[Tensor, Tensor]]) -> list[Columns]:
    """Pairs sorted by device and dtype; those that differ in one of them go to ``unlike``."""
    columns: dict[Any, Columns] = {}
    for ours, theirs in pairs:
        if (ours.device, ours.dtype) != (theirs.device, theirs.dtype):
            unlike.append((ours, theirs))
            continue
        mine, yours = columns.setdefault((ours.device, ours.dtype), ([], []))
        mine.append(ours)
        yours.append(theirs)
    return list(columns.values())


def _buffers(model: Module, copy: Module) -> Iterator[tuple[Tensor, Tensor]]:
    """Each buffer beside its copy, which is made where it is missing or was of another shape."""
    for name, theirs in model.named_buffers():
        path, _, leaf = name.rpartition(".")
        home = copy.get_submodule(path)
        ours = home._buffers.get(leaf)
        if ours is None or ours.shape != theirs.shape:
            ours = home._buffers[leaf] = theirs.detach().clone()
        yield ours, theirs
