"""Scripts for pytorch-ignite need another module name, and nothing else."""

from __future__ import annotations

from importlib import import_module
from inspect import signature

import pytest

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what pytorch-ignite imports

MODULES = {
    "tensorboard_logger": "tensorboard",
    "tqdm_logger": "tqdm",
    "wandb_logger": "wandb",
    "clearml_logger": "clearml",
    "neptune_logger": "neptune",
    "polyaxon_logger": "polyaxon",
    "fbresearch_logger": "fbresearch",
    "mlflow_logger": "mlflow",
    "visdom_logger": "visdom",
}


@pytest.mark.parametrize("theirs", MODULES)
def test_every_name_of_a_module_is_there(theirs: str) -> None:
    module = import_module(f"ignite.handlers.{theirs}")
    names = set(getattr(module, "__all__", ["ProgressBar"]))

    assert names <= set(import_module(f"ignite_contrib.loggers.{MODULES[theirs]}").__all__)


@pytest.mark.parametrize(
    ("theirs", "name"),
    [
        ("tensorboard_logger", "OutputHandler"),
        ("tensorboard_logger", "OptimizerParamsHandler"),
        ("tensorboard_logger", "WeightsScalarHandler"),
        ("tensorboard_logger", "WeightsHistHandler"),
        ("tensorboard_logger", "GradsScalarHandler"),
        ("tensorboard_logger", "GradsHistHandler"),
        ("clearml_logger", "ClearMLSaver"),
        ("neptune_logger", "NeptuneLogger"),
        ("neptune_logger", "NeptuneSaver"),
        ("fbresearch_logger", "FBResearchLogger"),
        ("mlflow_logger", "MLflowLogger"),
        ("mlflow_logger", "OutputHandler"),
        ("mlflow_logger", "OptimizerParamsHandler"),
        ("visdom_logger", "VisdomLogger"),
        ("visdom_logger", "OutputHandler"),
        ("visdom_logger", "OptimizerParamsHandler"),
        ("visdom_logger", "WeightsScalarHandler"),
        ("visdom_logger", "GradsScalarHandler"),
    ],
)
def test_arguments_have_the_names_and_the_order_that_they_have_there(theirs: str, name: str) -> None:
    expected = signature(getattr(import_module(f"ignite.handlers.{theirs}"), name)).parameters
    found = signature(getattr(import_module(f"ignite_contrib.loggers.{MODULES[theirs]}"), name)).parameters

    assert list(found)[: len(expected)] == list(expected) or set(expected) <= set(found), (expected, found)
    positional = [key for key, value in expected.items() if value.kind is value.POSITIONAL_OR_KEYWORD]
    assert [key for key in found if key in positional] == positional


def test_fbresearch_is_attached_with_the_same_arguments() -> None:
    theirs = import_module("ignite.handlers.fbresearch_logger").FBResearchLogger
    ours = import_module("ignite_contrib.loggers.fbresearch").FBResearchLogger

    assert list(signature(ours.attach).parameters) == list(signature(theirs.attach).parameters)
