"""The façade: the functions that a script calls, the same whether it runs alone or as one of many processes.

They ask one computation model, which is looked for anew only when torch's default process group has changed. So a
script that runs alone pays for a function call and nothing else, and one that calls ``init_process_group`` by itself
needs no further set-up.
"""

from __future__ import annotations

import importlib.util
import numbers
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial, wraps
from typing import Any, ParamSpec, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from ignite_core.distributed import collectives
from ignite_core.distributed.failures.api import agreed, report
from ignite_core.distributed.launch.interactive import check_forks, is_of_session
from ignite_core.distributed.models import REGISTERED, ComputationModel, SerialModel
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


def _is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ImportError:
        return False


#: Whether torch was built with distributed support.
has_native_dist_support: bool = dist.is_available()

#: Whether the package of the framework is installed. Horovod is not supported; ported code may ask.
has_xla_support: bool = _is_installed("torch_xla")
has_hvd_support: bool = False

#: The classes of all computation models.
registered_computation_models: list[type[ComputationModel]] = [SerialModel, *REGISTERED]


T = TypeVar("T")
P = ParamSpec("P")


class _NoGroup:
    WORLD = None


_GroupMember: Any = dist.GroupMember if has_native_dist_support else _NoGroup

_model: ComputationModel = SerialModel()
_world: Any = None  # torch's default process group when the model was looked for
_groups: dict[tuple[int, ...], Any] = {}  # made of lists of ranks, once


def _current() -> ComputationModel:
    if _GroupMember.WORLD is not _world:
        sync()
    return _model


def _use(model: ComputationModel) -> None:
    global _model, _world
    _model, _world = model, _GroupMember.WORLD
    _groups.clear()


@contextmanager
def _alone() -> Iterator[None]:
    """Inside, this process is a serial run: for a handler that only this rank has attached."""
    global _model, _groups
    model, groups, serial = _current(), _groups, SerialModel()
    _model, _groups = serial, {}
    try:
        yield
    finally:
        if _model is serial:  # else the process group was destroyed inside
            _model, _groups = model, groups


def _is_alone() -> bool:
    """Whether this runs inside :func:`_alone` although there are other ranks."""
    return _current().name == SerialModel.name and _world is not None


# ------------------------------------------------------------------------------------------------------ who and where


def sync(temporary: bool = False) -> None:
    """Look for a framework that was started without :func:`initialize`.

    For torch.distributed this happens by itself; call it in a process that ``torch_xla`` has started.

    Args:
        temporary: Accepted for compatibility; every finding lasts as long as what was found.
    """
    found = (model for cls in REGISTERED if (model := cls.from_context()) is not None)
    _use(next(found, None) or SerialModel())


def device() -> torch.device:
    """Where this process computes: its accelerator, or the CPU."""
    return _current().device()


def backend() -> str | None:
    """What moves the tensors, such as ``"nccl"`` or ``"gloo"``; None in a serial run."""
    return _current().backend()


def available_backends() -> tuple[str, ...]:
    """What :func:`initialize` takes here: the backends torch was built with, and those of installed frameworks."""
    models = [cls for cls in REGISTERED if cls.name != "xla-dist" or has_xla_support]
    return tuple(name for cls in models for name in cls.available_backends)


def model_name() -> str:
    """``"serial"``, ``"native-dist"`` or ``"xla-dist"``."""
    return _current().name


def get_world_size() -> int:
    """Number of processes; 1 in a serial run."""
    return _current().world_size


def get_rank() -> int:
    """Number of this process, from 0."""
    return _current().rank


def get_local_rank() -> int:
    """Number of this process among those of its node, from 0.

    In a process group made without :func:`initialize` it is read from ``LOCAL_RANK``, or is what
    :func:`set_local_rank` told. Where neither is there the ranks compare their host names: a collective, so all of them
    must make the first call of this, :func:`get_node_rank`, :func:`get_nnodes` or :func:`get_nproc_per_node` together.
    """
    return _current().local_rank()


def get_nproc_per_node() -> int:
    """Number of processes on a node; the largest one if they differ."""
    return _current().locate().nproc_per_node


def get_nnodes() -> int:
    """Number of nodes."""
    return _current().locate().nnodes


def get_node_rank() -> int:
    """Number of this process's node, from 0."""
    return _current().locate().node_rank


def hostname() -> str:
    """Name of the machine."""
    return socket.gethostname()


def set_local_rank(index: int) -> None:
    """Tell the local rank, for a process group that is made without :func:`initialize`.

    Args:
        index: Number of this process among those of its node, from 0.
    """
    ComputationModel.told_local_rank = index


def show_config() -> None:
    """Print what this process is: model, backend, device, and its place among all.

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


# ------------------------------------------------------------------------------------------------------ start and end


def initialize(backend: str, **kwargs: Any) -> None:
    """Join the other processes of the run, as the launcher has told in the environment.

    Under torchrun, under SLURM's ``srun`` and in a process of :func:`spawn` no argument but the backend is needed. A
    process that nobody has launched is a run of one. The processes first make sure that all were told the same.

    Args:
        backend: ``"gloo"`` for CPUs; ``"nccl"`` for GPUs, with gloo beside it for values on the CPU; ``"mpi"``,
            ``"xla-tpu"``.
        kwargs: For gloo and nccl: ``timeout``, a :class:`~datetime.timedelta`, how long to wait for the others at the
            start (by default 20 s to find rank 0 where its address was set by hand, then 30 minutes for the others) and
            in each collective (by default that of torch); ``abort_grace``, how many seconds a process may go on,
            blocked, when another one has failed, until it is ended with exit code 75 (by default 5); ``init_method``,
            such as ``"file:///shared/run_1"``, with ``rank`` and ``world_size``; and what
            :func:`torch.distributed.init_process_group` takes besides.

    Raises:
        ValueError: If the backend is not available, or variables of the environment are set in part or contradict each
            other.
        RuntimeError: If the processes were told different things, do not find each other, or are joined already.

    Example:
        >>> initialize("gloo")
        >>> backend(), get_rank(), get_world_size()
        ('gloo', 0, 1)
        >>> finalize()
        >>> model_name()
        'serial'
    """
    _use(_model_of(backend, "initialize").create(backend, **kwargs))


def finalize() -> None:
    """Leave the other processes; the run is a serial one from then on."""
    _current().finalize()
    _use(SerialModel())


def spawn(
    backend: str,
    fn: Callable[..., Any],
    args: Sequence[Any] = (),
    kwargs_dict: Mapping[str, Any] | None = None,
    nproc_per_node: int = 1,
    **kwargs: Any,
) -> Any:
    """Start processes on this node, each of which calls ``fn(local_rank, *args, **kwargs_dict)``, and wait for them.

    Args:
        backend: What they :func:`initialize`.
        fn: Defined at the top of a module, so that a new process finds it; or in a notebook or an interactive session,
            whose process is forked then.
        args: Positional arguments of ``fn``.
        kwargs_dict: Keyword arguments of ``fn``.
        nproc_per_node: How many processes.
        kwargs: For gloo and nccl: ``nnodes``, ``node_rank``, ``master_addr``, ``master_port`` where there are several
            nodes, each of which makes this call; ``start_method``, ``"spawn"``, ``"forkserver"`` or ``"fork"``;
            ``join``, False to get a context whose ``join()`` waits; ``daemon``. For xla-tpu: what
            ``torch_xla.launch`` takes. ``timeout`` and ``abort_grace`` are for :func:`initialize`.

    Raises:
        ValueError: If the backend is not available, arguments do not fit together, or new processes do not find ``fn``.
        torch.multiprocessing.ProcessRaisedException: With the traceback of the process that failed first, or the
            ``RankFailed`` of another one, which quotes it. Processes that do not end by themselves are ended.
    """
    cls = _model_of(backend, "spawn")
    options: dict[str, Any] = {name: kwargs.pop(name) for name in ("timeout", "abort_grace") if name in kwargs}
    if cls.name == "native-dist" and is_of_session(fn):
        kwargs["start_method"] = check_forks(fn, kwargs.get("start_method"))
    worker = partial(_run_spawned, backend, options, fn, tuple(args), dict(kwargs_dict or {}))
    return cls.spawn(worker, nproc_per_node, **kwargs)


def _run_spawned(
    backend: str, options: Mapping[str, Any], fn: Callable[..., Any], args: Any, kwargs: Any, local_rank: int
) -> None:
    initialize(backend, **options)
    try:
        fn(local_rank, *args, **kwargs)
    except BaseException as error:
        told = report(error)
        if told is not error:
            raise told from error
        raise
    finalize()  # not after an error: the others could be in the middle of a collective


def _model_of(backend: str, where: str) -> type[ComputationModel]:
    for cls in REGISTERED:
        if backend in cls.available_backends:
            return cls
    if backend == "horovod":
        raise ValueError(f"idist.{where}: horovod is not supported (its last release is of 2023); use gloo or nccl")
    raise ValueError(f"idist.{where}: the backend must be one of {list(available_backends())}, got {backend!r}")


# -------------------------------------------------------------------------------------------------------- collectives


def all_reduce(tensor: T, op: str = "SUM", group: Any = None) -> T:
    """Reduce a tensor or number over all ranks.

    Args:
        tensor: A tensor of the same shape and dtype on all ranks, or a number. It is not changed.
        op: ``"SUM"``, ``"PRODUCT"``, ``"MIN"``, ``"MAX"``; ``"AND"`` and ``"OR"``, bit by bit, of bools and whole
            numbers. Bools stay bools: their sum is "any", their product "all". A NaN on any rank makes the result NaN.
        group: A list of ranks, or what :func:`new_group` gave; by default all. All ranks make the call, and those that
            are not in the group get back what they brought.

    Returns:
        A tensor like ``tensor``, or a number: of ints an int, exact; of floats a float. The same bits on all ranks.
        In a serial run the very argument.

    Raises:
        TypeError: If ``tensor`` is neither a tensor nor a number.
        ValueError: If ``op`` is none of these, or not for this dtype.
        RuntimeError: If a rank does not take part in time; it names the operation and this rank.

    Example:
        >>> all_reduce(3), all_reduce(torch.tensor([1.0, 2.0]), "MAX")
        (3, tensor([1., 2.]))
    """
    if op not in collectives.OPS:
        raise ValueError(f"all_reduce: op must be one of {', '.join(collectives.OPS)}, got {op!r}")
    is_tensor = isinstance(tensor, Tensor)
    if isinstance(tensor, Tensor):
        _check_dense("all_reduce", tensor)
    elif not isinstance(tensor, float | int) and not isinstance(tensor, numbers.Real):  # the second is slow to ask
        raise TypeError(f"all_reduce: takes a tensor or a number, got {type(tensor).__name__}")
    model = _current()
    if op != "SUM" and (is_tensor or model.world_size == 1):
        collectives.check_op(tensor, op)
    if model.world_size == 1 and group is None:
        return tensor
    group, ranks = collectives.find_group(model, group, _groups)
    if len(ranks) <= 1:
        return tensor
    model.asked = "all_reduce"
    reduced: T = collectives.all_reduce(model, tensor, op, group)
    return reduced


def all_reduce_packed(tensors: Sequence[tuple[Tensor, str]], group: Any = None) -> list[Tensor]:
    """Reduce many tensors with few collectives: one for each op and dtype among them, in the order given.

    Args:
        tensors: Pairs of a tensor and an op as of :func:`all_reduce`; the same on all ranks but for the values.
        group: As of :func:`all_reduce`.

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
        _check_dense("all_reduce_packed", tensor)
        collectives.check_op(tensor, op)
    model = _current()
    group, ranks = collectives.find_group(model, group, _groups)
    if len(ranks) <= 1:
        return [tensor for tensor, _ in tensors]
    model.asked = "all_reduce_packed"
    return collectives.all_reduce_packed(model, tensors, group)


def all_gather(tensor: Any, group: Any = None, uneven: bool = False) -> Any:
    """Gather what all ranks bring.

    Args:
        tensor: A tensor, a number, a string, or anything that can be pickled.
        group: As of :func:`all_reduce`.
        uneven: For tensors whose shapes or dtypes differ in any way, empty ones included.

    Returns:
        Of tensors one tensor, joined along the first dimension, of shape ``(world size * N, ...)``, or
        ``(world size,)`` if they have none; with ``uneven`` a list of them. Else a list. In the order of the ranks.

    Example:
        >>> all_gather(torch.zeros(2, 3)).shape, all_gather("abc"), all_gather(torch.tensor(1.0), uneven=True)
        (torch.Size([2, 3]), ['abc'], [tensor(1.)])
    """
    model = _current()
    if isinstance(tensor, Tensor):
        _check_dense("all_gather", tensor)
        if model.world_size == 1 and group is None:
            return [tensor] if uneven else tensor.reshape(1) if tensor.ndim == 0 else tensor
    elif uneven:
        raise TypeError(f"all_gather: uneven=True is for tensors, got {type(tensor).__name__}; leave it out")
    elif model.world_size == 1 and group is None:
        return [tensor]
    group, ranks = collectives.find_group(model, group, _groups)
    if not ranks:
        return tensor
    model.asked = "all_gather"
    if isinstance(tensor, Tensor):
        gather: Callable[..., Any] = collectives.all_gather_uneven if uneven else collectives.all_gather
    elif isinstance(tensor, numbers.Real):
        gather = collectives.all_gather_numbers
    else:
        gather = collectives.all_gather_object
    return gather(model, tensor, group)


def all_gather_object(value: T, group: Any = None) -> list[T]:
    """Gather values of any kind that can be pickled; a tensor too is one of them, on its own device.

    Args:
        value: May differ between ranks in every respect.
        group: As of :func:`all_reduce`; a rank that is not in it gets a list of its own value alone.

    Returns:
        The values in the order of the ranks.

    Example:
        >>> all_gather_object({"files": ["a"]})
        [{'files': ['a']}]
    """
    model = _current()
    group, ranks = collectives.find_group(model, group, _groups)
    model.asked = "all_gather_object"
    return collectives.all_gather_object(model, value, group) if len(ranks) > 1 else [value]


def all_gather_tensors_with_shapes(tensor: Tensor, shapes: Sequence[Sequence[int]], group: Any = None) -> list[Tensor]:
    """Gather tensors of one dtype and of shapes that every rank knows; one collective, where ``uneven=True`` needs two.

    Args:
        tensor: What this rank brings.
        shapes: The shape that each rank of the group brings, in their order.
        group: As of :func:`all_reduce`; a rank that is not in it gets a list of its own tensor alone.

    Returns:
        The tensors in the order of the ranks.

    Raises:
        ValueError: If the shape of ``tensor`` is not the one given for this rank.
    """
    _check_dense("all_gather_tensors_with_shapes", tensor)
    model = _current()
    group, ranks = collectives.find_group(model, group, _groups)
    if not ranks:
        return [tensor]
    if len(shapes) != len(ranks) or tuple(shapes[ranks.index(model.rank)]) != tuple(tensor.shape):
        raise ValueError(
            f"all_gather_tensors_with_shapes: there must be a shape for each of {len(ranks)} ranks, and that of rank "
            f"{model.rank} is {tuple(tensor.shape)}; got {[tuple(shape) for shape in shapes]}"
        )
    model.asked = "all_gather_tensors_with_shapes"
    return collectives.all_gather_with_shapes(model, tensor, shapes, group)


def broadcast(tensor: Any, src: int = 0, safe_mode: bool = False) -> Any:
    """Give all ranks what one of them brings.

    Args:
        tensor: On rank ``src`` a tensor, number, string or anything that can be pickled; on the others a tensor of the
            same shape and dtype if it is a tensor, else anything but a tensor. It is not changed.
        src: The rank that brings it.
        safe_mode: The other ranks need not know what will come, and may bring None or anything. It costs two more
            collectives.

    Returns:
        What ``src`` brought; on ``src`` the very argument.

    Raises:
        ValueError: If there is no such rank, or None is brought without ``safe_mode``.

    Example:
        >>> broadcast("runs/7")
        'runs/7'
    """
    model = _current()
    if isinstance(src, bool) or not isinstance(src, int) or not 0 <= src < model.world_size:
        raise ValueError(f"broadcast: src must be a rank in [0, {model.world_size}), got {src!r}")
    if tensor is None and not (safe_mode and model.rank != src):
        raise ValueError(
            f"broadcast: rank {model.rank} brings None; rank {src} must bring a value, and the others may bring None "
            "only with safe_mode=True"
        )
    if isinstance(tensor, Tensor):
        _check_dense("broadcast", tensor)
    if model.world_size == 1:
        return tensor
    model.asked = "broadcast"
    return collectives.broadcast(model, tensor, src, safe_mode)


def barrier() -> None:
    """Wait until all ranks have come here."""
    model = _current()
    model.asked = "barrier"
    model.barrier()


def new_group(ranks: Sequence[int], **kwargs: Any) -> Any:
    """Make a group of some ranks, for the ``group`` argument of the collectives. All ranks must call it.

    Args:
        ranks: Those in the group.
        kwargs: What the framework takes besides, such as ``backend`` for torch.

    Raises:
        ValueError: If they are no ranks of this run, or repeat.
    """
    model = _current()
    model.asked = "new_group"
    return model.make_group(collectives.check_ranks(model, ranks), **kwargs)


def _check_dense(where: str, tensor: Tensor) -> None:
    if tensor.layout is not torch.strided:
        raise TypeError(f"{where}: takes dense tensors, got {tensor.layout}; call to_dense() first")


# ---------------------------------------------------------------------------------------------------------- decisions


def any(flag: bool) -> bool:
    """Whether the flag is set on any rank: a decision that all of them share.

    Example:
        >>> any(False)
        False
    """
    return bool(all_reduce(bool(flag), "OR"))


def all(flag: bool) -> bool:
    """Whether the flag is set on all ranks: a decision that all of them share.

    Example:
        >>> all(True)
        True
    """
    return bool(all_reduce(bool(flag), "AND"))


def agree(value: T) -> T:
    """Make sure that all ranks hold the same value, before they act on it.

    Args:
        value: Anything that can be pickled and compared; tensors and NaN are compared by what they hold.

    Returns:
        The value.

    Raises:
        RuntimeError: On all ranks if they differ; it says who holds what.

    Example:
        >>> agree(7)
        7
    """
    difference = collectives.disagreement(all_gather_object(value))
    if difference is not None:
        raise agreed(RuntimeError(f"idist.agree: all ranks must hold the same value, but {difference}"))
    return value


def one_rank_only(rank: int = 0, with_barrier: bool = False) -> Callable[[Callable[P, T]], Callable[P, T | None]]:
    """Let a function run on one rank only; on the others it does nothing and returns None.

    Args:
        rank: Where it runs.
        with_barrier: The others wait until it is done. If it raises, they raise a RuntimeError that says so.

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
            if not with_barrier:
                return function(*args, **kwargs) if get_rank() == rank else None
            with _ahead(get_rank() == rank, getattr(function, "__qualname__", repr(function))):
                return function(*args, **kwargs) if get_rank() == rank else None

        return on_one_rank

    return decorate


@contextmanager
def one_rank_first(rank: int = 0, local: bool = False) -> Iterator[None]:
    """Let one rank run the block before the others, so that it can download or build what they then find.

    Args:
        rank: The first one.
        local: It is a local rank: on each node one goes first, for what is stored on the node.

    Raises:
        ValueError: If there is no such rank.
        RuntimeError: On the ranks that waited, if the first one raised; it quotes that error.

    Example:
        >>> with one_rank_first():
        ...     print("download, or take what is there")
        download, or take what is there
    """
    size = get_nproc_per_node() if local else get_world_size()
    if not 0 <= rank < size:
        raise ValueError(f"one_rank_first: rank must be in [0, {size}), got {rank}")
    with _ahead((get_local_rank() if local else get_rank()) == rank, "one_rank_first"):
        yield


@contextmanager
def _ahead(goes_first: bool, what: str) -> Iterator[None]:
    """Let some ranks through the block before the others, who learn whether it failed."""
    if not goes_first:
        _raise_what_failed(all_gather_object(None), what)
        yield
        return
    try:
        yield
    except RankFailed:
        raise  # all know it
    except BaseException as error:
        all_gather_object(f"{type(error).__name__}: {error}")
        agreed(error)
        raise
    _raise_what_failed(all_gather_object(None), what)


def _raise_what_failed(errors: list[str | None], what: str) -> None:
    failed = {rank: error for rank, error in enumerate(errors) if error is not None}
    for rank, error in failed.items():
        raise agreed(RuntimeError(f"{what}: rank {rank} went first and failed with {error}"))
