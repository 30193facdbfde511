"""nccl with gloo beside it, as far as one GPU shows it: a run of one rank, through the primitives themselves."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.distributed as dist
from torch import nn

import ignite_core.distributed as idist
from ignite_core.distributed.current import current_model
from ignite_core.distributed.models.base import ComputationModel

needs_nccl = pytest.mark.skipif(
    not (torch.cuda.is_available() and dist.is_nccl_available()), reason="needs CUDA and a torch built with nccl"
)


@pytest.fixture
def model() -> Iterator[ComputationModel]:
    idist.initialize("nccl")
    yield current_model()
    idist.finalize()


@pytest.mark.gpu
@needs_nccl
def test_a_rank_has_a_gpu_of_its_own(model: ComputationModel) -> None:
    assert (idist.backend(), idist.model_name()) == ("nccl", "native-dist")
    assert idist.device() == torch.device("cuda", idist.get_local_rank())


@pytest.mark.gpu
@needs_nccl
@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64, torch.bool, torch.complex64])
def test_devices_of_results(model: ComputationModel, device: str, dtype: torch.dtype) -> None:
    """Results are on the device of the arguments."""
    tensor = torch.tensor([[0, 1], [1, 1]], device=device).to(dtype)
    gathered = model.all_gather(tensor, None)[0]

    assert gathered.device == tensor.device
    assert torch.equal(gathered, tensor)
    assert torch.equal(model.broadcast(tensor, 0), tensor)
    if dtype not in (torch.bool, torch.complex64):
        assert torch.equal(model.all_reduce(tensor.clone(), "SUM", None), tensor)


@pytest.mark.gpu
@needs_nccl
def test_small_values_do_not_go_through_the_gpu(model: ComputationModel) -> None:
    assert model.control_device() == torch.device("cpu")
    model.barrier()


@pytest.mark.gpu
@needs_nccl
def test_a_model_is_wrapped_for_its_gpu(model: ComputationModel) -> None:
    wrapped = model.auto_model(nn.Linear(2, 2).to(model.device()), False)

    assert wrapped.device_ids == [idist.get_local_rank()]
    assert wrapped(torch.ones(1, 2, device=model.device())).device == model.device()


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is available here")
def test_nccl_without_gpu() -> None:
    """It is refused at once."""
    expected = ValueError if "nccl" not in idist.available_backends() else RuntimeError
    with pytest.raises(expected, match=r"nccl needs CUDA, which is not available; use gloo|must be one of"):
        idist.initialize("nccl")
