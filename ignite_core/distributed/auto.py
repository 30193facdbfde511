"""Adapt a model, an optimizer and data to one process or many, with the same three calls."""

from __future__ import annotations

import warnings
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.utils.data import DataLoader, Dataset, IterableDataset
from torch.utils.data.distributed import DistributedSampler

from ignite_core.distributed import utils
from ignite_core.distributed.current import current_model
from ignite_core.distributed.samplers import DistributedProxySampler, ShardSampler

__all__ = ["auto_dataloader", "auto_model", "auto_optim"]


def auto_dataloader(
    dataset: Dataset[Any], *, pad: bool = True, group: dist.ProcessGroup | DeviceMesh | None = None, **kwargs: Any
) -> Any:
    """Make a DataLoader for this rank: its share of the batches and workers.

    - ``batch_size`` is the size on all ranks of the group together; it is divided if it is at least their number.
    - ``num_workers`` is the number on a node, divided among its ranks and rounded up.
    - The samples are dealt to the ranks in turn. With ``shuffle=True`` their order is the same for every number of
      ranks; it follows from the seed of rank 0 (``torch.manual_seed``) and the epoch, which an engine sets.
    - ``pin_memory`` is True if the device is a GPU.

    Args:
        dataset: An :class:`~torch.utils.data.IterableDataset` is not divided, with a warning: it must give different
            samples to each rank.
        pad: All ranks get the same number of samples; some are repeated if the number of samples is not a multiple of
            the world size. False, for exact evaluation: every sample once; ranks may differ by one, or have none.
        group: The ranks that share the samples; by default all. With tensor, pipeline or context parallelism, where
            several ranks must see the same samples: the data-parallel dimension of the device mesh, ``mesh["dp"]``, or
            its process group.
        kwargs: Arguments of the :class:`~torch.utils.data.DataLoader`. The samples of a ``sampler`` are divided, unless
            it is distributed already; a ``batch_sampler`` is not, with a warning.

    Returns:
        The DataLoader; for ``xla-tpu`` it is wrapped to move batches to the device.

    Raises:
        ValueError: If ``pad=False`` is passed with a dataset or batch sampler that is not divided; if the mesh has
            several dimensions, or this rank is not in the group.

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
        # a sampler also for a group of one rank: it shows a seeded run that other groups use the same samples
        is_shared = world_size > 1 or group is not None
        _choose_sampler(dataset, pad, rank, world_size, is_shared, kwargs)
    kwargs.setdefault("pin_memory", utils.device().type == "cuda")
    return current_model().auto_loader(DataLoader(dataset, **kwargs))


def _place_in(group: Any) -> tuple[int, int]:
    """The rank of this process among those that share the samples, and their number."""
    if group is None:
        return utils.get_rank(), utils.get_world_size()
    if isinstance(group, DeviceMesh):
        if group.ndim != 1:
            raise ValueError(
                f"auto_dataloader: group must have one dimension, that of data parallelism, got a mesh of "
                f"{group.ndim}, {group.mesh_dim_names}; pass the one whose ranks get different samples, as mesh['dp']"
            )
        return group.get_local_rank(), group.size()
    rank = dist.get_rank(group)
    if rank < 0:
        raise ValueError(f"auto_dataloader: group must contain this rank, got one without rank {utils.get_rank()}")
    return rank, dist.get_world_size(group)


def _divide(name: str, kwargs: dict[str, Any], parts: int, round_up: bool) -> None:
    """Divide an argument by ``parts``, unless it is smaller than that."""
    number = kwargs.get(name)
    if number is not None and number >= parts:
        kwargs[name] = -(-number // parts) if round_up else number // parts


def _leave_alone(dataset: Any, pad: bool, world_size: int) -> None:
    kind = "an IterableDataset" if isinstance(dataset, IterableDataset) else "a batch_sampler"
    if not pad:
        raise ValueError(
            f"auto_dataloader: pad=False needs a dataset and sampler that can be divided among the ranks, got {kind}; "
            "omit pad, and divide the samples there"
        )
    if world_size > 1:
        warnings.warn(
            f"auto_dataloader: {kind} is not divided among the {world_size} ranks; make sure that it gives each "
            "idist.get_rank() different samples, and the same number of them",
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
        if is_shared and not shuffle:  # with shuffle the DataLoader raises an error
            kwargs["sampler"] = DistributedProxySampler(sampler, world_size, rank, pad)
    elif shuffle or is_shared:
        generator = kwargs.get("generator")
        seed = torch.initial_seed() if generator is None else generator.initial_seed()
        kwargs["sampler"] = ShardSampler(
            dataset,
            world_size,
            rank,
            shuffle=bool(kwargs.pop("shuffle", False)),
            seed=utils.broadcast(seed),  # the ranks may have different seeds
            pad=pad,
        )


def auto_model(model: nn.Module, sync_bn: bool = False, shard: bool = False, **kwargs: Any) -> nn.Module:
    """Move a model to :func:`~ignite_core.distributed.device`, and train it as one on all ranks.

    Args:
        model: All ranks start from the parameters of rank 0.
        sync_bn: Batch normalisation over the batches of all ranks together (in torch, on GPUs only).
        shard: Keep only a part of the parameters, gradients and optimizer state on each rank: FSDP2's
            :func:`~torch.distributed.fsdp.fully_shard`, on each element of each ``nn.ModuleList`` and on the rest. Make
            the optimizer afterwards. In a run of one process nothing is sharded.
        kwargs: Arguments of :class:`~torch.nn.parallel.DistributedDataParallel`, or with ``shard`` of ``fully_shard``.

    Returns:
        With several ranks of torch.distributed a DistributedDataParallel, with ``shard`` the model itself; else the
        model. Never a DataParallel, even if one process has several GPUs.

    Raises:
        ValueError: If the model is wrapped already, or arguments contradict each other.

    Example:
        >>> auto_model(nn.Linear(2, 1))
        Linear(in_features=2, out_features=1, bias=True)
    """
    if isinstance(model, nn.parallel.DistributedDataParallel | nn.DataParallel):
        raise ValueError(f"auto_model: the model is wrapped already, got a {type(model).__name__}; pass its module")
    if shard and sync_bn:
        raise ValueError("auto_model: sync_bn does not work with a sharded model, got shard=True")
    computation = current_model()
    device = computation.device()
    if any(tensor.device != device for tensor in (*model.parameters(), *model.buffers())):
        model.to(device)
    if computation.world_size == 1:
        return model
    if shard:
        return computation.shard_model(model, **kwargs)
    return computation.auto_model(model, sync_bn, **kwargs)


def auto_optim(optimizer: torch.optim.Optimizer, **kwargs: Any) -> torch.optim.Optimizer:
    """Average the gradients of all ranks in each step, for ``xla-tpu``.

    With torch.distributed the model averages the gradients, and the optimizer is returned unchanged.

    Args:
        optimizer: For the parameters of the model that :func:`auto_model` returned.
        kwargs: Accepted for compatibility with pytorch-ignite; with ``xla-tpu`` an error.
    """
    return current_model().auto_optim(optimizer, **kwargs)
