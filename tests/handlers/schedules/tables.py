"""Schedulers of every kind, made alike with this library and with pytorch-ignite."""

from collections.abc import Callable
from typing import Any

import torch


def optimizer_of(groups: int = 1, **kwargs: Any) -> torch.optim.Optimizer:
    """SGD of so many parameter groups, with the rates 0.8, 0.4, ..."""
    parameters = [{"params": [torch.zeros(1, requires_grad=True)], "lr": 0.8 / 2**index} for index in range(groups)]
    return torch.optim.SGD(parameters, momentum=0.9, **kwargs)


#: What makes a scheduler of the rate, given the module of a library and an optimizer of one group.
MAKES: dict[str, Callable[[Any, Any], Any]] = {
    "linear": lambda lib, opt: lib.LinearCyclicalScheduler(opt, "lr", 0.2, 0.9, 5),
    "linear, multipliers": lambda lib, opt: lib.LinearCyclicalScheduler(opt, "lr", 1.0, 0.5, 4, 1.5, 0.9, 0.8),
    "linear, monotonic": lambda lib, opt: lib.LinearCyclicalScheduler(opt, "lr", 1.0, 0.5, 4, monotonic=True),
    "linear, warm-up": lambda lib, opt: lib.LinearCyclicalScheduler(
        opt, "lr", 1.0, 0.5, 4, 2.0, 0.9, 0.8, warmup_duration=3, monotonic=True
    ),
    "cosine": lambda lib, opt: lib.CosineAnnealingScheduler(opt, "lr", 0.9, 0.1, 5),
    "cosine, shrinking": lambda lib, opt: lib.CosineAnnealingScheduler(opt, "lr", 0.9, 0.1, 20, 0.6, 1.1, 0.5),
    "cosine, warm-up": lambda lib, opt: lib.CosineAnnealingScheduler(
        opt, "lr", 0.9, 0.1, 5, 1.5, 0.7, 0.5, warmup_duration=2
    ),
    "piecewise": lambda lib, opt: lib.PiecewiseLinear(opt, "lr", [(2, 0.5), (6, 0.45), (7, 0.3), (15, 0.1), (30, 0.1)]),
    "one point": lambda lib, opt: lib.PiecewiseLinear(opt, "lr", [(3, 0.5)]),
    "concat": lambda lib, opt: lib.ConcatScheduler(
        [
            lib.LinearCyclicalScheduler(opt, "lr", 0.2, 0.9, 10),
            lib.CosineAnnealingScheduler(opt, "lr", 0.9, 0.1, 6, 1.0, 0.9),
            lib.PiecewiseLinear(opt, "lr", [(0, 0.3), (9, 0.0)]),
        ],
        [5, 9],
    ),
    "concat of concat": lambda lib, opt: lib.ConcatScheduler(
        [
            lib.ConcatScheduler(
                [
                    lib.LinearCyclicalScheduler(opt, "lr", 0.2, 0.9, 10),
                    lib.CosineAnnealingScheduler(opt, "lr", 0.9, 0.1, 6),
                ],
                [4],
            ),
            lib.ConcatScheduler(
                [
                    lib.PiecewiseLinear(opt, "lr", [(0, 0.3), (9, 0.0)]),
                    lib.LinearCyclicalScheduler(opt, "lr", 0.0, 1.0, 4),
                ],
                [7],
            ),
        ],
        [11],
    ),
    "warm-up before cosine": lambda lib, opt: lib.create_lr_scheduler_with_warmup(
        lib.CosineAnnealingScheduler(opt, "lr", 0.9, 0.1, 20), 0.0, 5, 0.6
    ),
    "warm-up meets cosine": lambda lib, opt: lib.create_lr_scheduler_with_warmup(
        lib.CosineAnnealingScheduler(opt, "lr", 0.9, 0.1, 20), 0.0, 5, 0.9
    ),
    "warm-up of 2 meets cosine": lambda lib, opt: lib.create_lr_scheduler_with_warmup(
        lib.CosineAnnealingScheduler(opt, "lr", 0.9, 0.1, 20), 0.0, 2, 0.9
    ),
}

#: What makes a scheduler of the state's attribute ``alpha``, given the module of a library.
STATE_MAKES: dict[str, Callable[[Any], Any]] = {
    "lambda": lambda lib: lib.LambdaStateScheduler(lambda step: 3 * step + 1, "alpha", create_new=True),
    "piecewise state": lambda lib: lib.PiecewiseLinearStateScheduler(
        [(3, 1.0), (6, 0.5), (20, 0.1)], "alpha", create_new=True
    ),
    "exponential state": lambda lib: lib.ExpStateScheduler(2.0, 0.9, "alpha", create_new=True),
    "step state": lambda lib: lib.StepStateScheduler(2.0, 0.9, 4, "alpha", create_new=True),
    "multi-step state": lambda lib: lib.MultiStepStateScheduler(2.0, 0.9, [2, 5, 5, 11], "alpha", create_new=True),
}
