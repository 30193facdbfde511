"""torch.distributed: gloo, nccl, and mpi where torch was built with it."""

from __future__ import annotations

import gc
import itertools
import os
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from functools import partial
from typing import Any, Self

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.distributed import HashStore, PrefixStore, TCPStore, rendezvous  # type: ignore[attr-defined]

from ignite_core.distributed.failures import api as failures
from ignite_core.distributed.failures.store_server import open_error_store
from ignite_core.distributed.failures.watcher import Watcher
from ignite_core.distributed.launch.environment import Launch, Place, read_launch
from ignite_core.distributed.launch.rendezvous import connect, join
from ignite_core.distributed.models.base import ComputationModel
from ignite_core.distributed.serialization import from_bytes, to_bytes

__all__ = ["TorchModel"]

#: How long to wait for the other processes to start, by default; as in torch.
_JOIN_TIMEOUT = timedelta(minutes=30)

#: How long a process may stay blocked after another one has failed, by default.
_ABORT_GRACE_S = 5.0

#: How much longer the processes of :meth:`TorchModel.spawn` have to end by themselves.
_LEAVE_S = 5.0

#: How long :meth:`TorchModel.finalize` releases the GIL to torch's threads.
_GIL_S = 0.01

#: Numbers the starts of this process: each one uses another prefix in the store.
_starts = itertools.count(1)

#: torch's variable that says that the launcher runs the store.
_AGENT_STORE = "TORCHELASTIC_USE_AGENT_STORE"

_REDUCED_BY_GLOO = {torch.uint8, torch.int8, torch.int32, torch.int64, torch.float32, torch.float64}
_REDUCED_BY_NCCL = _REDUCED_BY_GLOO | {torch.float16, torch.bfloat16}


def _built_backends() -> tuple[str, ...]:
    built = {"nccl": dist.is_nccl_available(), "gloo": dist.is_gloo_available(), "mpi": dist.is_mpi_available()}
    return tuple(name for name, is_built in built.items() if is_built)


class TorchModel(ComputationModel):
    """The processes of ``torch.distributed``'s default group.

    Args:
        place: The ranks of this process and its node; None if they are not known yet.
        backend: The argument of ``initialize``; None if the user made the group.
    """

    name = "native-dist"
    available_backends = _built_backends()

    def __init__(self, place: Place | None = None, backend: str | None = None) -> None:
        self.rank, self.world_size = dist.get_rank(), dist.get_world_size()
        self._place = place
        self._backend = backend or str(dist.get_backend())
        self._uses_cuda = torch.cuda.is_available()
        if self._uses_cuda and self._backend != "nccl" and place is not None:
            self._uses_cuda = place.nproc_per_node <= torch.cuda.device_count()

    @classmethod
    def create(
        cls,
        backend: str,
        timeout: timedelta | None = None,
        init_method: str | None = None,
        rank: int | None = None,
        world_size: int | None = None,
        abort_grace: float = _ABORT_GRACE_S,
        **kwargs: Any,
    ) -> Self:
        if dist.is_initialized():
            raise RuntimeError(
                "idist.initialize: torch.distributed is initialised already "
                f"(backend {dist.get_backend()}, rank {dist.get_rank()}); call idist.finalize() first"
            )
        if backend == "nccl" and not torch.cuda.is_available():
            raise RuntimeError("idist.initialize: the backend nccl needs CUDA, which is not available; use gloo")
        if timeout is not None and not isinstance(timeout, timedelta):
            raise TypeError(f"idist.initialize: timeout must be a datetime.timedelta, got {timeout!r}")
        if isinstance(abort_grace, bool) or not isinstance(abort_grace, int | float) or not abort_grace > 0:
            raise ValueError(f"idist.initialize: abort_grace must be a number of seconds above 0, got {abort_grace!r}")
        if backend == "mpi":  # MPI finds the other processes
            dist.init_process_group("mpi", **kwargs)
            return cls(backend=backend)
        launch = _launch(backend, init_method, rank, world_size)
        if launch.master_addr is not None:
            store = connect(launch, backend, timeout)
        elif init_method in (None, "env://"):
            store = HashStore()
        else:
            handler = rendezvous(init_method, launch.rank, launch.world_size, timeout=timeout or _JOIN_TIMEOUT)
            store, _, _ = next(handler)
        store = PrefixStore(f"ignite_core/start_{next(_starts)}", store)
        store, place = join(store, launch, backend, timeout or _JOIN_TIMEOUT)
        if backend == "nccl":
            kwargs.setdefault("device_id", _own_gpu(place))
        with failures.explained("initialize", place.rank, place.world_size, backend):
            dist.init_process_group(
                "cpu:gloo,cuda:nccl" if backend == "nccl" and "gloo" in cls.available_backends else backend,
                store=store,
                rank=place.rank,
                world_size=place.world_size,
                timeout=timeout,
                **kwargs,
            )
        model = cls(place, backend)
        if model._uses_cuda:
            torch.cuda.set_device(place.local_rank)
        if place.world_size > 1:
            open_store = partial(open_error_store, store, launch, place.rank, place.world_size)
            limit_s = (timeout or _JOIN_TIMEOUT).total_seconds()
            watcher = Watcher(place.rank, place.world_size, open_store, limit_s, abort_grace, failures.notify)
            failures.start(watcher)
            if launch.launcher_runs_store:
                watcher.wait_until_open()  # immediately; a helper process has to import torch first
        return model

    @classmethod
    def from_context(cls) -> Self | None:
        return cls() if dist.is_initialized() else None

    @classmethod
    def spawn(
        cls,
        worker: Callable[[int], None],
        nproc_per_node: int,
        nnodes: int = 1,
        node_rank: int = 0,
        master_addr: str | None = None,
        master_port: int | None = None,
        start_method: str | None = None,
        join: bool = True,
        daemon: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Start the processes of this node, which meet in a store of this process on node 0.

        Returns:
            None; with ``join=False`` torch's process context, whose ``join()`` waits for them.
        """
        if kwargs:
            raise TypeError(f"spawn: unknown arguments {sorted(kwargs)}")
        launch = read_launch(os.environ)
        if launch is not None and launch.world_size > 1 and launch.source != "SLURM":
            raise ValueError(
                f"nproc_per_node={nproc_per_node}, but RANK='{launch.rank}' and WORLD_SIZE='{launch.world_size}' say "
                "that this process was launched as one of several; omit nproc_per_node, or start the script with python"
            )
        if nnodes > 1 and (master_addr is None or master_port is None):
            raise ValueError(
                f"nnodes={nnodes} needs master_addr and master_port, the host of node 0 and a free port there; "
                f"got master_addr={master_addr!r} and master_port={master_port!r}"
            )
        with ExitStack() as stack:
            environment = {"MASTER_ADDR": str(master_addr), "MASTER_PORT": str(master_port), _AGENT_STORE: "True"}
            if node_rank == 0:
                environment = stack.enter_context(cls.meeting_point(master_addr or "127.0.0.1", master_port or 0))
            environment["WORLD_SIZE"] = str(nnodes * nproc_per_node)
            environment["LOCAL_WORLD_SIZE"] = str(nproc_per_node)
            environment["GROUP_RANK"] = str(node_rank)
            environment["GROUP_WORLD_SIZE"] = str(nnodes)
            context: Any = mp.start_processes(  # type: ignore[attr-defined, no-untyped-call]
                _enter,
                (worker, environment, node_rank * nproc_per_node),
                nprocs=nproc_per_node,
                join=False,
                daemon=daemon,
                start_method=start_method or "spawn",
            )
            if not join:
                context.meeting_point = stack.pop_all()  # keeps the store as long as the processes may need it
                return context
            while not context.join(grace_period=_ABORT_GRACE_S + _LEAVE_S):  # the watchers end the others on an error
                pass
        return None

    @staticmethod
    @contextmanager
    def meeting_point(host: str = "127.0.0.1", port: int = 0) -> Iterator[dict[str, str]]:
        """Run a store for processes that are started later; yields their environment variables.

        Its port is bound before they start, so no other program can take it.
        """
        store = TCPStore(host, port, is_master=True, wait_for_workers=False)
        yield {"MASTER_ADDR": host, "MASTER_PORT": str(store.port), _AGENT_STORE: "True"}
        del store

    def backend(self) -> str:
        return self._backend

    @property
    def store(self) -> Any:
        is_real = dist.get_backend() != "fake"  # torch's backend for tests: its other ranks never write
        return dist.distributed_c10d._get_default_store() if is_real else None

    @property
    def timeout(self) -> timedelta | None:
        group = dist.distributed_c10d._get_default_group()
        try:
            limit: timedelta = group._get_backend(torch.device("cpu")).options._timeout
        except (RuntimeError, AttributeError):  # the group has no backend for the CPU
            return None
        return limit

    @property
    def collectives_done(self) -> int:
        group: Any = dist.GroupMember.WORLD
        try:
            return int(group._get_sequence_number_for_group())
        except RuntimeError:  # MPI does not count
            return 0

    def locate(self) -> Place:
        if self._place is None:
            self._place = _find_place(self.rank, self.world_size)
        return self._place

    def local_rank(self) -> int:
        if self._place is None:
            known = os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID", self.given_local_rank))
            if known is not None:
                return int(known)
        return self.locate().local_rank

    def device(self) -> torch.device:
        return torch.device("cuda", torch.cuda.current_device()) if self._uses_cuda else torch.device("cpu")

    def control_device(self) -> torch.device:
        return torch.device("cpu") if "cpu" in _devices(None) else self.device()

    def reduces(self, tensor: Tensor, op: str) -> bool:
        if self._carrier(tensor, None).type == "cuda":
            return tensor.dtype in _REDUCED_BY_NCCL and op not in ("AND", "OR")
        return tensor.dtype in _REDUCED_BY_GLOO

    def all_reduce(self, tensor: Tensor, op: str, group: Any) -> Tensor:
        carried = tensor.to(self._carrier(tensor, group))
        self._exchange(
            "all_reduce", carried.device, dist.all_reduce, carried, getattr(dist.ReduceOp, _OPS.get(op, op)), group
        )
        return carried.to(tensor.device)

    def all_gather(self, tensor: Tensor, group: Any) -> list[Tensor]:
        carried = to_bytes(tensor.to(self._carrier(tensor, group)))
        gathered = carried.new_empty(dist.get_world_size(group), carried.numel())
        self._exchange("all_gather", carried.device, dist.all_gather, list(gathered), carried, group)
        return [from_bytes(row, tensor.dtype, tensor.shape).to(tensor.device) for row in gathered]

    def broadcast(self, tensor: Tensor, src: int) -> Tensor:
        carried = to_bytes(tensor.to(self._carrier(tensor, None)))
        self._exchange("broadcast", carried.device, dist.broadcast, carried, src)
        return from_bytes(carried, tensor.dtype, tensor.shape).to(tensor.device)

    def barrier(self) -> None:
        if self._backend == "nccl" and "cpu" not in _devices(None):
            with self._explained("barrier"):
                dist.barrier(device_ids=[torch.cuda.current_device()])
        else:
            self._exchange("barrier", torch.device("cpu"), dist.barrier)

    def make_group(self, ranks: tuple[int, ...], **kwargs: Any) -> Any:
        failures.begin(self.operation)
        kwargs.setdefault("timeout", self.timeout)  # instead of torch's default
        with self._explained("new_group"):
            return dist.new_group(list(ranks), **kwargs)

    def members(self, group: Any) -> tuple[int, ...]:
        if group is dist.GroupMember.NON_GROUP_MEMBER:
            return ()
        if not isinstance(group, dist.ProcessGroup):
            raise TypeError(f"group must be a list of ranks or a ProcessGroup, got {type(group).__name__}")
        return tuple(dist.get_process_group_ranks(group))

    def finalize(self) -> None:
        failures.stop()
        gc.collect()  # a DistributedDataParallel in a reference cycle would keep the group alive
        dist.destroy_process_group()
        # A thread of gloo frees the tensors of the last collective when it gets the GIL. If the interpreter ends first,
        # the process is aborted ("terminate called without an active exception"): release the GIL now.
        time.sleep(_GIL_S)

    def auto_model(self, model: nn.Module, sync_bn: bool, **kwargs: Any) -> nn.Module:
        if "device_ids" in kwargs:
            raise ValueError(
                f"auto_model: device_ids follows from the process and must not be passed, got {kwargs['device_ids']!r}"
            )
        device = self.device()
        if sync_bn:
            if device.type == "cpu":
                raise ValueError(
                    "auto_model: torch synchronises batch normalisation on GPUs only, the device is the CPU"
                )
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
        if not any(parameter.requires_grad for parameter in model.parameters()):
            return model  # nothing to synchronise, and torch would refuse it
        return nn.parallel.DistributedDataParallel(
            model, device_ids=[device.index] if device.type == "cuda" else None, **kwargs
        )

    def shard_model(self, model: nn.Module, **kwargs: Any) -> nn.Module:
        from torch.distributed.fsdp import fully_shard  # imported here because it takes a second

        for tensor in (*model.parameters(), *model.buffers()):
            tensor.data = self.broadcast(tensor.detach(), 0)
        lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
        for element in (element for elements in reversed(lists) for element in elements):  # the innermost first
            fully_shard(element, **kwargs)
        fully_shard(model, **kwargs)
        return model

    def _carrier(self, tensor: Tensor, group: Any) -> torch.device:
        """The device on which the group can exchange this tensor: its own if possible."""
        devices = _devices(group)
        if tensor.device.type in devices:
            return tensor.device
        return torch.device("cpu") if "cpu" in devices else self.device()

    def _exchange(self, name: str, device: torch.device, operation: Callable[..., Any], *args: Any) -> None:
        """Run a collective of torch on a device and wait for it, unless another rank fails."""
        failures.begin(self.operation or name)
        with self._explained(name):
            if device.type == "cpu":
                failures.finish(operation(*args, async_op=True), self.operation or name)
            else:  # the result is ready in stream order
                operation(*args)

    def _explained(self, operation: str) -> Any:
        return failures.explained(self.operation or operation, self.rank, self.world_size, self._backend)


#: Names of torch's reductions that differ from those of this library.
_OPS = {"AND": "BAND", "OR": "BOR"}


def _devices(group: Any) -> set[str]:
    """The device types whose tensors a group exchanges; gloo and MPI claim all but are used for the CPU only."""
    pairs = (pair.partition(":") for pair in dist.get_backend_config(group).split(","))
    return {device for device, _, backend in pairs if device == "cpu" or backend not in ("gloo", "mpi")}


def _launch(backend: str, init_method: str | None, rank: int | None, world_size: int | None) -> Launch:
    """Rank and world size of this process, from the arguments if given, else from the environment."""
    if (rank is None) != (world_size is None):
        raise ValueError(
            f"idist.initialize: rank and world_size go together, got rank={rank} and world_size={world_size}"
        )
    by_environment = init_method in (None, "env://")
    if rank is not None and world_size is not None:
        if by_environment:
            raise ValueError(
                f"idist.initialize: rank={rank} and world_size={world_size} need an init_method; without one they are "
                "read from RANK and WORLD_SIZE"
            )
        if not 0 <= rank < world_size:
            raise ValueError(f"idist.initialize: rank must be in [0, world_size), got {rank} of {world_size}")
        return Launch(rank, world_size, None, source="the arguments")
    launch = read_launch(os.environ, backend) or Launch(0, 1, 0)
    if launch.world_size == 1 and by_environment:
        return Launch(launch.rank, 1, launch.local_rank, source=launch.source)
    return launch if by_environment else Launch(launch.rank, launch.world_size, launch.local_rank, node=launch.node)


def _own_gpu(place: Place) -> torch.device:
    count = torch.cuda.device_count()
    if place.local_rank >= count:
        raise RuntimeError(
            f"idist.initialize (backend nccl, rank {place.rank} of {place.world_size}): "
            f"LOCAL_RANK='{place.local_rank}', but this node has {count} GPUs; start fewer processes, or use gloo"
        )
    return torch.device("cuda", place.local_rank)


def _find_place(rank: int, world_size: int) -> Place:
    """The place in a group that the user made: from torchrun's variables, else by comparing host names of all ranks."""
    known = os.environ
    wanted = ("LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE")
    if all(name in known for name in wanted) and known.get("RANK") == str(rank):
        local_rank, nproc_per_node, node_rank, nnodes = (int(known[name]) for name in wanted)
        return Place(rank, world_size, local_rank, nproc_per_node, nnodes, node_rank)
    names: list[Any] = [None] * world_size
    with failures.explained("get_local_rank", rank, world_size, str(dist.get_backend())):
        dist.all_gather_object(names, known.get("SLURM_NODEID") or socket.gethostname())
    sizes = Counter(names)
    node = names[rank]
    return Place(rank, world_size, names[:rank].count(node), max(sizes.values()), len(sizes), list(sizes).index(node))


def _enter(local_rank: int, worker: Callable[[int], None], environment: dict[str, str], first_rank: int) -> None:
    """Run a worker in a spawned process, with the environment variables that torchrun would set."""
    os.environ.update(environment, RANK=str(first_rank + local_rank), LOCAL_RANK=str(local_rank))
    worker(local_rank)
