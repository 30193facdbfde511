"""R20: gradients of sharded parameters, accumulated so far, are carried on by the rank that holds them."""

from __future__ import annotations

import io
from typing import Any

import torch
from torch import Tensor, nn

from ignite_core.distributed import auto_model, get_rank
from ignite_core.engine import Events, create_supervised_trainer
from ignite_core.testing import run_distributed
from tests.faults.sizes import FULL


def train(cut: int | None) -> list[Tensor]:
    """On one rank: its shards in the end."""
    saved: dict[str, Any] = {}
    for until in (cut, None) if cut is not None else (None,):
        torch.manual_seed(0)
        model = auto_model(nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1)), shard=True)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        trainer = create_supervised_trainer(
            model, optimizer, nn.functional.mse_loss, gradient_accumulation_steps=3, clip_grad_value=1.0
        )
        parameters: list[Any] = list(model.parameters())
        if saved:
            trainer.load_state_dict(torch.load(saved["trainer"], weights_only=True))
            for parameter, shard in zip(parameters, saved["shards"], strict=True):
                parameter.to_local().data.copy_(shard)
        if until is not None:
            trainer.add_event_handler(Events.ITERATION_COMPLETED(once=until), trainer.terminate)
        generator = torch.Generator().manual_seed(get_rank())
        data = [(torch.randn(4, 3, generator=generator), torch.randn(4, 1, generator=generator)) for _ in range(6)]
        trainer.run(data, max_epochs=2, seed=1)
        file = io.BytesIO()
        torch.save(trainer.state_dict(), file)
        file.seek(0)
        saved = {"trainer": file, "shards": [parameter.to_local().detach().clone() for parameter in parameters]}
    return [shard.clone() for shard in saved["shards"]]


def whole_and_resumed(cuts: tuple[int, ...]) -> list[list[Tensor]]:
    return [train(None), *[train(cut) for cut in cuts]]


def test_cuts_inside_a_window_with_sharded_parameters() -> None:
    of_ranks = run_distributed(whole_and_resumed, (1, 2, 3, 8) if FULL else (1, 8), ranks=2)

    for whole, *resumed in of_ranks:
        for shards in resumed:
            assert all(map(torch.equal, shards, whole))
    assert not torch.equal(of_ranks[0][0][0], of_ranks[1][0][0]), "the ranks hold different shards"
