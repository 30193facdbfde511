"""What needs another package says how to get it; what does not need it, does not load it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

import ignite_contrib.loggers
from ignite_contrib import figures, loggers

#: package, extra, feature, and what needs it
NEEDED: list[tuple[str, str, str, Callable[[], Any]]] = [
    ("tensorboardX", "tensorboard", "TensorboardLogger", lambda: loggers.TensorboardLogger()),
    ("tqdm", "tqdm", "ProgressBar", lambda: loggers.ProgressBar()),
    ("wandb", "wandb", "WandBLogger", lambda: loggers.WandBLogger()),
    ("clearml", "clearml", "ClearMLLogger", lambda: loggers.ClearMLLogger()),
    ("clearml", "clearml", "ClearMLLogger", lambda: loggers.ClearMLLogger.set_bypass_mode(True)),
    ("clearml", "clearml", "ClearMLSaver", lambda: loggers.ClearMLSaver()),
    ("neptune", "neptune", "NeptuneLogger", lambda: loggers.NeptuneLogger()),
    ("neptune", "neptune", "NeptuneSaver", lambda: loggers.NeptuneSaver(object())),
    ("polyaxon", "polyaxon", "PolyaxonLogger", lambda: loggers.PolyaxonLogger()),
    ("mlflow", "mlflow", "MLflowLogger", lambda: loggers.MLflowLogger()),
    ("visdom", "visdom", "VisdomLogger", lambda: loggers.VisdomLogger()),
    ("matplotlib", "plot", "confusion_matrix_figure", lambda: figures.confusion_matrix_figure("cm")),
    ("matplotlib", "plot", "roc_figure", lambda: figures.roc_figure("roc")),
]


@pytest.mark.parametrize(("package", "extra", "feature", "use"), NEEDED, ids=[row[2] for row in NEEDED])
def test_an_absent_package_is_named_with_the_command_that_installs_it(
    package: str, extra: str, feature: str, use: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = {package, "tensorboard"} if package == "tensorboardX" else {package}
    for name in [name for name in sys.modules if name.partition(".")[0] in absent]:
        monkeypatch.delitem(sys.modules, name)
    for name in absent:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr("ignite_contrib.loggers.tensorboard.find_spec", lambda name: None)

    with pytest.raises(ModuleNotFoundError) as caught:
        use()
    assert str(caught.value) == f"{feature} needs the package {package!r}: pip install 'ignite-core[{extra}]'"
    assert caught.value.name == package


@pytest.mark.parametrize("name", ignite_contrib.loggers.__all__)
def test_every_logger_is_there_and_listed(name: str) -> None:
    assert getattr(loggers, name).__name__ == name
    assert name in dir(loggers)


def test_importing_all_loggers_loads_no_package_of_a_back_end() -> None:
    code = """
import importlib, pkgutil, sys
import torch
before = set(sys.modules)
import ignite_contrib
for module in pkgutil.walk_packages(ignite_contrib.__path__, "ignite_contrib."):
    if not module.name.startswith(("ignite_contrib.optuna", "ignite_contrib.sklearn")):
        importlib.import_module(module.name)
packages = {"tensorboardX", "tensorboard", "tqdm", "wandb", "clearml", "neptune", "polyaxon", "mlflow", "visdom"}
packages.add("matplotlib")
print(sorted(packages & (sys.modules.keys() - before)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)

    assert done.stdout.strip() == "[]"


def test_importing_one_logger_imports_no_other() -> None:
    code = """
import sys
from ignite_contrib.loggers import CSVLogger
print(sorted(name for name in sys.modules if name.startswith("ignite_contrib.loggers.")))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)

    assert done.stdout.strip() == "['ignite_contrib.loggers._append', 'ignite_contrib.loggers.files']"
