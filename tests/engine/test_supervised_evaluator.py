"""A supervised evaluator applies a model without gradients, and metrics attach to it."""

from typing import Any

import pytest
import torch
from torch import nn

from ignite_core.engine import Engine, Events, create_supervised_evaluator, supervised_evaluation_step
from tests.engine.training import make_batches, make_model

BATCHES = make_batches(2)


def test_the_output_is_prediction_and_target_without_gradients() -> None:
    model = make_model()
    x, y = BATCHES[0]
    expected = model(x).detach()

    for evaluator in (create_supervised_evaluator(model), Engine(supervised_evaluation_step(model))):
        y_pred, target = evaluator.run(BATCHES[:1]).output

        assert torch.equal(y_pred, expected)
        assert not y_pred.requires_grad
        assert target is y


def test_the_model_is_put_into_evaluation_mode() -> None:
    model = nn.Dropout(0.5).train()

    y_pred, _ = create_supervised_evaluator(model).run([(torch.ones(100), None)]).output

    assert torch.equal(y_pred, torch.ones(100))
    assert not model.training


class SumOfPredictions:
    """The least that can be attached."""

    def attach(self, engine: Engine, name: str) -> None:
        engine.state.metrics[name] = 0.0
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.add, name)

    def add(self, engine: Engine, name: str) -> None:
        engine.state.metrics[name] += engine.state.output[0].sum().item()


def test_metrics_are_attached_by_name() -> None:
    metrics = {"sum": SumOfPredictions(), "total": SumOfPredictions()}
    evaluator = create_supervised_evaluator(nn.Identity(), metrics)

    state = evaluator.run([(torch.ones(3), None), (torch.ones(2), None)])

    assert dict(state.metrics) == {"sum": 5.0, "total": 5.0}


def test_each_function_gets_what_it_is_promised() -> None:
    evaluator = create_supervised_evaluator(
        nn.Identity(),
        device="meta",
        prepare_batch=lambda batch, device, non_blocking: (batch.to(device), non_blocking),
        non_blocking=True,
        model_fn=lambda model, x: [model(x)],
        model_transform=lambda output: output[0],
        output_transform=lambda x, y, y_pred: (x.device.type, y, y_pred.shape),
    )

    assert evaluator.run([torch.zeros(3)]).output == ("meta", True, (3,))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"output_transform": 3}, TypeError, "output_transform must be callable, got 3 of type int"),
        ({"model_fn": 3}, TypeError, "model_fn must be callable, got 3 of type int"),
        ({"amp_mode": "apex"}, ValueError, "got 'apex'; apex.amp is retired"),
        ({"amp_dtype": torch.float16}, ValueError, "amp_dtype needs amp_mode='amp', got amp_dtype=torch.float16"),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else "",
)
def test_wrong_arguments_are_told_at_once(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        create_supervised_evaluator(nn.Identity(), **arguments)
