"""A model and a copy of it with averaged weights: pairs of their tensors, and swapping one for the other."""

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
from ignite_core.engine.registration import RemovableHandle
from ignite_core.handlers._arguments import check_engine
from ignite_core.handlers.checkpoint.states import unwrapped

__all__ = ["AveragedWeights", "Pairs", "online_model", "warn_of_rounding"]

#: Tensors of the copy, and those of the model in the same order.
Columns = tuple[list[Tensor], list[Tensor]]

_END: Final = (object(),)
_values = methodcaller("values")


def online_model(where: str, model: object) -> Module:
    """The model without DistributedDataParallel and torch.compile around it; a TypeError if it is sharded."""
    if not isinstance(model, Module):
        raise TypeError(f"{where}: model must be a torch.nn.Module, got {model!r}")
    inner = model if isinstance(model, DataParallel) else unwrapped(model)
    assert isinstance(inner, Module)
    _refuse_sharded(where, inner)
    return inner


def warn_of_rounding(where: str, model: Module, momentum: float) -> None:
    """Warn if updates with this momentum are lost to rounding, for weights that differ by a tenth of their size."""
    dtypes = {one.dtype for one in model.parameters() if one.is_floating_point()}
    coarse = sorted(str(dtype) for dtype in dtypes if torch.finfo(dtype).eps / 2 > momentum / 10)
    if coarse:
        warnings.warn(
            f"{where}: the average has the dtype of the model, and {', '.join(coarse)} rounds most small updates to "
            "zero; keep the weights in float32 and use autocast for lower precision",
            stacklevel=3,
        )


class Pairs:
    """The tensors of a model and of its copy, collected once, in lists for ``torch._foreach`` functions.

    Args:
        where: Name for error messages.
        model: Its parameters must have the names and shapes of those of the copy.
        copy: A buffer of the model that it does not have in the same shape is added to it.

    Attributes:
        parameters: Lists of parameters, each of one device and dtype.
        floats: Such lists of buffers that can be averaged.
        others: Such lists of the other buffers.
        unlike: Pairs of parameters whose device or dtype differs.
        unlike_buffers: Such pairs of buffers.

    Raises:
        ValueError: If the parameters differ from those of the copy.
    """

    __slots__ = ("_current", "_tables", "floats", "others", "parameters", "unlike", "unlike_buffers")

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
        self._current = list(self._walk())

    def are_current(self) -> bool:
        """Whether no tensor of the two modules was replaced, added or removed."""
        return all(map(is_, self._walk(), self._current))

    @torch.no_grad()
    def copy(self) -> None:
        """Copy the values of the model into the copy."""
        for ours, theirs in (*self.parameters, *self.floats, *self.others):
            torch._foreach_copy_(ours, theirs)
        for one, other in self.unlike + self.unlike_buffers:
            one.copy_(other)

    def exchange(self) -> None:
        """Exchange the values of the model and of the copy; after an error, both have the values from before.

        Raises:
            TypeError: If two tensors differ in dtype, so that the exchange could not be undone exactly.
        """
        both = [pair for column in (*self.parameters, *self.floats, *self.others) for pair in zip(*column, strict=True)]
        both += self.unlike + self.unlike_buffers
        for one, other in both:
            if one.dtype != other.dtype:
                raise TypeError(f"averaged weights of {one.dtype} cannot be swapped in for weights of {other.dtype}")
        last: tuple[Tensor, ...] = ()  # a pair and its values, in one assignment: Ctrl-C may come between any two lines
        try:
            for one, other in both:
                last = (one, other, one.clone(), other.clone())
                one.copy_(last[3])
                other.copy_(last[2])
        except BaseException:
            for one, other in both if last else ():
                if one is last[0]:
                    one.copy_(last[2])
                    other.copy_(last[3])
                    break
                value = one.clone()
                one.copy_(other)
                other.copy_(value)
            raise

    def _walk(self) -> Iterator[Any]:
        return chain(chain.from_iterable(map(_values, self._tables)), _END)


class AveragedWeights:
    """Base class of handlers that average the weights of ``model`` in ``copy``."""

    def __init__(self, model: Module, copy: Module) -> None:
        self.model = model
        self._copy = copy
        self._is_swapped_in = False
        self._has_begun = False  # the copy has the weights of the model at the start of a run, or was loaded
        self._pairs: Pairs | None = None

    @contextmanager
    def swapped_in(self) -> Iterator[Module]:
        """A context in which the model has the averaged weights and buffers; its own are restored on exit.

        The only extra memory is that of two tensors at a time. Do not save a checkpoint for resuming in this context:
        it would contain the averaged weights as those of the model.

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
            except KeyboardInterrupt:  # it was undone, but the model must get its own weights
                self._exchange()
                raise

    def swap_in_during(self, evaluator: Engine) -> RemovableHandle:
        """Use :meth:`swapped_in` around each run of an engine, its handlers included.

        Returns:
            A handle whose ``remove()`` undoes this.
        """
        check_engine(f"{type(self).__name__}.swap_in_during", evaluator, "evaluator")
        return evaluator.add_run_context(self._around_run)

    def _around_run(self, evaluator: Engine) -> AbstractContextManager[Module]:
        return self.swapped_in()

    def _is_average(self) -> bool:
        """Whether there is an average that can be swapped in."""
        return True

    def _begin(self, engine: Engine) -> None:
        """Start from the weights at the start of the run, which may have been loaded after the constructor."""
        if not (self._has_begun and engine.state.iteration):
            self._follow()

    def _follow(self) -> None:
        """Copy the weights of the model, as long as there is no average."""
        if not self._is_average():
            self._copy_model()

    def _copy_model(self) -> None:
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
                f"{type(self).__name__}.{what}: the averaged weights are swapped in for those of the model; exit "
                "swapped_in(), or end the evaluation, first"
            )

    @torch.no_grad()
    def _exchange(self) -> None:
        self._current_pairs().exchange()


def _can_be_averaged(tensor: Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()


def _refuse_sharded(where: str, model: Module) -> None:
    kind = getattr(sys.modules.get("torch.distributed.fsdp"), "FSDPModule", ())  # a sharded model has imported it
    if any(isinstance(one, kind) for one in model.modules()):
        raise TypeError(
            f"{where}: model must not be sharded by fully_shard (FSDP2), as torch cannot copy such a model for the "
            "average; train it with DistributedDataParallel, or average its full state dicts"
        )


def _check_same(where: str, theirs: dict[str, Any], ours: dict[str, Any]) -> None:
    shapes = [{name: one.shape for name, one in parameters.items()} for parameters in (theirs, ours)]
    differ = [name for name in {**theirs, **ours} if shapes[0].get(name) != shapes[1].get(name)]
    if differ:
        raise ValueError(
            f"{where}: the parameters of the model and of its averaged copy must have the same names and shapes; they "
            f"differ in {differ}: make a new {where} for a model that was changed"
        )


def _columns(pairs: Any, unlike: list[tuple[Tensor, Tensor]]) -> list[Columns]:
    """Pairs grouped by device and dtype; pairs whose device or dtype differs are appended to ``unlike``."""
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
    """Pairs of a buffer's copy and the buffer; a copy that is missing or has another shape is made."""
    for name, theirs in model.named_buffers():
        path, _, leaf = name.rpartition(".")
        home = copy.get_submodule(path)
        ours = home._buffers.get(leaf)
        if ours is None or ours.shape != theirs.shape:
            ours = home._buffers[leaf] = theirs.detach().clone()
        yield ours, theirs
