"""The façade: functions that a script calls in the same way on one process and on many.

They use one computation model, which is searched for only when torch's default process group has changed. A script that
runs alone pays for a function call, and one that calls ``init_process_group`` itself needs no further set-up.
"""

from __future__ import annotations

import numbers
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from ignite_core.distributed import collectives
from ignite_core.distributed.current import REGISTERED, available_backends, current_model, find_model, has_xla_support
from ignite_core.distributed.failures.api import agreed
from ignite_core.distributed.launcher import finalize, initialize, spawn
from ignite_core.distributed.models.base import ComputationModel
from ignite_core.distributed.models.serial import SerialModel
from ignite_core.exceptions import RankFailed

__all__ = [
    "agree",
    "all_gather",
    "all_gather_object",
    "all_gather_tensors_with_shapes",
    "all_reduce",
    "all_reduce_packed",
    "available_backends",
    "backend",
    "barrier",
    "broadcast",
    "device",
    "finalize",
    "get_local_rank",
    "get_nnodes",
    "get_node_rank",
    "get_nproc_per_node",
    "get_rank",
    "get_world_size",
    "has_hvd_support",
    "has_native_dist_support",
    "has_xla_support",
    "hostname",
    "initialize",
    "model_name",
    "new_group",
    "one_rank_first",
    "one_rank_only",
    "registered_computation_models",
    "set_local_rank",
    "show_config",
    "spawn",
    "sync",
]  # `any` and `all` are public too, but `import *` must not hide Python's own

#: Whether torch was built with distributed support.
has_native_dist_support: bool = dist.is_available()

#: Horovod is not supported; ported code may ask.
has_hvd_support: bool = False

#: The classes of all computation models.
registered_computation_models: list[type[ComputationModel]] = [SerialModel, *REGISTERED]

T = TypeVar("T")
P = ParamSpec("P")


def sync(temporary: bool = False) -> None:
    """Search for a framework that was started without :func:`initialize`.

    For torch.distributed this is automatic; call it in a process that ``torch_xla`` has started.

    Args:
        temporary: Ignored; accepted for compatibility with pytorch-ignite.
    """
    find_model()


def device() -> torch.device:
    """The device of this process: its accelerator, or the CPU."""
    return current_model().device()


def backend() -> str | None:
    """Name of the backend, such as ``"nccl"`` or ``"gloo"``; None in a serial run.

    ``"xla-tpu"`` is experimental: several processes were tested with a fake of torch_xla only, not on TPUs.
    """
    return current_model().backend()


def model_name() -> str:
    """``"serial"``, ``"native-dist"`` or ``"xla-dist"``."""
    return current_model().name


def get_world_size() -> int:
    """Number of processes; 1 in a serial run."""
    return current_model().world_size


def get_rank() -> int:
    """Rank of this process, from 0."""
    return current_model().rank


def get_local_rank() -> int:
    """Rank of this process on its node, from 0.

    In a process group made without :func:`initialize` it is read from ``LOCAL_RANK``, or is the value given to
    :func:`set_local_rank`. Without either, the ranks compare their host names: a collective, so all of them must make
    the first call of this, :func:`get_node_rank`, :func:`get_nnodes` or :func:`get_nproc_per_node` together.
    """
    return current_model().local_rank()


def get_nproc_per_node() -> int:
    """Number of processes on a node; the largest one if they differ."""
    return current_model().locate().nproc_per_node


def get_nnodes() -> int:
    """Number of nodes."""
    return current_model().locate().nnodes


def get_node_rank() -> int:
    """Number of this node, from 0."""
    return current_model().locate().node_rank


def hostname() -> str:
    """Name of the machine."""
    return socket.gethostname()


def set_local_rank(index: int) -> None:
    """Set the rank of this process on its node, from 0, in a process group made without :func:`initialize`."""
    ComputationModel.given_local_rank = index


def show_config() -> None:
    """Print the model, backend, device and rank of this process.

    Example:
        >>> show_config()
        distributed configuration: serial
        backend: None
        ...
    """
    lines = {
        "distributed configuration": model_name(),
        "backend": backend(),
        "device": device(),
        "hostname": hostname(),
        "world size": get_world_size(),
        "rank": get_rank(),
        "local rank": get_local_rank(),
        "processes per node": get_nproc_per_node(),
        "nodes": get_nnodes(),
        "node rank": get_node_rank(),
    }
    print("\n".join(f"{name}: {value}" for name, value in lines.items()), flush=True)


def all_reduce(tensor: T, op: str = "SUM", group: Any = None) -> T:
    """Reduce a tensor or number over all ranks.

    Args:
        tensor: A tensor of the same shape and dtype on all ranks, or a number. It is not changed.
        op: ``"SUM"``, ``"PRODUCT"``, ``"MIN"``, ``"MAX"``; bitwise ``"AND"`` and ``"OR"`` of bools and integers. Bools
            stay bools: their sum is "any", their product "all". A NaN on any rank makes the result NaN.
        group: A list of ranks, or the result of :func:`new_group`; by default all. All ranks must make the call; ranks
            outside of the group get their own value back.

    Returns:
        A tensor like ``tensor``, or a number: for ints an exact int, for floats a float. The same bits on all ranks.
        In a serial run the argument itself.

    Raises:
        TypeError: If ``tensor`` is neither a dense tensor nor a number.
        ValueError: If ``op`` is unknown, or does not apply to this dtype.
        RuntimeError: If a rank does not take part in time; the message names the operation and this rank.

    Example:
        >>> all_reduce(3), all_reduce(torch.tensor([1.0, 2.0]), "MAX")
        (3, tensor([1., 2.]))
    """
    if op not in collectives.OPS:
        raise ValueError(f"all_reduce: op must be one of {', '.join(collectives.OPS)}, got {op!r}")
    is_tensor = isinstance(tensor, Tensor)
    if isinstance(tensor, Tensor):
        collectives.check_dense("all_reduce", tensor)
    elif not isinstance(tensor, float | int) and not isinstance(tensor, numbers.Real):  # the second check is slow
        raise TypeError(f"all_reduce: takes a tensor or a number, got {type(tensor).__name__}")
    model = current_model()
    if op != "SUM" and (is_tensor or model.world_size == 1):
        collectives.check_op(tensor, op)
    if model.world_size == 1 and group is None:
        return tensor
    group, ranks = collectives.find_group(model, group)
    if len(ranks) <= 1:
        return tensor
    model.operation = "all_reduce"
    reduced: T = collectives.all_reduce(model, tensor, op, group)
    return reduced


def all_reduce_packed(tensors: Sequence[tuple[Tensor, str]], group: Any = None) -> list[Tensor]:
    """Reduce many tensors with one collective for each op and dtype among them.

    Args:
        tensors: Pairs of a tensor and an op of :func:`all_reduce`, the same on all ranks but for the values.
        group: As in :func:`all_reduce`.

    Returns:
        The reduced tensors, in the order given.

    Example:
        >>> all_reduce_packed([(torch.tensor(1), "SUM"), (torch.tensor([2.0, 3.0]), "MAX")])
        [tensor(1), tensor([2., 3.])]
    """
    for tensor, op in tensors:
        if op not in collectives.OPS:
            raise ValueError(f"all_reduce_packed: op must be one of {', '.join(collectives.OPS)}, got {op!r}")
        if not isinstance(tensor, Tensor):
            raise TypeError(f"all_reduce_packed: takes tensors, got {type(tensor).__name__}")
        collectives.check_dense("all_reduce_packed", tensor)
        collectives.check_op(tensor, op)
    model = current_model()
    group, ranks = collectives.find_group(model, group)
    if len(ranks) <= 1:
        return [tensor for tensor, _ in tensors]
    model.operation = "all_reduce_packed"
    return collectives.all_reduce_packed(model, tensors, group)


def all_gather(tensor: Any, group: Any = None, uneven: bool = False) -> Any:
    """Gather the values of all ranks.

    Args:
        tensor: A tensor, a number, a string, or any object that can be pickled.
        group: As in :func:`all_reduce`.
        uneven: Allow tensors whose shapes or dtypes differ between ranks, empty ones included.

    Returns:
        For tensors one tensor, joined along the first dimension, of shape ``(world size * N, ...)``, or
        ``(world size,)`` for 0-d ones; with ``uneven`` a list of them. For other values a list. In rank order.

    Example:
        >>> all_gather(torch.zeros(2, 3)).shape, all_gather("abc"), all_gather(torch.tensor(1.0), uneven=True)
        (torch.Size([2, 3]), ['abc'], [tensor(1.)])
    """
    model = current_model()
    if isinstance(tensor, Tensor):
        collectives.check_dense("all_gather", tensor)
        if model.world_size == 1 and group is None:
            return [tensor] if uneven else tensor.reshape(1) if tensor.ndim == 0 else tensor
    elif uneven:
        raise TypeError(f"all_gather: uneven=True is for tensors, got {type(tensor).__name__}")
    elif model.world_size == 1 and group is None:
        return [tensor]
    group, ranks = collectives.find_group(model, group)
    if not ranks:
        return tensor
    model.operation = "all_gather"
    if isinstance(tensor, Tensor):
        gather: Callable[..., Any] = collectives.all_gather_uneven if uneven else collectives.all_gather
    elif isinstance(tensor, numbers.Real):
        gather = collectives.all_gather_numbers
    else:
        gather = collectives.all_gather_object
    return gather(model, tensor, group)


def all_gather_object(value: T, group: Any = None) -> list[T]:
    """Gather objects that can be pickled; a tensor is one of them and keeps its device.

    Args:
        value: May differ between ranks in every respect.
        group: As in :func:`all_reduce`; a rank outside of the group gets a list of its own value alone.

    Returns:
        The values in rank order.

    Example:
        >>> all_gather_object({"files": ["a"]})
        [{'files': ['a']}]
    """
    model = current_model()
    group, ranks = collectives.find_group(model, group)
    model.operation = "all_gather_object"
    return collectives.all_gather_object(model, value, group) if len(ranks) > 1 else [value]


def all_gather_tensors_with_shapes(tensor: Tensor, shapes: Sequence[Sequence[int]], group: Any = None) -> list[Tensor]:
    """Gather tensors of one dtype whose shapes are known on every rank, in one collective (``uneven=True`` needs two).

    Args:
        tensor: The tensor of this rank.
        shapes: The shape on each rank of the group, in rank order.
        group: As in :func:`all_reduce`; a rank outside of the group gets a list of its own tensor alone.

    Returns:
        The tensors in rank order.

    Raises:
        ValueError: If the shape of ``tensor`` is not the one given for this rank.
    """
    collectives.check_dense("all_gather_tensors_with_shapes", tensor)
    model = current_model()
    group, ranks = collectives.find_group(model, group)
    if not ranks:
        return [tensor]
    if len(shapes) != len(ranks) or tuple(shapes[ranks.index(model.rank)]) != tuple(tensor.shape):
        raise ValueError(
            f"all_gather_tensors_with_shapes: there must be a shape for each of {len(ranks)} ranks, and that of rank "
            f"{model.rank} is {tuple(tensor.shape)}; got {[tuple(shape) for shape in shapes]}"
        )
    model.operation = "all_gather_tensors_with_shapes"
    return collectives.all_gather_with_shapes(model, tensor, shapes, group)


def broadcast(tensor: Any, src: int = 0, safe_mode: bool = False) -> Any:
    """Send the value of one rank to all ranks.

    Args:
        tensor: On rank ``src`` a tensor, number, string or any object that can be pickled; on the others a tensor of
            the same shape and dtype if it is a tensor, else anything but a tensor. It is not changed.
        src: The rank that sends.
        safe_mode: The other ranks may pass None or anything else. It costs two more collectives.

    Returns:
        The value of ``src``; on ``src`` the argument itself.

    Raises:
        ValueError: If there is no such rank, or ``tensor`` is None without ``safe_mode``.

    Example:
        >>> broadcast("runs/7")
        'runs/7'
    """
    model = current_model()
    if isinstance(src, bool) or not isinstance(src, int) or not 0 <= src < model.world_size:
        raise ValueError(f"broadcast: src must be a rank in [0, {model.world_size}), got {src!r}")
    if tensor is None and not (safe_mode and model.rank != src):
        raise ValueError(
            f"broadcast: rank {model.rank} passes None; rank {src} must pass a value, and the others may pass None "
            "only with safe_mode=True"
        )
    if isinstance(tensor, Tensor):
        collectives.check_dense("broadcast", tensor)
    if model.world_size == 1:
        return tensor
    model.operation = "broadcast"
    return collectives.broadcast(model, tensor, src, safe_mode)


def barrier() -> None:
    """Wait until all ranks have reached this call."""
    model = current_model()
    model.operation = "barrier"
    model.barrier()


def new_group(ranks: Sequence[int], **kwargs: Any) -> Any:
    """Make a group of ranks, for the ``group`` argument of the collectives. All ranks must call it.

    Args:
        ranks: The ranks in the group.
        kwargs: Further arguments of the framework, such as ``backend`` for torch.

    Raises:
        ValueError: If ``ranks`` is not a list of different ranks of this run.
    """
    model = current_model()
    model.operation = "new_group"
    return model.make_group(collectives.check_ranks(model, ranks), **kwargs)


def any(flag: bool) -> bool:
    """Whether the flag is set on any rank; the same result on all ranks.

    Example:
        >>> any(False)
        False
    """
    return bool(all_reduce(bool(flag), "OR"))


def all(flag: bool) -> bool:
    """Whether the flag is set on all ranks; the same result on all ranks.

    Example:
        >>> all(True)
        True
    """
    return bool(all_reduce(bool(flag), "AND"))


def agree(value: T) -> T:
    """Check that all ranks hold the same value.

    Args:
        value: Anything that can be pickled and compared; tensors and NaN are compared by their content.

    Returns:
        The value.

    Raises:
        RuntimeError: On all ranks if the values differ; the message lists them by rank.

    Example:
        >>> agree(7)
        7
    """
    difference = collectives.disagreement(all_gather_object(value))
    if difference is not None:
        raise agreed(RuntimeError(f"idist.agree: all ranks must hold the same value, but {difference}"))
    return value


def one_rank_only(rank: int = 0, with_barrier: bool = False) -> Callable[[Callable[P, T]], Callable[P, T | None]]:
    """Decorate a function to run on one rank only; on the others it returns None.

    Args:
        rank: The rank on which it runs.
        with_barrier: The others wait until it is done. If it raises, they raise a RuntimeError that quotes the error.

    Example:
        >>> @one_rank_only()
        ... def report(text):
        ...     print(text)
        >>> report("done")
        done
    """

    def decorate(function: Callable[P, T]) -> Callable[P, T | None]:
        @wraps(function)
        def on_one_rank(*args: P.args, **kwargs: P.kwargs) -> T | None:
            is_first = get_rank() == rank
            what = getattr(function, "__qualname__", repr(function))
            with _in_turn(is_first, what) if with_barrier else nullcontext():
                return function(*args, **kwargs) if is_first else None

        return on_one_rank

    return decorate


@contextmanager
def one_rank_first(rank: int = 0, local: bool = False) -> Iterator[None]:
    """Run a block on one rank before the others, so that it can download or build what they then find.

    Args:
        rank: The first rank.
        local: ``rank`` is a local rank: one goes first on each node, for files on the node's own disk.

    Raises:
        ValueError: If there is no such rank.
        RuntimeError: On the ranks that waited, if the first one raised; it quotes that error.

    Example:
        >>> with one_rank_first():
        ...     print("download, or use what is there")
        download, or use what is there
    """
    size = get_nproc_per_node() if local else get_world_size()
    if not 0 <= rank < size:
        raise ValueError(f"one_rank_first: rank must be in [0, {size}), got {rank}")
    with _in_turn((get_local_rank() if local else get_rank()) == rank, "one_rank_first"):
        yield


@contextmanager
def _in_turn(is_first: bool, what: str) -> Iterator[None]:
    """Let some ranks through the block before the others, which raise if it failed."""
    if is_first:
        try:
            yield
        except RankFailed:
            raise  # the other ranks raise it too
        except BaseException as error:
            all_gather_object(f"{type(error).__name__}: {error}")
            agreed(error)
            raise
    for rank, failure in enumerate(all_gather_object(None)):
        if failure is not None:
            raise agreed(RuntimeError(f"{what}: rank {rank} went first and failed with {failure}"))
    if not is_first:
        yield
