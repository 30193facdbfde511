"""auto_dataloader, auto_model and auto_optim, alone and on several ranks."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import BatchSampler, DataLoader, Dataset, IterableDataset, RandomSampler, SequentialSampler
from torch.utils.data.distributed import DistributedSampler

import ignite_core.distributed as idist
from ignite_core.engine import Engine
from ignite_core.testing import run_distributed


class Stream(IterableDataset[int]):
    def __iter__(self) -> Any:
        return iter(range(4))


# ---------------------------------------------------------------------------------------------------------------- data


def loaded(batch_size: int, options: dict[str, Any], seed_by_rank: bool = False) -> dict[str, Any]:
    torch.manual_seed(idist.get_rank() if seed_by_rank else 0)
    loader = idist.auto_dataloader(list(range(11)), batch_size=batch_size, **options)
    return {
        "batches": [[batch.tolist() for batch in loader] for _ in range(2)],
        "batch_size": loader.batch_size,
    }


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_loader_without_padding(ranks: int) -> None:
    """An evaluation sees each sample once."""
    found = run_distributed(loaded, 4, {"pad": False}, ranks=ranks)

    assert sorted(sample for one in found for batch in one["batches"][0] for sample in batch) == list(range(11))
    assert [one["batch_size"] for one in found] == [4 // ranks] * ranks


def shared_by(dimensions: tuple[int, ...], as_mesh: bool) -> dict[str, Any]:
    """What a rank gets where the ranks of a tensor-parallel group must see the same samples."""
    names = ("dp", "tp")
    mesh: Any = init_device_mesh("cpu", dimensions, mesh_dim_names=names)["dp"]
    samples: Any = list(range(8))
    group = mesh if as_mesh else mesh.get_group()
    loader = idist.auto_dataloader(samples, batch_size=4, shuffle=True, group=group)
    proxied = idist.auto_dataloader(samples, sampler=RandomSampler(samples), group=group)
    drawn: list[Any] = []
    engine = Engine(lambda engine, batch: drawn.append(batch.tolist()))
    engine.run(idist.auto_dataloader(Noisy(), batch_size=4, group=group), max_epochs=1, seed=1)
    return {
        "dp": mesh.get_local_rank(),
        "seen": [batch.tolist() for batch in loader] + list(proxied.sampler),
        "drawn": drawn,
        "batch_size": loader.batch_size,
        "global_batch": engine.state_dict()["global_batch"],
    }


class Noisy(Dataset[float]):
    """Augmented at random."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> float:
        return index + torch.rand(1).item()


@pytest.mark.parametrize("as_mesh", [True, False])
@pytest.mark.parametrize("dimensions", [(1, 2), (2, 1), (2, 2)])
def test_tensor_parallel_ranks_see_the_same_samples(dimensions: tuple[int, int], as_mesh: bool) -> None:
    """Augmented in the same way, too, in a seeded run."""
    found = run_distributed(shared_by, dimensions, as_mesh, ranks=dimensions[0] * dimensions[1])

    assert all(one["batch_size"] == 4 // dimensions[0] and one["global_batch"] == 4 for one in found)
    for one in found:
        for other in found:
            assert (one["seen"] == other["seen"]) is (one["dp"] == other["dp"])
            assert (one["drawn"] == other["drawn"]) is (one["dp"] == other["dp"])


def given_all_dimensions() -> str:
    with pytest.raises(ValueError, match=r"group must have one dimension, .* got a mesh of 2") as raised:
        idist.auto_dataloader([1, 2], group=init_device_mesh("cpu", (1, 2), mesh_dim_names=("dp", "tp")))  # type: ignore[arg-type]
    other = [dist.new_group([rank]) for rank in range(2)][1 - dist.get_rank()]
    with pytest.raises(ValueError, match="must contain this rank, got one without rank"):
        idist.auto_dataloader([1, 2], group=other)  # type: ignore[arg-type]
    return str(raised.value)


def test_mesh_of_several_dimensions() -> None:
    """It is refused."""
    assert "as mesh['dp']" in run_distributed(given_all_dimensions, ranks=2)[0]


def few_samples() -> list[list[int]]:
    return [batch.tolist() for batch in idist.auto_dataloader([0, 1], batch_size=4, pad=False)]


def test_ranks_without_samples() -> None:
    assert run_distributed(few_samples, ranks=4) == [[[0]], [[1]], [], []]


@pytest.mark.parametrize("seed_by_rank", [False, True])
def test_global_batches_do_not_depend_on_ranks(seed_by_rank: bool) -> None:
    """One, two and four ranks have the same global batches.

    Also where each rank has seeded itself differently: then the seed of rank 0 counts.
    """
    options = {"shuffle": True, "drop_last": True}
    alone = run_distributed(loaded, 4, options, ranks=1)[0]["batches"]
    for ranks in (2, 4):
        found = [one["batches"] for one in run_distributed(loaded, 4, options, seed_by_rank, ranks=ranks)]
        together = [
            [sorted(sample for batch in step for sample in batch) for step in zip(*epoch, strict=True)]
            for epoch in zip(*found, strict=True)
        ]

        assert [epoch[:2] for epoch in together] == [[sorted(batch) for batch in epoch] for epoch in alone]
    assert alone[0] != alone[1], "each epoch has its own order"


def test_global_batches_of_one_process() -> None:
    """Without ``initialize``, too."""
    options = {"shuffle": True, "drop_last": True}

    assert loaded(4, dict(options)) == run_distributed(loaded, 4, options, ranks=1)[0]


def workers() -> int:
    return idist.auto_dataloader([1, 2], num_workers=3).num_workers


def test_workers_are_divided_by_ranks_of_a_node() -> None:
    """Rounded up."""
    assert run_distributed(workers) == [2, 2]


def test_loader_without_shuffle() -> None:
    """The order is that of the data, on any number of ranks."""
    found = run_distributed(loaded, 2, {}, ranks=2)

    assert [one["batches"][0] for one in found] == [
        [[0], [2], [4], [6], [8], [10]],
        [[1], [3], [5], [7], [9], [0]],  # the first sample again, so that both have six
    ]


def test_batch_size_below_world_size() -> None:
    """It is the batch size of each rank."""
    assert [one["batch_size"] for one in run_distributed(loaded, 1, {}, ranks=2)] == [1, 1]


def test_loader_of_one_process() -> None:
    """It is a usual DataLoader."""
    loader = idist.auto_dataloader(list(range(5)), batch_size=2, num_workers=0)

    assert type(loader) is DataLoader
    assert type(loader.sampler) is SequentialSampler
    assert loader.pin_memory is (idist.device().type == "cuda")


def own_samplers() -> dict[str, Any]:
    data = list(range(6))
    taken: Any = DistributedSampler(data)  # type: ignore[arg-type]
    others: Any = DistributedSampler(data, num_replicas=3, rank=0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"the sampler is for rank 0 of 3, but this is rank \d of 2"):
        idist.auto_dataloader(data, sampler=others)
    with pytest.warns(UserWarning, match="a batch_sampler is not divided among the 2 ranks"):
        batches = idist.auto_dataloader(data, batch_sampler=BatchSampler(SequentialSampler(data), 3, False))
    with pytest.warns(UserWarning, match="an IterableDataset is not divided among the 2 ranks"):
        stream = idist.auto_dataloader(Stream(), batch_size=4)
    return {
        "taken": idist.auto_dataloader(data, sampler=taken).sampler is taken,
        "shared": list(idist.auto_dataloader(data, sampler=SequentialSampler(data)).sampler),
        "batches": [batch.tolist() for batch in batches],
        "stream": [batch.tolist() for batch in stream],
    }


def test_custom_samplers() -> None:
    """They are divided among the ranks, used as they are, or not touched, by kind."""
    expected = {"taken": True, "batches": [[0, 1, 2], [3, 4, 5]], "stream": [[0, 1], [2, 3]]}

    assert run_distributed(own_samplers) == [{**expected, "shared": [0, 2, 4]}, {**expected, "shared": [1, 3, 5]}]


@pytest.mark.parametrize(
    ("dataset", "options", "kind"),
    [
        (Stream(), {}, "an IterableDataset"),
        ([1, 2], {"batch_sampler": BatchSampler(SequentialSampler([1, 2]), 1, False)}, "a batch_sampler"),
    ],
)
def test_no_padding_needs_a_sampler_that_can_be_divided(dataset: Any, options: dict[str, Any], kind: str) -> None:
    with pytest.raises(
        ValueError, match=f"pad=False needs a dataset and sampler that can be divided among the ranks, got {kind}"
    ):
        idist.auto_dataloader(dataset, pad=False, **options)


def test_iterable_dataset_of_one_process() -> None:
    """There is no warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")

        assert len(list(idist.auto_dataloader(Stream(), batch_size=2))) == 2


# --------------------------------------------------------------------------------------------------------------- model


class Net(nn.Module):
    """Blocks in a list, as sharding looks for them."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(4, 4), nn.Tanh()) for _ in range(2))
        self.head = nn.Linear(4, 2)
        self.register_buffer("scale", torch.tensor([2.0]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        return self.head(x) * self.scale


def train(shard: bool) -> dict[str, Any]:
    """A few steps on this rank's half of eight samples; all ranks begin with other weights."""
    rank, world_size = idist.get_rank(), idist.get_world_size()
    torch.manual_seed(rank)
    net = Net()
    net.scale += rank
    model = idist.auto_model(net, shard=shard)
    optimizer = idist.auto_optim(torch.optim.SGD(model.parameters(), lr=0.1))
    x = torch.linspace(-1, 1, 32).view(8, 4)[rank::world_size]
    losses = []
    for _ in range(3):
        optimizer.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(idist.all_reduce(loss.item()) / world_size)
    parameters: list[Any] = list(model.parameters())
    return {
        "losses": losses,
        "weights": [(one.full_tensor() if shard and world_size > 1 else one).detach() for one in parameters],
        "held": sum((one.to_local() if shard and world_size > 1 else one).numel() for one in parameters),
        "ddp": isinstance(model, DistributedDataParallel),
    }


@pytest.mark.parametrize("shard", [False, True])
def test_training_on_two_ranks(shard: bool) -> None:
    """The result is that of one process, from the weights of rank 0."""
    alone = run_distributed(train, shard, ranks=1)[0]
    for found in run_distributed(train, shard, ranks=2):
        assert found["losses"] == pytest.approx(alone["losses"], rel=1e-5)
        for one, other in zip(found["weights"], alone["weights"], strict=True):
            torch.testing.assert_close(one, other)
        assert found["held"] == (alone["held"] // 2 if shard else alone["held"])
        assert found["ddp"] is not shard


def test_model_and_optimizer_of_one_process() -> None:
    """They are returned unchanged."""
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters())

    assert idist.auto_model(model) is model
    assert idist.auto_model(model, shard=True) is model
    assert idist.auto_optim(optimizer) is optimizer


def special_models() -> dict[str, Any]:
    frozen = nn.Linear(2, 1).requires_grad_(False)
    wrapped: Any = idist.auto_model(nn.Linear(2, 1), find_unused_parameters=True)
    with pytest.raises(ValueError, match="wrapped already, got a DistributedDataParallel"):
        idist.auto_model(wrapped)
    with pytest.raises(ValueError, match=r"device_ids follows from the process and must not be passed, got \[0\]"):
        idist.auto_model(nn.Linear(2, 1), device_ids=[0])
    with pytest.raises(ValueError, match="on GPUs only, the device is the CPU"):
        idist.auto_model(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)), sync_bn=True)
    return {
        "frozen": idist.auto_model(frozen) is frozen,
        "unused": wrapped.find_unused_parameters,
        "device_ids": wrapped.device_ids,
    }


def test_special_models() -> None:
    """A frozen one has nothing to synchronise; options reach the wrapper; a wrapped one is refused."""
    expected = {"frozen": True, "unused": True, "device_ids": None}

    assert run_distributed(special_models) == [expected, expected]


def test_contradictory_options() -> None:
    with pytest.raises(ValueError, match="sync_bn does not work with a sharded model"):
        idist.auto_model(nn.Linear(2, 1), sync_bn=True, shard=True)


@pytest.mark.gpu
def test_model_and_loader_on_gpu() -> None:
    """The model is moved to the GPU, and memory is pinned."""
    model = idist.auto_model(nn.Linear(2, 1))

    assert next(model.parameters()).device.type == idist.device().type != "cpu"
    if idist.device().type == "cuda":
        assert idist.auto_dataloader([1, 2]).pin_memory
