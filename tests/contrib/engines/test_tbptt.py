"""Truncated backpropagation: the same weights as in pytorch-ignite, and as a loop by hand makes them."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ignite_contrib.engines import Tbptt_Events, create_supervised_tbptt_trainer
from ignite_core.engine import Engine, Events, StepEvents
from ignite_core.testing import run_distributed


class Recurrent(nn.Module):
    """An LSTM, whose hidden state is a pair, with a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(2, 4), nn.Linear(4, 1)
        self.hidden: list[Any] = []

    def forward(self, x: Tensor, hidden: Any = None) -> tuple[Tensor, Any]:
        self.hidden.append(hidden)
        y, hidden = self.lstm(x, hidden)
        return self.head(y), hidden


def build(make: Any = create_supervised_tbptt_trainer, **options: Any) -> tuple[Engine, Recurrent]:
    torch.manual_seed(0)
    model = Recurrent()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    return make(model, optimizer, nn.functional.mse_loss, **{"tbtt_step": 3, **options}), model


def batches(count: int = 2, length: int = 8) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [
        (torch.randn(length, 5, 2, generator=generator), torch.randn(length, 5, 1, generator=generator))
        for _ in range(count)
    ]


@pytest.mark.parametrize(("step", "length"), [(3, 8), (4, 8), (1, 3), (20, 8)])
def test_weights_are_those_of_pytorch_ignite_bit_for_bit(step: int, length: int) -> None:
    """With chunks that divide the length, a short last one, and one that is all of it."""
    ours, model = build(tbtt_step=step)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns when it is imported
        from ignite.contrib.engines import create_supervised_tbptt_trainer as make_theirs
    theirs, other = build(make_theirs, tbtt_step=step)
    mine = ours.run(batches(length=length), max_epochs=2).output
    its = theirs.run(batches(length=length), max_epochs=2).output

    for weight, expected in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(weight, expected)
    assert mine.item() == pytest.approx(its, rel=1e-6)


def test_time_may_be_another_dimension() -> None:
    """With the whole batch as (batch, time, feature), the chunks are those of the transposed one."""
    first, model = build()
    second, other = build(dim=1, prepare_batch=lambda batch, **_: tuple(part.transpose(0, 1) for part in batch))
    first.run(batches())
    second.run([(x.transpose(0, 1), y.transpose(0, 1)) for x, y in batches()])

    assert all(torch.equal(*pair) for pair in zip(model.parameters(), other.parameters(), strict=True))


def test_hidden_state_is_handed_on_without_gradients_and_forgotten_after_a_batch() -> None:
    trainer, model = build()
    trainer.run(batches())

    assert [hidden is None for hidden in model.hidden] == [True, False, False] * 2
    assert not any(part.requires_grad for hidden in model.hidden if hidden for part in hidden)


class NestedHidden(nn.Module):
    """Its hidden state is a mapping of lists."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 1)

    def forward(self, x: Tensor, hidden: Any = None) -> tuple[Tensor, Any]:
        if hidden is not None:
            assert not hidden["layers"][0].requires_grad
        y = self.layer(x) + (0 if hidden is None else hidden["layers"][0])
        return y, {"layers": [y[-1]], "name": "tanh"}


def test_hidden_state_may_have_any_structure() -> None:
    model = NestedHidden()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    trainer = create_supervised_tbptt_trainer(model, optimizer, nn.functional.mse_loss, 3)

    assert trainer.run(batches()).time_iteration == 6


def test_events_are_counted_over_the_run_and_anew_in_the_next() -> None:
    trainer, _ = build()
    seen: list[tuple[str, int, int]] = []
    for event in Tbptt_Events:
        trainer.add_event_handler(
            event(every=2),
            lambda name: seen.append((name, trainer.state.time_iteration, trainer.state.iteration)),
            event,
        )
    trainer.run(batches())
    pairs = [(4 - 2, 1), (4, 2), (6, 2)]

    assert seen == [(event, *pair) for pair in pairs for event in Tbptt_Events]
    assert trainer.run(batches()).time_iteration == 6


def test_the_count_of_chunks_goes_on_in_a_resumed_run() -> None:
    trainer, _ = build()
    trainer.run(batches(), max_epochs=2)
    resumed, _ = build()
    resumed.load_state_dict(trainer.state_dict())

    assert resumed.run(batches(), max_epochs=3).time_iteration == 18


def test_the_output_is_the_loss_of_the_chunk_and_then_the_mean_of_them_and_nobody_waits_for_a_device() -> None:
    trainer, _ = build()
    losses: list[Tensor] = []
    trainer.add_event_handler(Tbptt_Events.TIME_ITERATION_COMPLETED, lambda: losses.append(trainer.state.output))
    output = trainer.run(batches(1)).output

    assert len(losses) == 3
    assert not output.requires_grad
    assert output == torch.stack(losses).mean()


def test_events_of_the_step_are_fired_for_each_chunk_and_gradients_are_clipped() -> None:
    trainer, model = build(clip_grad_norm=1e-3)
    norms: list[float] = []

    @trainer.on(StepEvents.OPTIM_STEP_STARTED)
    def look() -> None:
        norms.append(torch.cat([parameter.grad.flatten() for parameter in model.parameters()]).norm().item())  # type: ignore[union-attr]

    trainer.run(batches(1))

    assert norms == pytest.approx([1e-3] * 3, rel=1e-3)


@pytest.mark.filterwarnings("ignore::UserWarning:torch.backends.mkldnn")  # its flags are set to what they are
def test_a_chunk_runs_under_autocast() -> None:
    trainer, _ = build(amp_mode="amp")
    seen: list[bool] = []
    trainer.add_event_handler(StepEvents.FORWARD_STARTED, lambda: seen.append(torch.is_autocast_enabled("cpu")))
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda: seen.append(torch.is_autocast_enabled("cpu")))
    with torch.backends.mkldnn.flags(enabled=False):  # it has no LSTM in bfloat16 for some processors
        trainer.run(batches(1))

    assert seen == [True, True, True, False]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"tbtt_step": 0}, ValueError, "tbtt_step must be at least 1, got 0"),
        ({"tbtt_step": 2.0}, TypeError, "tbtt_step must be an integer, got 2.0"),
        ({"dim": True}, TypeError, "dim must be an integer, got True"),
        ({"amp_mode": "apex"}, ValueError, "amp_mode must be 'amp' or None, got 'apex'"),
        ({"scaler": torch.amp.GradScaler("cpu", enabled=False)}, ValueError, "scaler needs amp_mode='amp'"),
    ],
)
def test_wrong_arguments_are_told_at_once(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        build(**options)


def test_targets_of_another_length_are_an_error() -> None:
    """There, what is too long is silently left out."""
    trainer, _ = build()

    with pytest.raises(ValueError, match=r"equally long along dim=0, got shapes \(8, 5, 2\) and \(6, 5, 1\)"):
        trainer.run([(torch.zeros(8, 5, 2), torch.zeros(6, 5, 1))])


def test_it_tells_what_a_checkpoint_should_hold() -> None:
    trainer, model = build()

    assert set(trainer.process_function.to_save) == {"model", "optimizer"}  # type: ignore[attr-defined]
    assert trainer.process_function.to_save["model"] is model  # type: ignore[attr-defined]


def train_a_share(share: int) -> list[Any]:
    """Weights of a model that sees each batch with the other rank."""
    from ignite_core import distributed as idist

    torch.manual_seed(0)
    model = idist.auto_model(Recurrent())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    rank = idist.get_rank()
    parts = [(x[:, share * rank : share * (rank + 1)], y[:, share * rank : share * (rank + 1)]) for x, y in even()]
    create_supervised_tbptt_trainer(model, optimizer, nn.functional.mse_loss, 3).run(parts)
    return [parameter.tolist() for parameter in model.parameters()]


def even() -> list[tuple[Tensor, Tensor]]:
    return [(x[:, :4], y[:, :4]) for x, y in batches()]


def test_two_ranks_learn_together_what_one_process_learns_from_both_shares() -> None:
    first, second = run_distributed(train_a_share, 2)
    trainer, model = build()
    trainer.run(even())

    assert first == second
    for weight, expected in zip(first, model.parameters(), strict=True):
        torch.testing.assert_close(torch.tensor(weight), expected.detach(), rtol=1e-5, atol=1e-6)
