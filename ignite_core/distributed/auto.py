"""Model, optimizer and data for one process or many, with the same three calls."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset
from torch.utils.data.distributed import DistributedSampler

from ignite_core.distributed import utils
from ignite_core.distributed.current import current_model
from ignite_core.distributed.samplers import DistributedProxySampler, ShardSampler

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

__all__ = ["auto_dataloader", "auto_model", "auto_optim"]


def auto_dataloader(
    dataset: Dataset[Any], *, pad: bool = True, group: dist.ProcessGroup | DeviceMesh | None = None, **kwargs: Any
) -> Any:
    """Make a DataLoader for this rank: alone, the usual one; as one of many, its share of the batches and workers.

    - ``batch_size`` is that of all ranks of the group together, divided among them (if it is at least their number).
    - ``num_workers`` is that of a node, divided among its ranks and rounded up.
    - The samples are dealt to the ranks in turn; with ``shuffle=True`` in an order that is the same for every number of
      ranks, and follows from the seed of rank 0 (``torch.manual_seed``) and the epoch, which an engine tells.
    - ``pin_memory`` is True where the device is a GPU.

    Args:
        dataset: An :class:`~torch.utils.data.IterableDataset` is left alone, with a warning: it must itself give each
            rank other samples.
        pad: All ranks get equally many samples; some of them twice, if their number is no multiple of the world size.
            False, for exact evaluation: every sample once, so that ranks may differ by one, and have none at all.
        group: The ranks that share the samples; by default all. With tensor, pipeline or context parallelism, where
            several ranks must see the same samples: the data-parallel dimension of the device mesh, ``mesh["dp"]``, or
            its process group.
        kwargs: Of the :class:`~torch.utils.data.DataLoader`. A ``sampler`` is shared out as it draws, a distributed one
            taken as it is; a ``batch_sampler`` is left alone, with a warning.

    Returns:
        The DataLoader; for ``xla-tpu`` it is wrapped so that batches come on the device.

    Raises:
        ValueError: If ``pad=False`` is asked for where the library does not choose the samples; if the mesh has several
            dimensions, or this rank is not in the group.

    Example:
        >>> loader = auto_dataloader(list(range(5)), batch_size=2, pad=False)
        >>> [batch.tolist() for batch in loader]
        [[0, 1], [2, 3], [4]]
    """
    rank, world_size = _place_in(group)
    if world_size > 1:
        _divide("batch_size", kwargs, world_size, round_up=False)
        _divide("num_workers", kwargs, utils.get_nproc_per_node(), round_up=True)
    if isinstance(dataset, IterableDataset) or kwargs.get("batch_sampler") is not None:
        _leave_alone(dataset, pad, world_size)
    else:
        # a sampler also for a group of one rank: it tells a seeded run that the ranks of other groups see the same
        is_shared = world_size > 1 or group is not None
        _choose_sampler(dataset, pad, rank, world_size, is_shared, kwargs)
    kwargs.setdefault("pin_memory", utils.device().type == "cuda")
    return current_model().auto_loader(DataLoader(dataset, **kwargs))


def _place_in(group: Any) -> tuple[int, int]:
    """Which of the ranks that share the samples this is, and how many there are."""
    if group is None:
        return utils.get_rank(), utils.get_world_size()
    if hasattr(group, "mesh_dim_names"):  # the class is only there where torch.distributed is
        if group.ndim != 1:
            raise ValueError(
                f"auto_dataloader: group must have one dimension, that of data parallelism, got a mesh of "
                f"{group.ndim}, {group.mesh_dim_names}; pass the one whose ranks get other samples, as mesh['dp']"
            )
        return group.get_local_rank(), group.size()
    rank = dist.get_rank(group)
    if rank < 0:
        raise ValueError(f"auto_dataloader: group must hold this rank, got one without rank {utils.get_rank()}")
    return rank, dist.get_world_size(group)


def _divide(name: str, kwargs: dict[str, Any], parts: int, round_up: bool) -> None:
    """A number for all, in ``parts``; one that is too small for that stays what it is."""
    number = kwargs.get(name)
    if number is not None and number >= parts:
        kwargs[name] = -(-number // parts) if round_up else number // parts


def _leave_alone(dataset: Any, pad: bool, world_size: int) -> None:
    kind = "an IterableDataset" if isinstance(dataset, IterableDataset) else "a batch_sampler"
    if not pad:
        raise ValueError(
            f"auto_dataloader: pad=False promises each sample once, but with {kind} the samples are not chosen here; "
            "leave pad out, and see to it there"
        )
    if world_size > 1:
        warnings.warn(
            f"auto_dataloader: with {kind} each of the {world_size} ranks gets all that it gives; make sure that it "
            "gives other samples to each idist.get_rank(), and as many",
            stacklevel=3,
        )


def _choose_sampler(
    dataset: Any, pad: bool, rank: int, world_size: int, is_shared: bool, kwargs: dict[str, Any]
) -> None:
    sampler, shuffle = kwargs.get("sampler"), kwargs.get("shuffle")
    if isinstance(sampler, DistributedSampler):
        if (sampler.num_replicas, sampler.rank) != (world_size, rank):
            raise ValueError(
                f"auto_dataloader: the sampler is for rank {sampler.rank} of {sampler.num_replicas}, but this is rank "
                f"{rank} of {world_size}"
            )
    elif sampler is not None:
        if is_shared and not shuffle:  # with shuffle the DataLoader says what is wrong
            kwargs["sampler"] = DistributedProxySampler(sampler, world_size, rank, pad)
    elif shuffle or is_shared:
        generator = kwargs.get("generator")
        seed = torch.initial_seed() if generator is None else generator.initial_seed()
        kwargs["sampler"] = ShardSampler(
            dataset,
            world_size,
            rank,
            shuffle=bool(kwargs.pop("shuffle", False)),
            seed=utils.broadcast(seed),  # the ranks may have seeded themselves differently
            pad=pad,
        )


def auto_model(model: nn.Module, sync_bn: bool = False, shard: bool = False, **kwargs: Any) -> nn.Module:
    """Move a model to :func:`~ignite_core.distributed.device`, and let all ranks train it as one.

    Args:
        model: Equal on all ranks or not: all start from that of rank 0.
        sync_bn: Batch normalisation over the batches of all ranks together (GPUs only, as torch has it).
        shard: Let each rank keep only its part of the parameters, gradients and optimizer state: FSDP2's
            :func:`~torch.distributed.fsdp.fully_shard`, on each element of each ``nn.ModuleList`` and on the rest. The
            optimizer is made afterwards. In a run of one process nothing is sharded.
        kwargs: Of :class:`~torch.nn.parallel.DistributedDataParallel`, or with ``shard`` of ``fully_shard``.

    Returns:
        With several ranks of torch.distributed a DistributedDataParallel, with ``shard`` the model itself; else the
        model. Never a DataParallel, also where one process sees several GPUs: wrap it yourself if you want that.

    Raises:
        ValueError: If it is wrapped already, or arguments do not fit together.

    Example:
        >>> auto_model(nn.Linear(2, 1))
        Linear(in_features=2, out_features=1, bias=True)
    """
    if isinstance(model, nn.parallel.DistributedDataParallel | nn.DataParallel):
        raise ValueError(f"auto_model: the model is wrapped already, got a {type(model).__name__}; pass what is inside")
    if shard and sync_bn:
        raise ValueError("auto_model: sync_bn is for a model that is not sharded, got shard=True")
    computation = current_model()
    device = computation.device()
    if _is_elsewhere(model, device):
        model.to(device)
    if computation.world_size == 1:
        return model
    if shard:
        return computation.shard_model(model, **kwargs)
    return computation.auto_model(model, sync_bn, **kwargs)


def _is_elsewhere(model: nn.Module, device: torch.device) -> bool:
    """Whether a parameter or buffer is not on the device."""
    return {tensor.device for tensor in (*model.parameters(), *model.buffers())} - {device} != set()


def auto_optim(optimizer: torch.optim.Optimizer, **kwargs: Any) -> torch.optim.Optimizer:
    """Let the optimizers of all ranks step as one, where the framework needs that: xla.

    With torch.distributed the gradients are averaged in the model, and the optimizer is returned as it is.

    Args:
        optimizer: Of the parameters of the model that :func:`auto_model` returned.
        kwargs: Accepted as in pytorch-ignite, where horovod takes them; xla takes none.
    """
    return current_model().auto_optim(optimizer, **kwargs)
