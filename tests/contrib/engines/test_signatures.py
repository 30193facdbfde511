"""Ported calls fit: the arguments are those of pytorch-ignite, in its order."""

from __future__ import annotations

import inspect
import warnings
from importlib import import_module
from typing import Any

import pytest

from ignite_contrib.engines import common, tbptt

THE_SAME = [
    "setup_common_training_handlers",
    "setup_common_distrib_training_handlers",
    "gen_save_best_models_by_val_score",
    "save_best_model_by_val_score",
    "add_early_stopping_by_val_score",
    *(f"setup_{name}_logging" for name in ("clearml", "mlflow", "neptune", "plx", "visdom", "wandb")),
]


@pytest.fixture
def theirs() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns when it is imported
        return import_module("ignite.contrib.engines.common"), import_module("ignite.contrib.engines.tbptt")


def arguments(function: Any) -> list[tuple[str, Any]]:
    return [(one.name, one.kind) for one in inspect.signature(function).parameters.values()]


@pytest.mark.parametrize("name", THE_SAME)
def test_arguments_are_the_same(theirs: Any, name: str) -> None:
    assert arguments(getattr(common, name)) == arguments(getattr(theirs[0], name))


def test_those_of_any_back_end_and_of_truncated_time_begin_with_the_same(theirs: Any) -> None:
    any_logging = arguments(theirs[0].setup_any_logging)
    truncated = arguments(theirs[1].create_supervised_tbptt_trainer)

    assert arguments(common.setup_any_logging)[: len(any_logging)] == any_logging
    assert arguments(tbptt.create_supervised_tbptt_trainer)[: len(truncated)] == truncated
    assert arguments(common.setup_tb_logging)[:2] == arguments(theirs[0].setup_tb_logging)[:2]
