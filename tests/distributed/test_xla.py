"""The backend ``xla-tpu`` with the real torch_xla, as one process on one XLA device of the CPU.

``make nightly`` runs this file in ``.venv-xla``: torch_xla needs an older torch than the rest of the suite runs with.
What several ranks do is tested with a fake of torch_xla, in ``test_adapters.py`` and ``test_contract.py``.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import ignite_core.distributed as idist
from ignite_core.engine import Engine, Events, create_supervised_evaluator, create_supervised_trainer
from ignite_core.handlers import AsyncDiskSaver, Checkpoint, DiskSaver
from ignite_core.metrics import Accuracy, Average, MeanSquaredError

pytestmark = [
    pytest.mark.nightly,
    pytest.mark.skipif(
        importlib.util.find_spec("torch_xla") is None,
        reason="needs torch_xla, which `make nightly` installs in .venv-xla",
    ),
]


@pytest.fixture(scope="module", autouse=True)
def device() -> Iterator[torch.device]:
    """Join the XLA backend: torch_xla keeps its device until the process ends, so all tests share it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PJRT_DEVICE", "CPU")
        patch.setenv("CPU_NUM_DEVICES", "1")
        idist.initialize("xla-tpu")
        yield idist.device()
        idist.finalize()


def test_one_process_drives_one_device(device: torch.device) -> None:
    import torch_xla

    assert idist.backend() == "xla-tpu"
    assert idist.model_name() == "xla-dist"
    assert device.type == "xla"
    assert device == torch_xla.device()
    assert (idist.get_rank(), idist.get_local_rank(), idist.get_node_rank()) == (0, 0, 0)
    assert (idist.get_world_size(), idist.get_nproc_per_node(), idist.get_nnodes()) == (1, 1, 1)


@pytest.mark.parametrize("place", ["cpu", "xla"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.uint8, torch.bool])
def test_tensors_keep_value_dtype_and_device_in_collectives(dtype: torch.dtype, place: str) -> None:
    tensor = torch.tensor([[0, 1, 1], [1, 0, 1]], dtype=dtype)
    sent = tensor.to(place)
    results = {
        "SUM": idist.all_reduce(sent),
        "MAX": idist.all_reduce(sent, "MAX"),
        "gather": idist.all_gather(sent),
        "broadcast": idist.broadcast(sent, src=0),
    }

    for name, result in results.items():
        assert isinstance(result, Tensor), name
        assert result.device.type == place, name
        assert result.dtype is dtype, name
        assert torch.equal(result.cpu(), tensor), name


@pytest.mark.filterwarnings("ignore:Use torch_xla.device instead:DeprecationWarning")  # its own rendezvous
def test_numbers_and_objects_in_collectives() -> None:
    assert idist.all_reduce(3) == 3
    assert idist.all_reduce(2.5, "MAX") == 2.5
    assert idist.all_gather("text") == ["text"]
    assert idist.all_gather({"a": (1, None)}) == [{"a": (1, None)}]
    assert idist.broadcast("text", src=0) == "text"
    idist.barrier()


def test_a_group_of_the_only_rank() -> None:
    group = idist.new_group([0])

    assert torch.equal(idist.all_reduce(torch.tensor([1.0, 2.0]), group=group), torch.tensor([1.0, 2.0]))
    assert idist.all_gather(7, group=group) == [7]


def make_data() -> TensorDataset:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(16, 3, generator=generator)
    return TensorDataset(x, x @ torch.tensor([[1.0], [-2.0], [0.5]]) + 0.25)


def make_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))


def train_without_xla(num_epochs: int) -> tuple[nn.Module, list[float]]:
    """The same training as a plain loop on the CPU."""
    model, losses = make_model(), []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.5)
    x, y = make_data().tensors
    for _ in range(num_epochs):
        for part in range(0, 16, 4):
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(model(x[part : part + 4]), y[part : part + 4])
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return model, losses


def test_auto_model_and_auto_optim_keep_the_objects(device: torch.device) -> None:
    model = make_model()
    before = [parameter.detach().clone() for parameter in model.parameters()]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    assert idist.auto_model(model) is model
    assert idist.auto_optim(optimizer) is optimizer
    assert all(parameter.device == device for parameter in model.parameters())
    for parameter, expected in zip(model.parameters(), before, strict=True):
        assert torch.equal(parameter.detach().cpu(), expected)


def test_auto_dataloader_moves_batches_to_the_device(device: torch.device) -> None:
    loader = idist.auto_dataloader(make_data(), batch_size=4)
    batches = list(loader)

    assert len(loader) == len(batches) == 4
    assert all(part.device == device for batch in batches for part in batch)
    assert torch.equal(torch.cat([x.cpu() for x, _ in batches]), make_data().tensors[0])


def test_a_training_with_metrics_equals_the_plain_loop_on_the_cpu(device: torch.device) -> None:
    model = idist.auto_model(make_model())
    optimizer = idist.auto_optim(torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.5))
    loader = idist.auto_dataloader(make_data(), batch_size=4)
    trainer = create_supervised_trainer(model, optimizer, nn.functional.mse_loss, device=device)
    evaluator = create_supervised_evaluator(model, metrics={"mse": MeanSquaredError()}, device=device)
    Average().attach(trainer, "loss")
    losses, errors = [], []
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda: losses.append(trainer.state.output.item()))
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: errors.append(evaluator.run(loader).metrics["mse"]))

    trainer.run(loader, max_epochs=5)

    reference, expected = train_without_xla(5)
    x, y = make_data().tensors
    assert trainer.state.iteration == 20
    assert losses == pytest.approx(expected, rel=1e-4)
    assert trainer.state.metrics["loss"] == pytest.approx(sum(expected[-4:]) / 4, rel=1e-4)
    for parameter, value in zip(model.parameters(), reference.parameters(), strict=True):
        assert torch.allclose(parameter.detach().cpu(), value.detach(), atol=1e-5)
    assert errors[-1] == pytest.approx(nn.functional.mse_loss(reference(x), y).item(), rel=1e-4)
    assert errors[-1] < errors[0]


def test_metrics_count_on_the_device(device: torch.device) -> None:
    accuracy = Accuracy(device=device)
    y_pred = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.7, 0.3]])
    evaluator = Engine(lambda engine, batch: batch)
    accuracy.attach(evaluator, "accuracy")

    state = evaluator.run([(y_pred.to(device), torch.tensor([0, 1, 1, 0]).to(device))])

    assert state.metrics["accuracy"] == 0.75


@pytest.mark.parametrize("saver", [DiskSaver, AsyncDiskSaver])
def test_checkpoints_load_without_xla_and_on_the_device(
    saver: Callable[[Path], Any], device: torch.device, tmp_path: Path
) -> None:
    """Tensors are saved as tensors of the CPU; loading brings the state of an optimizer to the device again."""
    model = idist.auto_model(make_model())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.5)
    trainer = create_supervised_trainer(model, optimizer, nn.functional.mse_loss, device=device)
    save = Checkpoint({"model": model, "optimizer": optimizer}, saver(tmp_path))
    trainer.add_event_handler(Events.COMPLETED, save)
    trainer.run(idist.auto_dataloader(make_data(), batch_size=4), max_epochs=1)

    states = torch.load(tmp_path / "checkpoint_4.pt", weights_only=True)
    loaded, on_device = make_model(), idist.auto_model(make_model())
    other = torch.optim.SGD(on_device.parameters(), lr=1.0, momentum=0.5)
    Checkpoint.load_objects({"model": loaded}, tmp_path / "checkpoint_4.pt")
    Checkpoint.load_objects({"model": on_device, "optimizer": other}, tmp_path / "checkpoint_4.pt")

    momenta = [state["momentum_buffer"] for state in optimizer.state.values()]
    assert all(value.device.type == "cpu" for value in states["model"].values())
    for name, value in model.state_dict().items():
        assert torch.equal(states["model"][name], value.cpu())
        assert torch.equal(loaded.state_dict()[name], value.cpu())
        assert on_device.state_dict()[name].device == device
        assert torch.equal(on_device.state_dict()[name].cpu(), value.cpu())
    for state, momentum in zip(other.state.values(), momenta, strict=True):
        assert state["momentum_buffer"].device == device
        assert torch.equal(state["momentum_buffer"].cpu(), momentum.cpu())


def test_spawn_of_one_process_uses_this_one(device: torch.device) -> None:
    found = []

    def worker(local_rank: int, factor: int) -> None:
        found.append((local_rank, idist.backend(), idist.device(), factor * idist.all_reduce(2)))

    idist.finalize()
    try:
        idist.spawn("xla-tpu", worker, (5,), nproc_per_node=1)
        assert found == [(0, "xla-tpu", device, 10)]
        assert idist.model_name() == "serial"
    finally:
        idist.initialize("xla-tpu")
