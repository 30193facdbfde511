"""torch_xla behind the façade, through a fake that keeps to what its documentation says; horovod is refused."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

import ignite_core.distributed as idist
from ignite_core.distributed import current
from ignite_core.distributed.current import REGISTERED, current_model
from ignite_core.distributed.models.xla import XlaModel
from ignite_core.engine.data.position import set_epoch
from ignite_core.testing import run_distributed
from tests.distributed.fakes.processes import FOLDER
from tests.distributed.fakes.worlds import World, pretend

XLA = World("xla-tpu", 2)


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """The fake can be imported, and is forgotten after the test."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(FOLDER)
    monkeypatch.setenv("FAKE_XLA_DEVICES", "2")
    yield monkeypatch
    for name in set(sys.modules) - before:
        if name.partition(".")[0] == "torch_xla":
            del sys.modules[name]


# ------------------------------------------------------------------------------------------------- a package is missing

starts = pytest.mark.parametrize(
    "start", [idist.initialize, lambda backend: idist.spawn(backend, print)], ids=["join", "spawn"]
)


@starts
def test_missing_package(start: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names it, at once."""
    monkeypatch.setitem(sys.modules, "torch_xla", None)  # so Python takes it for missing, also where it is installed
    message = (
        "the backend 'xla-tpu' needs the package 'torch_xla', which is not installed: pip install 'torch_xla[tpu]'"
    )

    with pytest.raises(ModuleNotFoundError, match=f"^{re.escape(message)}$"):
        start("xla-tpu")

    assert idist.model_name() == "serial"


@starts
def test_horovod_is_refused(start: Callable[[str], None]) -> None:
    assert not idist.has_hvd_support
    with pytest.raises(ValueError, match="horovod is not supported"):
        start("horovod")


def test_broken_package(fakes: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """It is not reported as missing."""
    (tmp_path / "torch_xla").mkdir()
    (tmp_path / "torch_xla" / "__init__.py").write_text("import a_package_that_it_needs")
    fakes.syspath_prepend(tmp_path)

    with pytest.raises(ModuleNotFoundError, match="No module named 'a_package_that_it_needs'"):
        idist.initialize("xla-tpu")


def test_order_of_models() -> None:
    """A running torch.distributed is found before torch_xla."""
    assert [model.name for model in REGISTERED] == ["native-dist", "xla-dist"]


def test_sync_does_not_import_torch_xla() -> None:
    idist.sync()

    assert idist.model_name() == "serial"
    assert "torch_xla" not in sys.modules


# ---------------------------------------------------------------------------------------------------- join and be found


def find_xla() -> list[Any]:
    rank, size = idist.get_rank(), idist.get_world_size()
    idist.finalize()
    pretend(rank, size)
    idist.sync()
    found = [idist.model_name()]  # not imported
    import torch_xla  # noqa: F401

    idist.sync()
    return [*found, idist.model_name(), idist.get_rank(), idist.all_reduce(idist.get_rank() + 1)]


def test_process_launched_by_torch_xla() -> None:
    """It is detected."""
    assert run_distributed(find_xla, ranks=2) == [["serial", "xla-dist", rank, 3] for rank in range(2)]


def test_torch_xla_without_launch(fakes: pytest.MonkeyPatch) -> None:
    """Its world size must not be read before a launch: torch_xla caches it, also for forked processes."""
    import torch_xla

    fakes.delattr(torch_xla.runtime, "world_size")

    idist.sync()

    assert idist.model_name() == "serial"


def test_xla_under_torchrun(fakes: pytest.MonkeyPatch) -> None:
    """It is an error, not a run of one process."""
    fakes.setenv("WORLD_SIZE", "2")
    message = "(backend xla-tpu): WORLD_SIZE='2', as of torchrun, but xla-tpu did not start this process"

    with pytest.raises(RuntimeError, match=re.escape(message)):
        idist.initialize("xla-tpu")


def test_threads_with_several_devices(fakes: pytest.MonkeyPatch) -> None:
    """They are refused."""
    fakes.setenv("FAKE_XLA_DEVICES_OF_A_PROCESS", "2")

    with pytest.raises(RuntimeError, match="must be a process for each device, but this one drives 2 devices"):
        idist.initialize("xla-tpu")


# --------------------------------------------------------------------------------------------------------------- groups


def group_of_some() -> str:
    with pytest.raises(ValueError, match="group") as caught:
        idist.all_reduce(1, group=[0, 2])
    return str(caught.value)


def test_xla_groups() -> None:
    """A group of some ranks is refused.

    All ranks run one program, so the other ranks would have to take part.
    """
    message = (
        "new_group: with xla-tpu all ranks must run the same collectives, so that a group must be of one rank or of "
        "all 3, got [0, 2]"
    )

    assert World("xla-tpu", 3).run(group_of_some) == [message] * 3


# ------------------------------------------------------------------------------------------- model, optimizer and data


def train() -> dict[str, Any]:
    rank, size = idist.get_rank(), idist.get_world_size()
    torch.manual_seed(rank)
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    wrapped = idist.auto_model(model)
    start = [parameter.detach().clone() for parameter in model.parameters()]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    distributed = idist.auto_optim(optimizer)
    untouched = all(map(torch.equal, start, model.parameters()))
    loader = idist.auto_dataloader(torch.arange(24.0).reshape(8, 3), batch_size=2 * size)
    for _ in range(2):
        for batch in loader:
            distributed.zero_grad()
            wrapped(batch).pow(2).sum().backward()
            distributed.step()
    return {
        "is the model": wrapped is model,
        "is the optimizer": distributed is optimizer,
        "kind": isinstance(distributed, torch.optim.SGD),
        "start": start,
        "untouched": untouched,
        "end": [parameter.detach() for parameter in model.parameters()],
    }


def test_xla_training() -> None:
    """The model has the weights of rank 0, and gradients are averaged."""
    first, second = XLA.run(train)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    copies = [nn.BatchNorm1d(2) for _ in range(2)]
    for found in (first, second):
        assert all(map(torch.equal, found["start"], model.parameters()))
        assert found["untouched"]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    data = torch.arange(24.0).reshape(8, 3)
    for _ in range(2):
        for step in range(2):
            optimizer.zero_grad()
            for rank in range(2):
                copies[rank].weight, copies[rank].bias = model[1].weight, model[1].bias
                batch = data[4 * step + rank : 4 * step + 4 : 2]
                (copies[rank](model[0](batch)).pow(2).sum() / 2).backward()
            optimizer.step()

    assert all(map(torch.equal, first["end"], second["end"]))
    for found, expected in zip(first["end"], model.parameters(), strict=True):
        assert torch.allclose(found, expected, atol=1e-5)
    assert first["is the model"]
    assert first["kind"]
    assert first["is the optimizer"]


class Told(torch.utils.data.SequentialSampler):
    epoch = -1

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch


def load() -> dict[str, Any]:
    import torch_xla

    syncs = torch_xla.num_syncs
    data = torch.arange(8)
    loader = idist.auto_dataloader(data, batch_size=4, shuffle=True)
    batches = [batch.tolist() for batch in loader]
    syncs = torch_xla.num_syncs - syncs
    sampler = Told(data)
    told = current_model().auto_loader(DataLoader(data, sampler=sampler))
    set_epoch(told, 5)
    facts = (type(loader).__name__, len(loader), loader.batch_size, len(loader.dataset))
    return {"facts": facts, "batches": batches, "syncs": syncs, "epoch": sampler.epoch}


def test_xla_loader() -> None:
    """It moves batches to the device, and its sampler gets the epoch."""
    found = XLA.run(load)

    for one in found:
        assert one["facts"] == ("MpDeviceLoader", 2, 2, 8)
        assert one["syncs"] == 2
        assert one["epoch"] == 5
    assert sorted(sample for one in found for batch in one["batches"] for sample in batch) == list(range(8))


def ask_for_too_much() -> dict[str, str]:
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.1)
    calls: dict[str, Callable[[], Any]] = {
        "sync_bn": lambda: idist.auto_model(nn.Linear(1, 1), sync_bn=True),
        "shard": lambda: idist.auto_model(nn.Linear(1, 1), shard=True),
        "kwargs": lambda: idist.auto_model(nn.Linear(1, 1), find_unused_parameters=True),
        "group": lambda: idist.all_gather(torch.ones(1), group=object()),
        "optim": lambda: idist.auto_optim(optimizer, op="x"),
        "join": lambda: idist.initialize("xla-tpu", timeout=3),
    }
    found = {}
    for name, call in calls.items():
        try:
            call()
        except (TypeError, ValueError) as error:
            found[name] = f"{type(error).__name__}: {error}"
    idist.barrier()
    return found


def test_unsupported_by_xla() -> None:
    """The error says what is not supported."""
    expected = {
        "sync_bn": "ValueError: auto_model: sync_bn=True needs nccl, got the backend xla-tpu",
        "shard": "ValueError: auto_model: shard=True needs gloo or nccl, got the backend xla-tpu",
        "kwargs": "TypeError: auto_model: the backend 'xla-tpu' takes no find_unused_parameters",
        "group": "TypeError: group must be a list of ranks, got object",
        "optim": "TypeError: auto_optim: the backend 'xla-tpu' takes no op",
        "join": "TypeError: idist.initialize: the backend 'xla-tpu' takes no timeout",
    }

    assert XLA.run(ask_for_too_much) == [expected] * 2


# ---------------------------------------------------------------------------------------------------------------- spawn


def write(local_rank: int, folder: str, text: str) -> None:
    total = idist.all_reduce(local_rank + 1)
    facts = [idist.model_name(), idist.get_rank(), idist.get_local_rank(), idist.get_world_size(), total, text]
    with open(os.path.join(folder, str(local_rank)), "w", encoding="utf-8") as file:
        file.write(repr(facts))


def written(folder: Any) -> list[str]:
    return [path.read_text(encoding="utf-8") for path in sorted(folder.iterdir())]


def test_xla_spawn(fakes: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """Processes are started by torch_xla."""
    idist.spawn("xla-tpu", write, (str(tmp_path),), {"text": "hi"}, nproc_per_node=2)

    assert written(tmp_path) == [repr(["xla-dist", rank, rank, 2, 3, "hi"]) for rank in range(2)]


def test_xla_parallel(fakes: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """Processes are started by torch_xla."""
    fakes.setattr(current, "has_xla_support", True)
    with idist.Parallel("xla-tpu", nproc_per_node=2) as parallel:
        parallel.run(write, str(tmp_path), text="hi")

    assert len(written(tmp_path)) == 2


def test_xla_one_process(fakes: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """It runs in the calling process."""
    idist.spawn("xla-tpu", write, (str(tmp_path), "here"), nproc_per_node=1)

    assert written(tmp_path) == [repr(["xla-dist", 0, 0, 1, 1, "here"])]
    assert idist.model_name() == "serial"


def test_xla_number_of_processes(fakes: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """The error says how many processes torch_xla starts."""
    message = "spawn: torch_xla starts a process for each of the 2 devices of this node; got nproc_per_node=3"

    with pytest.raises(RuntimeError, match=message):  # of the fake, with the traceback of the process
        idist.spawn("xla-tpu", write, (str(tmp_path), ""), nproc_per_node=3)


def test_xla_several_nodes(fakes: pytest.MonkeyPatch) -> None:
    """The error says how to use several nodes."""
    with pytest.raises(ValueError, match="call it on each of them without nnodes and node_rank; got nnodes=2"):
        idist.spawn("xla-tpu", write, nproc_per_node=2, nnodes=2)


def test_the_class_names_what_it_is() -> None:
    assert (XlaModel.name, XlaModel.available_backends) == ("xla-dist", ("xla-tpu",))
